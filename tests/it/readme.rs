//! The commands of README.md do what it says.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::image::{docker, ensure_debian};
use crate::support::registry::Registry;
use crate::support::{jobctl, run};

/// The commands of a page that are shown behind a `$`, in their order.
fn commands(page: &str) -> Vec<&str> {
    let mut is_console = false;
    let mut commands = Vec::new();
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_console = language == "console";
        } else if let (true, Some(command)) = (is_console, line.strip_prefix("$ ")) {
            commands.push(command);
        }
    }
    commands
}

/// What takes minutes, and stands on what does.
fn is_long(command: &str) -> bool {
    let of_the_reference_job = ["serve", "train", "curl", "jobctl down"];
    let is_dry = command.contains("--dry-run");
    !is_dry
        && of_the_reference_job
            .iter()
            .any(|word| command.contains(word))
}

#[test]
fn every_command_of_the_readme_succeeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_full = std::env::var_os("JOBCTL_TEST_FULL").is_some();
    let page = std::fs::read_to_string(root.join("README.md")).unwrap();
    let all = commands(&page);
    assert!(all.contains(&"jobctl run first-job"), "{all:?}");
    ensure_debian();
    // A user of this checkout may have some.
    let before = images_of_the_first_job();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let mut script = String::from("set -eu\n");
    for command in all {
        // The one builds what is tested here, and the other is what runs this test. What is broken in
        // an example is meant to be.
        let is_other = command.starts_with("./") || command == "jobctl validate";
        if is_other || (!is_full && is_long(command)) {
            continue;
        }
        // The program that is tested, files of its own, a port that is free on most machines, and a
        // registry that is there.
        let command = command
            .replace("$PWD/target/release", "$PROGRAM")
            .replace("train:model trained", "train:model \"$FOLDER/trained\"")
            .replace(":8000", ":18765")
            .replace("registry.example.com", &registry.address().to_string());
        let shown = shell_words::quote(&command);
        script.push_str(&["echo + ", &shown, "\n", &command, "\n"].concat());
    }
    let mut shell = Command::new("sh");
    let ended = run(shell
        .args(["-c", &script])
        .current_dir(root)
        .env("PROGRAM", jobctl().parent().unwrap())
        .env("FOLDER", folder.path())
        .env("JOBCTL_STATE_DIR", folder.path().join("state"))
        .env("SERVE_PORT", "18765")
        .env("JOBCTL_TRUST", "1"));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let repository = "team/jobctl-first-job";
    assert!(registry.tags(repository).contains(&"1.2.3".to_owned()));
    let pushed = format!("{}/{repository}", registry.address());
    let names = docker(&["images", &pushed, "--format", "{{.Repository}}:{{.Tag}}"]);
    for name in names.lines() {
        docker(&["rmi", name]);
    }
    for name in images_of_the_first_job().difference(&before) {
        docker(&["rmi", name]);
    }
}

/// The names of images that the checkout's own job `first-job` has on the engine.
fn images_of_the_first_job() -> BTreeSet<String> {
    let format = "{{.Repository}}:{{.Tag}}";
    let listed = docker(&["images", "jobctl-first-job", "--format", format]);
    listed.lines().map(str::to_owned).collect()
}

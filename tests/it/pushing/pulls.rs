//! Images that come from a registry which knows its users.

use super::Pusher;
use crate::support::image::docker;
use crate::support::registry::{PASSWORD, Registry};
use crate::support::run;

/// A pusher who is logged out again, and whose image is only in the registry any more.
fn pushed(registry: &Registry) -> Pusher {
    let pusher = Pusher::new(registry.address());
    assert_eq!(pusher.log_in(PASSWORD).code, Some(0));
    let ended = pusher.deploy("1.2.3");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    log_out(&pusher);
    forget(&pusher);
    pusher
}

fn log_out(pusher: &Pusher) {
    let mut logout = pusher.bench.jobctl();
    let ended = run(logout.args(["logout", &pusher.registry.to_string()]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

fn forget(pusher: &Pusher) {
    let mut names = pusher.image.tags();
    names.insert(0, "rmi".to_owned());
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    docker(&names);
}

#[test]
fn what_was_pushed_is_pulled_by_those_who_are_let_in() {
    let registry = Registry::with_password();
    let pusher = pushed(&registry);
    let name = pusher.name("1.2.3");
    let pull = |what: &str| run(pusher.bench.jobctl().args(["pull", what]));
    let ended = pull(&name);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let help = format!("`jobctl login {}`", pusher.registry);
    assert!(ended.stderr.contains(&help), "{}", ended.stderr);
    assert_eq!(pusher.log_in(PASSWORD).code, Some(0));
    let ended = pull(&name);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let digest = registry.digest(pusher.image.as_str(), "1.2.3");
    assert_eq!(ended.stdout, format!("{name} {digest}\n"));
    let ended = pull(&pusher.name("9.9.9"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    // By its digest, it needs no tag.
    let by_digest = format!("{}/{}@{digest}", pusher.registry, pusher.image.as_str());
    assert_eq!(pull(&by_digest).code, Some(0));
    let mut images = pusher.bench.jobctl();
    let ended = run(images.args(["--format", "json", "images"]));
    let said: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let listed = said["images"].as_array().unwrap();
    let ours = listed
        .iter()
        .find(|image| {
            image["names"]
                .as_array()
                .unwrap()
                .contains(&name.clone().into())
        })
        .unwrap();
    assert_eq!(ours["version"], "1.2.3");
    assert_eq!(ours["job"], pusher.image.as_str());
    docker(&["rmi", "--force", &name, &by_digest]);
}

#[test]
fn a_private_base_image_is_built_on_and_run() {
    let registry = Registry::with_password();
    let pusher = pushed(&registry);
    let name = pusher.name("1.2.3");
    pusher
        .bench
        .write("Dockerfile", &format!("FROM {name}\nCOPY a /b\n"));
    let refused = run(&mut pusher.image.build(&pusher.bench, &[]));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(pusher.log_in(PASSWORD).code, Some(0));
    let built = run(&mut pusher.image.build(&pusher.bench, &[]));
    assert_eq!(built.code, Some(0), "{built:?}");
    forget(&pusher);
    log_out(&pusher);
    let command = ["run", "--image", &name, "--", "/nothing"];
    let refused = run(pusher.bench.jobctl().args(command));
    assert_eq!(refused.code, Some(125), "{refused:?}");
    assert!(refused.stderr.contains("jobctl login"), "{refused:?}");
    assert_eq!(pusher.log_in(PASSWORD).code, Some(0));
    // It is there now, and has no such program.
    let ended = run(pusher.bench.jobctl().args(command));
    assert_eq!(ended.code, Some(127), "{ended:?}");
    for secret in [PASSWORD, "czNjcmV0P34-cHc", "czNjcmV0P34+cHc"] {
        assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
    }
}

#[test]
fn a_job_is_pulled_by_its_name() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let name = pusher.image.as_str();
    let manifest = format!(
        "version: 1\nname: test\nimage: {{ prefix: \"{}\", version: 0.1.0 }}\njobs:\n  {name}: {{ build: \
         {{ context: . }} }}\n  other: {{ image: \"{name}\" }}\n",
        pusher.prefix()
    );
    pusher.bench.write("jobs.yaml", &manifest);
    let label = pusher.image.label();
    let mut build = pusher.bench.jobctl();
    let ended = run(build.args(["build", name, "--deploy", "--label", &label]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    forget(&pusher);
    let ended = run(pusher.bench.jobctl().args(["pull", name]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let pulled = format!("{}test-{name}:0.1.0 sha256:", pusher.prefix());
    assert!(ended.stdout.starts_with(&pulled), "{ended:?}");
    // By the commit's version, be it the newest or not; by `latest` where the commit has none.
    let manifest = manifest.replace("version: 0.1.0", "version: git");
    pusher.bench.write("jobs.yaml", &manifest);
    let git = |args: &[&str]| {
        let mut git = pusher.bench.command("git");
        git.args(["-c", "user.name=x", "-c", "user.email=x@x.example"]);
        let ended = run(git.args(args));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    git(&["init", "--quiet"]);
    git(&["commit", "--quiet", "--allow-empty", "--message", "first"]);
    for (tag, expected) in [(Some("v0.1.0"), "0.1.0"), (None, "latest")] {
        if let Some(tag) = tag {
            git(&["tag", tag]);
        } else {
            git(&["commit", "--quiet", "--allow-empty", "--message", "second"]);
        }
        let ended = run(pusher.bench.jobctl().args(["pull", name]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let pulled = format!("{}test-{name}:{expected} sha256:", pusher.prefix());
        assert!(ended.stdout.starts_with(&pulled), "{ended:?}");
    }
    for verb in ["pull", "push"] {
        let ended = run(pusher.bench.jobctl().args([verb, "other"]));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("is not built"), "{ended:?}");
    }
}

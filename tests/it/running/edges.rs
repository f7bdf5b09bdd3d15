//! Runs at the edge: names that are taken, disks that are full, output that is no text.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::image::{DEBIAN, docker};
use crate::support::project::Project;
use crate::support::{is_root, run};

/// How many megabytes a long log has; a thousand in the full check.
fn megabytes() -> usize {
    match std::env::var_os("JOBCTL_TEST_FULL") {
        Some(_) => 1000,
        None => 64,
    }
}

#[test]
fn a_long_log_goes_through_in_constant_memory() {
    let project = Project::empty();
    let bytes = megabytes() * 1_000_000;
    let script = format!("yes {} | head -c {bytes}", "x".repeat(99));
    let mut child = project
        .run_image(&[], &["sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let copied = std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    // Its memory is told as long as nobody has waited for it.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    assert!(child.wait().unwrap().success());
    assert_eq!(copied, bytes as u64);
    // A process that has ended has no memory any more.
    if let Some(peak) = peak {
        let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < 40 << 10, "{kilobytes} kB");
    }
    let id = project.record()["id"].as_str().unwrap().to_owned();
    let log = project
        .bench
        .path()
        .join(".jobctl/runs")
        .join(id)
        .join("stdout.log");
    assert_eq!(log.metadata().unwrap().len(), bytes as u64);
}

#[test]
fn output_that_is_no_text_is_kept_as_it_is() {
    let project = Project::empty();
    // A line of 10 MB, a NUL, bytes that are no UTF-8, and no end of line.
    let script = "head -c 10000000 /dev/zero | tr '\\0' x; printf '\\n\\000\\377\\376end'";
    let mut expected = vec![b'x'; 10_000_000];
    expected.extend(b"\n\0\xff\xfeend");
    let output = project
        .run_image(&[], &["sh", "-c", script])
        .output()
        .unwrap();
    assert!(output.stdout == expected, "{} bytes", output.stdout.len());
    assert!(project.file("stdout.log") == expected);
    let logs = project.jobctl(&["logs", "0"]).output().unwrap();
    assert!(logs.stdout == expected, "{} bytes", logs.stdout.len());
    let tail = project.jobctl(&["logs", "-n", "1", "0"]).output().unwrap();
    assert_eq!(tail.stdout, b"\0\xff\xfeend");
}

#[test]
fn a_name_that_is_taken_says_whose_it_is() {
    let project = Project::empty();
    let name = format!("jobctl-test-name-{}", std::process::id());
    let ended = run(&mut project.run_image(&["-d", "--name", &name], &["sleep", "600"]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let id = ended.stdout.trim();
    let ended = run(&mut project.run_image(&["--name", &name], &["true"]));
    assert_eq!(ended.code, Some(125));
    assert!(
        ended.stderr.contains(&format!("of the run {id}")),
        "{}",
        ended.stderr
    );
    project.output(&["stop", "-t", "1", id]);
    project.assert_clean();
}

#[test]
fn a_container_that_somebody_removes_or_pauses_is_told() {
    let project = Project::empty();
    let ended = run(&mut project.run_image(&["-d"], &["sleep", "600"]));
    let id = ended.stdout.trim().to_owned();
    let container = project.record()["attempts"][0]["container"]
        .as_str()
        .unwrap()
        .to_owned();
    docker(&["pause", &container]);
    let listed = project.output(&["ps"]);
    assert!(listed.contains("  paused  "), "{listed}");
    docker(&["unpause", &container]);
    docker(&["rm", "-f", &container]);
    let waited = run(&mut project.jobctl(&["wait", &id]));
    assert_eq!(waited.code, Some(125), "{waited:?}");
    let record = project.record();
    assert_eq!(record["ending"], "removed", "{record:#}");
}

#[test]
fn a_tag_that_moves_does_not_move_the_record() {
    let project = Project::empty();
    let name = format!("jobctl-test-moved-{}:latest", std::process::id());
    docker(&["tag", DEBIAN, &name]);
    let mut command = project.run(&["-d", "--image", &name, "sleep", "600"]);
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let import =
        format!("tar -cT /dev/null | docker import --change 'LABEL dev.jobctl.test=x' - {name}");
    let imported = run(Command::new("sh").args(["-c", &import]));
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    let id = ended.stdout.trim();
    project.output(&["stop", "-t", "1", id]);
    let original = docker(&["image", "inspect", "--format", "{{.Id}}", DEBIAN]);
    let record = project.record();
    assert_eq!(record["image"]["id"], original.trim());
    docker(&["rmi", &name]);
}

#[test]
fn an_end_by_memory_fails_the_run_if_asked_to() {
    let project = Project::empty();
    let ended = super::lose_a_child(&project, &["--fail-on-oom"]);
    assert_eq!(ended.code, Some(137), "{ended:?}");
    let record = project.record();
    assert_eq!(
        (&record["state"], &record["ending"]),
        (&json!("failed"), &json!("oom"))
    );
}

#[test]
fn a_job_that_ignores_its_end_is_killed_in_time() {
    let project = Project::empty();
    let start = Instant::now();
    let flags = ["--timeout", "1s", "--grace", "1s", "--init=false"];
    let ended = run(&mut project.run_image(
        &flags,
        &["sh", "-c", "trap '' TERM; sleep 600 & wait; wait"],
    ));
    assert_eq!(ended.code, Some(124), "{ended:?}");
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    let record = project.record();
    assert_eq!(record["attempts"][0]["exit_code"], 137, "{record:#}");
}

#[test]
fn a_job_goes_on_when_the_disk_for_its_log_is_full() {
    if !is_root("a_job_goes_on_when_the_disk_for_its_log_is_full") {
        return;
    }
    let project = Project::empty();
    let folder = project.bench.path().join("small");
    let state = folder.display();
    std::fs::create_dir(&folder).unwrap();
    let jobctl = crate::support::jobctl().display();
    let script = format!(
        "mount -t tmpfs -o size=80m none {state} && JOBCTL_STATE_DIR={state} {jobctl} run \
         --label dev.jobctl.test=small --image {DEBIAN} sh -c \
         'yes 0123456789 | head -c 150000000; exit 5' > /dev/null; echo $? >&2; \
         cat {state}/runs/*/run.json"
    );
    let mut command = project.bench.command("unshare");
    let ended = run(command.args(["--mount", "sh", "-c", &script]));
    assert!(ended.stderr.contains("\n5\n"), "{}", ended.stderr);
    let record: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&record["state"], &record["exit_code"]),
        (&json!("failed"), &json!(5))
    );
    let warnings = record["warnings"].to_string();
    assert!(warnings.contains("the log is not whole"), "{warnings}");
}

#[test]
fn a_clock_that_is_wrong_makes_no_time_negative() {
    let project = Project::empty();
    let command = project.run_image(&[], &["echo", "here"]);
    let mut wrong = project.bench.command("faketime");
    wrong
        .args(["-f", "-1h"])
        .arg(command.get_program())
        .args(command.get_args());
    let ended = run(&mut wrong);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "here\n"),
        "{}",
        ended.stderr
    );
    let record = project.record();
    let time = |key: &str| -> jiff::Timestamp { record[key].as_str().unwrap().parse().unwrap() };
    assert!(time("started") <= time("finished"), "{record:#}");
    let shown = project.output(&["show", "0"]);
    assert!(!shown.contains("-1h") && !shown.contains('−'), "{shown}");
    assert_eq!(project.output(&["logs", "0"]), "here\n");
}

/// What a shell on a terminal of its own says of a script.
fn on_a_terminal(project: &Project, script: &str) -> String {
    let mut command = project.bench.command("script");
    let ended = run(command
        .args([
            "-qec",
            &format!("stty cols 77 rows 33; {script}"),
            "/dev/null",
        ])
        .env("TERM", "xterm")
        .stdin(Stdio::null()));
    ended.stdout.replace('\r', "")
}

#[test]
fn a_terminal_has_its_size_and_is_left_as_it_was() {
    let project = Project::empty();
    let shown = |flags: &[&str], command: &[&str]| {
        let command = project.run_image(flags, command);
        let words: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| shell_words::quote(word.to_str().unwrap()).into_owned())
            .collect();
        words.join(" ")
    };
    let job = shown(&["-it"], &["sh", "-c", "sleep 0.5; tty; stty size; exit 4"]);
    let script = format!(
        "stty -a > before; {job}; echo code $?; stty -a > after; cmp before after && echo same"
    );
    let said = on_a_terminal(&project, &script);
    assert!(said.contains("/dev/pts/0\n33 77\n"), "{said}");
    assert!(said.contains("code 4\nsame\n"), "{said}");
    // Ended from outside, while the terminal is the job's.
    let job = shown(&["-it"], &["sleep", "600"]);
    let script = format!(
        "stty -a > before; {job} & sleep 1.5; kill -TERM $!; wait $!; echo code $?; stty -a > after; \
         cmp before after && echo same"
    );
    let said = on_a_terminal(&project, &script);
    assert!(said.contains("same\n"), "{said}");
    project.assert_clean();
}

#[test]
fn a_program_that_is_missing_is_reported_in_the_background_too() {
    let project = Project::empty();
    for (name, line) in [
        ("lost", "#!/no/such/program"),
        ("dos", "#!/bin/sh\r"),
        ("good", "#!/bin/sh"),
    ] {
        let script = project
            .bench
            .write(&format!("bin/{name}"), &format!("{line}\nexit 127\n"));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(script, mode).unwrap();
    }
    let cases: &[(&[&str], &[&str], i32)] = &[
        (&[], &["no-such-program"], 127),
        (&[], &["./no-such-program"], 127),
        (&["-v", "./bin:/x"], &["/x/lost"], 127),
        (&["-v", "./bin:/x"], &["/x/dos"], 127),
        (&["-e", "PATH=/nowhere"], &["true"], 127),
        (&[], &["/etc/passwd"], 126),
        (&["-w", "/etc"], &["./passwd"], 126),
        (&["--init=false"], &["no-such-program"], 127),
        // These are there, whatever they end with.
        (&[], &["true"], 0),
        (&[], &["sh", "-c", "exit 127"], 0),
        (&["-v", "./bin:/x"], &["/x/good"], 0),
        (&["-v", "./bin:/x", "-e", "PATH=/y:/x:/bin"], &["good"], 0),
        (&["-w", "/bin"], &["./true"], 0),
    ];
    for (flags, command, code) in cases {
        let flags = [&["-d"], *flags].concat();
        let ended = run(&mut project.run_image(&flags, command));
        assert_eq!(ended.code, Some(*code), "{flags:?} {command:?}: {ended:?}");
        assert_eq!(ended.stdout.is_empty(), *code != 0, "{ended:?}");
        assert_eq!(ended.stderr.contains("error: "), *code != 0, "{ended:?}");
        // What was started ends with its own code.
        let id = project.records()[0]["id"].as_str().unwrap().to_owned();
        let waited = run(&mut project.jobctl(&["wait", &id]));
        assert!(waited.code >= Some(*code), "{command:?}: {waited:?}");
    }
    project.assert_clean();
}

#[test]
fn a_service_that_the_engine_restarts_counts_as_started() {
    let project = Project::new("web: { image: IMAGE, command: [no-such-program], service: true }");
    let ended = run(&mut project.run(&["-d", "web"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let id = project.record()["id"].as_str().unwrap().to_owned();
    assert_eq!(ended.stdout, format!("{id}\n"));
    project.output(&["stop", &id]);
    project.assert_clean();
}

#[test]
fn a_container_to_share_with_that_is_missing_is_named() {
    let project = Project::empty();
    for flag in ["--network", "--ipc"] {
        let mut command = project.run_image(&[flag, "container:no-such-container"], &["true"]);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(125), "{ended:?}");
        let said =
            "the engine has no container `no-such-container`, which this one is to share with";
        assert!(ended.stderr.contains(said), "{flag}: {ended:?}");
        assert!(ended.stderr.contains("`docker ps`"), "{flag}: {ended:?}");
    }
    project.assert_clean();
}

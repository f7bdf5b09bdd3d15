//! Runs where something is lacking that is not the job's: threads, a file, somebody who reads.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::process::{Command, Stdio};

use crate::support::image::DEBIAN;
use crate::support::project::Project;
use crate::support::{Ended, SOCKET, is_root, jobctl, run};

#[test]
fn no_thread_to_be_had_is_an_error_and_no_panic() {
    if !is_root("no_thread_to_be_had_is_an_error_and_no_panic") {
        return;
    }
    let project = Project::empty();
    // A user of its own, as the limit is of all that a user has.
    let user = 100_000 + std::process::id();
    chown(project.bench.path(), Some(user), Some(user)).unwrap();
    set_permissions(
        project.bench.path().join("home/.docker"),
        Permissions::from_mode(0o755),
    )
    .unwrap();
    let group = std::fs::metadata(SOCKET).unwrap().gid();
    let limited = |limit: usize| {
        let mut command = project.bench.command("setpriv");
        command
            .arg(format!("--reuid={user}"))
            .arg(format!("--regid={group}"))
            .arg("--clear-groups")
            .args(["prlimit", &format!("--nproc={limit}")])
            .arg(jobctl())
            .args(["run", "--image", DEBIAN, "sh", "-c", "echo hello; exit 7"]);
        run(&mut command)
    };
    let mut codes = Vec::new();
    for limit in 1..=16 {
        let ended = limited(limit);
        match ended.code {
            Some(7) => assert_eq!(ended.stdout, "hello\n", "{limit}: {ended:?}"),
            Some(125) => {
                let said = "error: no thread can be started";
                assert!(ended.stderr.starts_with(said), "{limit}: {ended:?}");
                assert_eq!(ended.stderr.lines().count(), 2, "{limit}: {ended:?}");
            }
            _ => panic!("{limit}: {ended:?}"),
        }
        codes.push(ended.code);
    }
    assert_eq!(codes[0], Some(125));
    assert_eq!(limited(4096).code, Some(7));
    project.assert_clean();
}

/// jobctl, with a limit to the size of what it writes: a little more than 1 MB a file.
fn with_small_files(project: &Project, args: &[&str]) -> Ended {
    let script = "trap '' XFSZ; ulimit -f 2200; exec \"$@\"";
    let mut command = project.bench.command("sh");
    command.args(["-c", script, "sh"]).arg(jobctl());
    run(command.args(["--progress", "quiet", "run"]).args(args))
}

#[test]
fn lost_metrics_are_a_warning_that_is_kept() {
    let project = Project::new(
        "train:\n  image: IMAGE\n  metrics: { log: { loss: 'loss=([0-9.]+)' } }\n  \
         command: [sh, -c, 'yes loss=1 | head -n 30000']",
    );
    let ended = with_small_files(&project, &["train"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said = "metrics of the log are lost: File too large (os error 27)";
    assert_eq!(ended.stderr, format!("warning: {said}\n"));
    let record = project.record();
    assert_eq!(record["warnings"], serde_json::json!([said]));
    assert_eq!(record["metrics"]["loss"], 1.0);
    // What was lost was lost as a whole.
    assert!(project.file("metrics.jsonl").ends_with(b"}\n"));
    assert_eq!(project.file("stdout.log").len(), 210_000);
    project.assert_clean();
}

#[test]
fn a_log_that_was_cut_says_so() {
    let project = Project::empty();
    let args = ["--image", DEBIAN, "sh", "-c", "yes | head -c 3000000"];
    let ended = with_small_files(&project, &args);
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), 3_000_000));
    let said = "the log is not whole: File too large (os error 27)";
    assert_eq!(ended.stderr, format!("warning: {said}\n"));
    let record = project.record();
    assert_eq!(record["warnings"], serde_json::json!([said]));
    let ended = run(&mut project.jobctl(&["logs", record["id"].as_str().unwrap()]));
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stdout.into_bytes(), project.file("stdout.log"));
    let said = "warning: the log is not whole: the disk was full while the job wrote\n";
    assert_eq!(ended.stderr, said);
    project.assert_clean();
}

/// Longer than an output that stays open is waited for.
#[test]
fn a_reader_that_takes_its_time_gets_all_and_so_does_the_log() {
    let project = Project::empty();
    let script = "yes 123456789 | head -c 900000; exit 4";
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = project.run_image(&[], &["sh", "-c", script]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn();
    drop(command);
    let mut slow = Command::new("sh");
    let slow = slow.args(["-c", "sleep 12; wc -c"]).stdin(reader);
    let read = slow.output().unwrap();
    let ended: Ended = child.unwrap().wait_with_output().unwrap().into();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert_eq!(String::from_utf8(read.stdout).unwrap().trim(), "900000");
    assert_eq!(project.file("stdout.log").len(), 900_000);
    project.assert_clean();
}

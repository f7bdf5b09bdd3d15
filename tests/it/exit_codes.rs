//! Exit codes that scripts go by, also where nobody reads what is printed or a signal cuts it short.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::project::Project;
use crate::support::{Ended, run, wait_for};

/// jobctl, writing to a pipe that nobody reads any more.
fn into_closed(command: &mut Command) -> Ended {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    written_to(command, writer.into())
}

fn written_to(command: &mut Command, stdout: Stdio) -> Ended {
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
    child.unwrap().wait_with_output().unwrap().into()
}

/// Starts runs of a sleeping job; their ids, the oldest first.
fn sleepers(project: &Project, count: usize) -> Vec<String> {
    let start = || {
        let ended = run(&mut project.run_image(&["-d", "--init=false"], &["sleep", "600"]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout.trim().to_owned()
    };
    (0..count).map(|_| start()).collect()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The smallest command line of a verb.
fn words(verb: &clap::Command) -> Vec<String> {
    let mut words = vec![verb.get_name().to_owned()];
    if verb.get_name() == "run" {
        words.extend(["--image", "none"].map(str::to_owned));
    }
    let first = verb.get_positionals().next().map(clap::Arg::get_id);
    let needed = |arg: &&clap::Arg| arg.is_required_set() || first == Some(arg.get_id());
    for arg in verb.get_arguments().filter(needed) {
        if let Some(long) = arg.get_long() {
            words.push(format!("--{long}"));
        }
        if arg.get_action().takes_values() {
            let values = arg.get_possible_values();
            let first = values.first().map(|value| value.get_name().to_owned());
            words.push(first.unwrap_or_else(|| "none".to_owned()));
        }
    }
    words
}

#[test]
fn no_verb_works_on_another_project_where_the_manifest_is_mistyped() {
    const PASSING_CODES: [&str; 5] = ["attach", "exec", "run", "up", "wait"];

    let project = Project::empty();
    let command = jobctl::cli::command();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let mut count = 0;
    for verb in verbs.filter(|verb| verb.get_name() != "init") {
        let mut args = words(verb);
        args.splice(0..0, ["--file", "typo.yaml"].map(str::to_owned));
        let ended = run(project.bench.jobctl().args(&args));
        let is_jobs = PASSING_CODES.contains(&verb.get_name());
        let code = if is_jobs { 125 } else { 2 };
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains("`typo.yaml`"), "{args:?}: {ended:?}");
        count += 1;
    }
    assert!(count > 30, "{count}");
    let ended = run(&mut project.jobctl(&["-f", "typo.yaml", "--format", "json", "down"]));
    let failed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(failed["schema"], "jobctl.error/1");
}

#[test]
fn what_is_asked_of_many_runs_is_done_whoever_reads_of_it() {
    let project = Project::empty();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let ids = sleepers(&project, 4);
    let command = |verb: &[&str], ids: &[String]| {
        let mut command = project.jobctl(verb);
        command.args(ids);
        command
    };
    let ended = into_closed(&mut command(&["stop", "-t", "0"], &ids[..2]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let ended = written_to(&mut command(&["kill"], &ids[2..]), full().into());
    let said = "error: can't write: No space left on device\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), said));
    let is_over = |record: &Value| record["state"] == "failed";
    wait_for(|| project.records().iter().all(is_over));
    let ended = into_closed(&mut command(&["rm"], &ids[..2]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(project.records().len(), 2);
    let ended = written_to(&mut command(&["prune", "--keep", "0"], &[]), full().into());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(project.records().len(), 0);
    project.assert_clean();
}

#[test]
fn runs_to_remove_are_found_before_one_is_removed() {
    let project = Project::new("a: { image: IMAGE, command: [\"true\"] }");
    for _ in 0..3 {
        assert_eq!(run(&mut project.run(&["a"])).code, Some(0));
    }
    let records = project.records();
    let id = |index: usize| records[index]["id"].as_str().unwrap();
    // `a~1` is not the one before what is left, and what is named twice is removed once.
    let ended = run(&mut project.jobctl(&["rm", "a", "nope", "a~1", id(1)]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stdout, format!("{}\n{}\n", id(0), id(1)));
    assert!(ended.stderr.contains("there is no run `nope`"), "{ended:?}");
    assert_eq!(project.records()[..], records[2..]);
}

#[test]
fn a_failure_is_one_where_nobody_reads_what_failed() {
    let project = Project::empty();
    let ended = run(&mut project.run_image(&[], &["sh", "-c", "exit 7"]));
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let id = project.record()["id"].as_str().unwrap().to_owned();
    for (args, code) in [
        (&["--format", "json", "run", "nope"][..], 125),
        (&["wait", &id], 7),
        (&["--format", "json", "wait", &id], 7),
        (&["wait", &id, "nope"], 125),
        (&["--format", "json", "show", "NOPE"], 1),
        (&["--format", "json", "up", "nope"], 125),
        (&["--format", "json", "build", "nope"], 2),
        (&["validate", "-f", "/nope"], 2),
        (&["doctor", "-H", "unix:///nope"], 125),
        (&["show", &id], 0),
        (&["schema"], 0),
    ] {
        let ended = into_closed(&mut project.jobctl(args));
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        let ended = run(&mut project.jobctl(args));
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    }
}

#[test]
fn whoever_stops_waiting_does_not_end_as_if_the_job_had_succeeded() {
    let project = Project::empty();
    let id = &sleepers(&project, 1)[0];
    let calls: [&[&str]; 4] = [
        &["wait", id],
        &["logs", "-f", "--exit-code", id],
        &["logs", "-f", id],
        &["attach", "--no-stdin", "--sig-proxy=false", id],
    ];
    for args in calls {
        for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
            let child = Project::start(&mut project.jobctl(args));
            wait_until_heard(&child, sent);
            signal(&child, sent);
            let ended: Ended = child.wait_with_output().unwrap().into();
            assert_eq!(ended.code, Some(code), "{args:?} {sent:?}: {ended:?}");
            let is_said = args[0] == "logs" || ended.stderr.contains("detached from the run");
            assert!(is_said, "{args:?}: {ended:?}");
        }
    }
    let child = Project::start(&mut project.jobctl(&["exec", id, "sleep", "600"]));
    wait_until_heard(&child, Signal::HUP);
    signal(&child, Signal::HUP);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(129));
    assert_eq!(project.record()["state"], "running");
    project.output(&["kill", id]);
    project.assert_clean();
}

/// Waits until a process has a handler for a signal.
fn wait_until_heard(child: &Child, signal: Signal) {
    let path = format!("/proc/{}/status", child.id());
    wait_for(|| {
        let status = std::fs::read_to_string(&path).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        mask >> (signal.as_raw() - 1) & 1 == 1
    });
}

#[test]
fn a_rollback_that_can_not_begin_ends_as_other_verbs_do() {
    let project = Project::new("serve: { image: IMAGE, service: true }");
    project.bench.write("broken.yaml", "version: 1\njobs: [\n");
    let empty = crate::support::Bench::new();
    for (args, code) in [
        (&["-H", "unix:///nope", "rollback"][..], 125),
        (&["--context", "nope", "rollback"], 125),
        (&["-f", "broken.yaml", "rollback"], 2),
        (&["rollback", "nope"], 2),
        (&["rollback"], 1),
    ] {
        let ended = run(&mut project.jobctl(args));
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    }
    let ended = run(empty.jobctl().arg("rollback"));
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn a_verb_that_fails_prints_one_document() {
    let project = Project::empty();
    let ids = sleepers(&project, 2);
    let [over, running] = [&*ids[0], &*ids[1]];
    project.output(&["kill", over]);
    let failed = |args: &[&str], code: i32| -> Value {
        let ended = run(project.jobctl(&["--format", "json"]).args(args));
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        let document: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {ended:?}"));
        assert_eq!(document["schema"], "jobctl.error/1", "{args:?}");
        document
    };
    let done = |ids: &[&str]| json!({ "schema": "jobctl.ids/1", "ids": ids });
    assert_eq!(failed(&["kill", over], 1)["result"], done(&[]));
    // What was done, and all that failed.
    let killed = failed(&["kill", "nope", running, over], 1);
    assert_eq!(killed["result"], done(&[running]));
    let found = killed["diagnostics"].as_array().unwrap();
    let rules: Vec<_> = found.iter().map(|found| &found["rule"]).collect();
    assert_eq!(rules, ["no-run", "run"]);
    let waited = failed(&["wait", over, "nope"], 125);
    assert_eq!(waited["result"]["runs"][0]["exit_code"], 137);
    let down = failed(&["down", "none"], 1);
    assert_eq!(down["diagnostics"][0]["message"], "no service `none` is up");
    let written = [
        "export",
        "none",
        "--as",
        "compose",
        "-o",
        "/nope/compose.yaml",
    ];
    failed(&written, 1);
    project.output(&["rm", over, running]);
    project.assert_clean();
}

#[test]
fn a_cidfile_that_can_not_be_written_is_found_before_the_job_runs() {
    let project = Project::empty();
    project.bench.write("file", "");
    for (path, reason) in [
        ("nope/cid", "No such file or directory"),
        ("file/cid", "Not a directory"),
    ] {
        for detach in [&[][..], &["-d"]] {
            let flags = [detach, &["--cidfile", path]].concat();
            let ended = run(&mut project.run_image(&flags, &["true"]));
            assert_eq!(ended.code, Some(125), "{flags:?}: {ended:?}");
            assert!(ended.stderr.contains(reason), "{flags:?}: {ended:?}");
        }
    }
    assert_eq!(project.records().len(), 0);
    let ended = run(&mut project.run_image(&["--cidfile", "cid"], &["true"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(project.bench.path().join("cid").exists());
}

#[test]
fn with_json_progress_each_line_of_jobctls_is_an_object() {
    let project = Project::new("a: { image: IMAGE, command: [\"true\"] }");
    for (args, code, last) in [
        (&["run", "a"][..], 0, "note"),
        (&["run", "nope"], 125, "error"),
        (&["show", "nope"], 1, "error"),
        (&["rm", "nope"], 1, "error"),
        (&["-H", "unix:///nope", "images"], 125, "error"),
        (&["-H", "nonsense://x", "ps"], 2, "error"),
    ] {
        let ended = run(project.jobctl(&["--progress", "json"]).args(args));
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        let read = |line: &str| -> Value {
            crate::support::results::assert_documented(line);
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{args:?}: {error}: {line}"))
        };
        let lines: Vec<_> = ended.stderr.lines().map(read).collect();
        assert_eq!(lines.last().unwrap()["event"], last, "{args:?}: {ended:?}");
    }
    project.assert_clean();
}

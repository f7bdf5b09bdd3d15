//! Verbs for runs: attach, kill, rm, prune.

use crate::support::image::docker;
use crate::support::project::Project;
use crate::support::{run, wait_for};

/// Starts a run in the background; its id.
fn start(project: &Project, flags: &[&str], script: &str) -> String {
    let mut flags = flags.to_vec();
    flags.push("-d");
    let ended = run(&mut project.run_image(&flags, &["sh", "-c", script]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.trim().to_owned()
}

#[test]
fn attach_shows_what_comes_passes_input_on_and_ends_with_the_code() {
    let project = Project::empty();
    let script = "echo early; read line; echo got $line; echo error >&2; exit 3";
    let id = start(&project, &["-i"], script);
    project.wait_for_output("early\n");
    project.bench.write("typed", "hello\n");
    let typed = std::fs::File::open(project.bench.path().join("typed")).unwrap();
    let mut command = project.jobctl(&["attach", &id]);
    let ended = run(command.stdin(typed));
    let said = (ended.code, ended.stdout.as_str(), ended.stderr.as_str());
    assert_eq!(said, (Some(3), "got hello\n", "error\n"));
    assert_eq!(project.file("stdout.log"), b"early\ngot hello\n");
    let again = run(&mut project.jobctl(&["attach", &id]));
    assert_eq!(again.code, Some(125));
    assert!(again.stderr.contains("is over"), "{}", again.stderr);
    project.assert_clean();
}

#[test]
fn kill_sends_the_signal_that_is_named() {
    let project = Project::empty();
    let script = "trap 'echo caught' USR1; echo ready; while :; do sleep 0.05; done";
    let id = start(&project, &["--init=false"], script);
    project.wait_for_output("ready\n");
    project.output(&["kill", "-s", "SIGUSR1", &id]);
    project.wait_for_output("ready\ncaught\n");
    project.output(&["kill", &id]);
    let record = project.record();
    assert_eq!(
        (&record["ending"], &record["exit_code"]),
        (&"stopped".into(), &137.into())
    );
    project.assert_clean();
}

#[test]
fn a_finished_run_can_be_stopped_and_not_killed() {
    let project = Project::empty();
    let done = start(&project, &[], "true");
    assert_eq!(project.output(&["wait", &done]), "0\n");
    assert_eq!(project.output(&["stop", &done]), format!("{done}\n"));
    let up = start(&project, &[], "exec sleep 600");
    for signal in ["KILL", "USR1"] {
        let ended = run(&mut project.jobctl(&["kill", "-s", signal, &done]));
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let said = "is not running: it has finished";
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    // As docker does, the others are done with all the same.
    let ended = run(&mut project.jobctl(&["kill", &done, &up]));
    let said = (ended.code, ended.stdout);
    assert_eq!(said, (Some(1), format!("{up}\n")), "{}", ended.stderr);
    project.assert_clean();
}

#[test]
fn a_run_that_goes_on_is_removed_only_by_force() {
    let project = Project::empty();
    let id = start(&project, &[], "exec sleep 600");
    let ended = run(&mut project.jobctl(&["rm", &id]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("is still running"),
        "{}",
        ended.stderr
    );
    project.output(&["rm", "--force", &id]);
    assert_eq!(project.records().len(), 0);
    project.assert_clean();
}

#[test]
fn prune_keeps_the_newest_runs_of_each_job() {
    let project = Project::new(
        "one: { image: IMAGE, command: ['true'] }
two: { image: IMAGE, command: ['true'] }
",
    );
    for job in ["one", "one", "two", "one"] {
        assert_eq!(run(&mut project.run(&[job])).code, Some(0));
    }
    let ids: Vec<_> = project
        .records()
        .iter()
        .map(|record| record["id"].as_str().unwrap().to_owned())
        .collect();
    let listed = project.output(&["prune", "--keep", "1", "--dry-run"]);
    let expected = format!("{}\n{}\n", ids[2], ids[3]);
    assert_eq!(listed, expected);
    assert_eq!(project.records().len(), 4);
    assert_eq!(project.output(&["prune", "--keep", "1"]), expected);
    let left: Vec<_> = project
        .records()
        .iter()
        .map(|record| record["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(left, ids[..2]);
}

#[test]
fn prune_keeps_the_newest_run_that_succeeded() {
    let project = Project::new("one: { image: IMAGE, command: [sh, -c, 'exit ${CODE}'] }");
    for code in ["0", "0", "1", "1"] {
        let ended = run(project.run(&["one"]).env("CODE", code));
        assert_eq!(ended.code, code.parse().ok());
    }
    let mut prune = project.jobctl(&["prune", "--keep", "1"]);
    assert_eq!(run(prune.env("CODE", "0")).code, Some(0));
    let left: Vec<_> = project
        .records()
        .iter()
        .map(|record| record["exit_code"].to_string())
        .collect();
    assert_eq!(left, ["1", "0"]);
}

#[test]
fn a_kept_container_is_there_until_its_run_is_removed() {
    let project = Project::empty();
    let file = project.bench.path().join("cid");
    let flags = ["--keep", "--cidfile", file.to_str().unwrap()];
    assert_eq!(run(&mut project.run_image(&flags, &["true"])).code, Some(0));
    let id = std::fs::read_to_string(&file).unwrap();
    let state = docker(&["inspect", "--format", "{{.State.Status}}", &id]);
    assert_eq!(state, "exited\n");
    let again = run(&mut project.run_image(&flags, &["true"]));
    assert_eq!(again.code, Some(125), "{again:?}");
    let run_id = project.record()["id"].as_str().unwrap().to_owned();
    project.output(&["rm", &run_id]);
    project.assert_clean();
}

#[test]
fn gpus_that_are_optional_are_missed_aloud() {
    let project = Project::new(
        "job: { image: IMAGE, command: [sh, -c, 'echo $$NVIDIA_VISIBLE_DEVICES'], gpus: optional }\n",
    );
    let ended = run(&mut project.run(&["job"]));
    // With a GPU it has some, and nothing is missed.
    if ended.stdout == "void\n" {
        assert!(
            ended
                .stderr
                .contains("GPUs are optional, and there are none"),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(ended.code, Some(0));
}

#[test]
fn runs_of_another_project_on_the_same_engine_are_left_alone() {
    let (ours, others) = (Project::empty(), Project::empty());
    let id = start(&others, &[], "exec sleep 600");
    assert_eq!(run(&mut ours.run_image(&[], &["true"])).code, Some(0));
    assert_eq!(ours.output(&["ps"]).lines().count(), 1);
    ours.output(&["prune", "--keep", "0"]);
    assert_eq!(run(&mut ours.jobctl(&["rm", "--force", &id])).code, Some(1));
    let listed = others.output(&["ps"]);
    assert!(listed.contains("  running  "), "{listed}");
    others.output(&["rm", "--force", &id]);
    others.assert_clean();
}

#[test]
fn a_stop_waits_as_long_as_it_takes_where_that_is_asked_for() {
    let project = Project::empty();
    let script = "trap 'echo asked; until [ -e /go/on ]; do sleep 0.05; done; exit 5' TERM; echo ready; \
                  while :; do sleep 0.05; done";
    std::fs::create_dir(project.bench.path().join("go")).unwrap();
    for (number, words) in [&["-t", "-1"][..], &["--timeout=-1", "-s", "TERM"]]
        .into_iter()
        .enumerate()
    {
        let _ = std::fs::remove_file(project.bench.path().join("go/on"));
        let id = start(&project, &["--init=false", "-v", "./go:/go"], script);
        let logs = || project.output(&["logs", &id]);
        wait_for(|| logs() == "ready\n");
        let stopping = Project::start(&mut project.jobctl(&[&["stop", &id], words].concat()));
        wait_for(|| logs() == "ready\nasked\n");
        project.bench.write("go/on", "");
        let stopped = stopping.wait_with_output().unwrap();
        assert!(stopped.status.success(), "{stopped:?}");
        assert_eq!(project.records()[0]["exit_code"], 5, "{number}");
    }
    project.assert_clean();
}

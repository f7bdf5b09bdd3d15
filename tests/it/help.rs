//! What jobctl says of itself: `--help`, `help`, suggestions, and the codes of a wrong command line.

use crate::support::project::Project;
use crate::support::{Bench, Ended, run};

fn jobctl(args: &[&str]) -> Ended {
    run(Bench::new().jobctl().args(args))
}

#[test]
fn help_lists_the_commands_by_what_they_are_for() {
    let listed = jobctl(&["--help"]);
    assert_eq!(listed.code, Some(0));
    for heading in [
        "Build and publish images:",
        "Run jobs:",
        "Look at runs:",
        "Set up:",
    ] {
        assert!(listed.stdout.contains(heading), "{}", listed.stdout);
    }
    for hidden in ["supervise", "listen"] {
        assert!(!listed.stdout.contains(hidden), "{}", listed.stdout);
    }
    assert_eq!(jobctl(&["help"]).stdout, listed.stdout);
    // As with no words at all, which is an error.
    assert_eq!(jobctl(&[]).stderr.trim_end(), listed.stdout.trim_end());
}

#[test]
fn help_of_a_command_is_that_of_its_flag() {
    for verb in ["run", "build", "ps", "logs"] {
        let help = jobctl(&["help", verb]);
        assert_eq!(help.code, Some(0), "{help:?}");
        assert_eq!(help.stdout, jobctl(&[verb, "--help"]).stdout);
        assert!(
            help.stdout.contains("jobctl help options"),
            "{}",
            help.stdout
        );
        assert!(!help.stdout.contains("--context"), "{}", help.stdout);
    }
    let options = jobctl(&["help", "options"]);
    for option in [
        "--file",
        "--context",
        "--format",
        "--progress",
        "--color",
        "--verbose",
    ] {
        assert!(options.stdout.contains(option), "{}", options.stdout);
    }
    let unknown = jobctl(&["help", "nothing"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(
        unknown.stderr.contains("no command `nothing`"),
        "{unknown:?}"
    );
}

#[test]
fn an_unknown_command_is_answered_with_ours() {
    for (word, tip) in [
        ("biuld", Some("did you mean `jobctl build`?")),
        ("rnu", Some("did you mean `jobctl run`?")),
        ("rmi", Some("`jobctl prune --images`")),
        ("status", Some("`jobctl ps`")),
        ("train", Some("if `train` is a job: `jobctl run train`")),
        // These are jobctl's own.
        ("supervize", Some("if `supervize` is a job")),
        ("lissten", Some("if `lissten` is a job")),
        ("\u{e9}", None),
    ] {
        let ended = jobctl(&[word]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let mut lines = ended.stderr.lines();
        let found = lines.find(|line| line.contains("tip: "));
        match tip {
            Some(tip) => assert!(found.unwrap_or_default().contains(tip), "{ended:?}"),
            None => assert_eq!(found, None, "{ended:?}"),
        }
    }
    let ended = jobctl(&["help", "rmi"]);
    assert!(
        ended.stderr.contains("`jobctl prune --images`"),
        "{ended:?}"
    );
}

#[test]
fn a_value_that_can_not_be_read_is_answered_with_an_example() {
    let project = Project::new("train: { image: IMAGE }");
    for (line, example) in [
        ("prune --older 3", "`3s` for seconds"),
        ("prune --older x", "`90s`, `1h30m`"),
        ("prune --keep x", "such as `10`"),
        ("up --wait-timeout 3", "`3s` for seconds"),
        ("up -j x", "such as `10`"),
        ("up -j 0", "1..=65535"),
        ("runs -n x", "such as `10`"),
        ("ps -n 1.5", "such as `10`"),
        ("stop -t 3s train", "such as `10`"),
        ("build --version 1", "did you mean `1.0.0`?"),
        ("build --tag A:b", "a:b"),
        ("push --version v1.2.3 train", "did you mean `1.2.3`?"),
        ("logs --since 3x train", "`10m`"),
        ("logs --until x train", "2026-01-31T12:00:00Z"),
        ("logs --tail x train", "`--tail 100`"),
        ("run --timeout 3 train", "`3s` for seconds"),
        ("run --grace x train", "`90s`, `1h30m`"),
        ("run --stop-timeout x train", "`--stop-timeout 30`"),
        ("run --memory x train", "`8gb`, `512mb`"),
        ("run --shm-size 3q train", "`8gb`, `512mb`"),
        ("run --cpus x train", "`2` or `1.5`"),
        ("run --ulimit x train", "`nofile=1024`"),
        ("run --retries x train", "`--retries 2`"),
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let ended = run(&mut project.jobctl(&words));
        assert!(ended.stderr.contains(example), "{line}: {}", ended.stderr);
        assert!(!ended.stderr.contains("help: help"), "{}", ended.stderr);
    }
}

#[test]
fn a_slip_in_a_jobs_name_is_answered_alike_everywhere() {
    let project = Project::new("train: { image: IMAGE }");
    for (line, code) in [
        ("run tarin", 125),
        ("up tarin", 125),
        ("push tarin", 2),
        ("pull tarin", 2),
        ("images tarin", 2),
        ("images -q tarin", 2),
        ("runs --job tarin", 2),
        ("down tarin", 1),
        ("rollback tarin", 2),
        ("export --as compose tarin", 2),
    ] {
        let words: Vec<_> = line.split(' ').collect();
        let ended = run(&mut project.jobctl(&words));
        assert_eq!(ended.code, Some(code), "{line}: {ended:?}");
        for part in ["`tarin` is not a job of jobs.yaml", "did you mean `train`?"] {
            assert!(ended.stderr.contains(part), "{line}: {}", ended.stderr);
        }
    }
    // One that has no images or runs is no slip.
    for line in ["images train", "runs --job train"] {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(run(&mut project.jobctl(&words)).code, Some(0), "{line}");
    }
    // What has a tag is an image's name.
    let ended = run(&mut project.jobctl(&["push", "tarin:latest"]));
    assert!(
        ended.stderr.contains("no image `tarin:latest`"),
        "{ended:?}"
    );
}

#[test]
fn a_dockerfile_is_not_taken_for_a_manifest() {
    let bench = Bench::new();
    bench.write(
        "Dockerfile.gpu",
        "# syntax=docker/dockerfile:1\nFROM debian\n",
    );
    bench.write("odd", "ARG A=1\nFROM debian\n");
    for file in ["Dockerfile.gpu", "odd"] {
        let ended = run(bench.jobctl().args(["build", "-f", file]));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended.stderr.contains(&format!("`{file}` is a Dockerfile")),
            "{ended:?}"
        );
    }
}

#[test]
fn a_run_that_does_not_exist_has_one_code_for_verbs_that_pass_none_on() {
    let project = Project::empty();
    for (args, code) in [
        (&["logs", "nope"][..], 1),
        (&["show", "nope"], 1),
        (&["metrics", "nope"], 1),
        (&["get", "nope:out", "here"], 1),
        (&["collect", "nope"], 1),
        (&["stop", "nope"], 1),
        (&["rm", "nope"], 1),
        (&["logs", "--exit-code", "nope"], 125),
        (&["wait", "nope"], 125),
        (&["attach", "nope"], 125),
        (&["exec", "nope", "true"], 125),
        (&["logs", "--since", "x", "nope"], 2),
        (&["logs", "--no-such"], 2),
        (&["logs", "--exit-code", "--no-such"], 125),
    ] {
        let ended = run(&mut project.jobctl(args));
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    }
}

#[test]
fn rm_takes_force_as_docker_does() {
    let project = Project::empty();
    for _ in 0..2 {
        assert_eq!(run(&mut project.run_image(&[], &["true"])).code, Some(0));
    }
    let ids = project.output(&["runs", "-q"]);
    let ids: Vec<_> = ids.lines().collect();
    let ended = run(&mut project.jobctl(&["rm", "-f", ids[0], ids[1]]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(project.output(&["runs", "-q"]), "");
}

#[test]
fn quiet_lists_have_ids_and_nothing_else() {
    let project = Project::empty();
    for list in [&["ps", "-q"][..], &["ps", "-aq"], &["runs", "-q"]] {
        let ended = run(&mut project.jobctl(list));
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(0), ""),
            "{list:?}"
        );
    }
    let ended = run(&mut project.run_image(&[], &["true"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let id = project.record()["id"].as_str().unwrap().to_owned() + "\n";
    for list in [
        &["ps", "-aq"][..],
        &["ps", "--all", "--quiet"],
        &["runs", "-q"],
    ] {
        assert_eq!(project.output(list), id, "{list:?}");
    }
    assert_eq!(project.output(&["ps", "-q"]), "");
    // Before the verb it is the option of all verbs, which leaves results as they are.
    for (verb, head) in [("ps", "RUN "), ("runs", "RUN "), ("images", "")] {
        let usual = project.output(&[verb]);
        assert!(usual.starts_with(head), "{usual}");
        for quiet in ["-q", "--quiet"] {
            let printed = project.output(&[quiet, verb]);
            let rows = |text: &str| text.lines().count();
            assert_eq!(rows(&printed), rows(&usual), "{verb}: {printed}");
            assert_eq!(
                printed.split_whitespace().next(),
                usual.split_whitespace().next()
            );
        }
    }
    assert_eq!(project.output(&["-q", "runs", "-q"]), id);
    let images = project.output(&["images", "-q"]);
    assert!(
        images.lines().all(|line| line.starts_with("sha256:")),
        "{images}"
    );
}

#[test]
fn all_verbs_can_be_quiet() {
    let command = jobctl::cli::command();
    for verb in command.get_subcommands() {
        let name = verb.get_name();
        let mut quiet = verb
            .get_arguments()
            .filter(|option| option.get_short() == Some('q') || option.get_long() == Some("quiet"));
        assert!(quiet.next().is_some(), "{name}");
        assert!(quiet.next().is_none(), "{name}");
    }
    // A note of what is done is left out, wherever the option is written.
    let project = Project::empty();
    for args in [&["prune"][..], &["-q", "prune"], &["prune", "-q"]] {
        let ended = run(&mut project.jobctl(args));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.stderr.is_empty(), args.len() > 1, "{ended:?}");
    }
}

#[test]
fn the_processors_flags_are_shown_when_they_are_asked_for() {
    let project = Project::empty();
    assert_eq!(run(&mut project.run_image(&[], &["true"])).code, Some(0));
    let flags = project.record()["host"]["cpu_flags"]
        .as_array()
        .unwrap()
        .len();
    let id = project.record()["id"].as_str().unwrap().to_owned();
    let shown = project.output(&["show", &id]);
    assert!(
        shown.contains(&format!("{flags} (`--all` lists them)")),
        "{shown}"
    );
    let shown = project.output(&["show", "--all", &id]);
    assert!(!shown.contains("lists them"), "{shown}");
}

/// A missing file is its job's fault, and stops nothing else.
#[test]
fn a_job_whose_files_are_missing_stops_no_other() {
    let project = Project::new(
        "ok: { image: IMAGE, command: [\"true\"] }\n\
         unbuilt: { build: nowhere }\n\
         misnamed: { build: { context: ., dockerfile: Nothing } }\n\
         unset: { image: IMAGE, env_file: [nothing.env] }\n\
         broken: { image: IMAGE, env_file: [broken.env] }\n",
    );
    project.bench.write("broken.env", "NO VALUE\n");
    let ended = run(&mut project.jobctl(&["run", "ok"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for (job, place) in [
        ("unbuilt", "jobs.yaml:5:21"),
        ("misnamed", "jobs.yaml:6:"),
        ("unset", "jobs.yaml:7:"),
        ("broken", "broken.env:1:"),
    ] {
        let ended = run(&mut project.jobctl(&["run", job]));
        assert_eq!(ended.code, Some(125), "{ended:?}");
        assert!(ended.stderr.contains(place), "{job}: {}", ended.stderr);
        assert_eq!(ended.stderr.matches("error").count(), 1, "{}", ended.stderr);
    }
    let ended = run(&mut project.jobctl(&["build", "unbuilt"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let ended = run(&mut project.jobctl(&["validate"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(
        ended.stderr.matches("error[").count(),
        4,
        "{}",
        ended.stderr
    );
}

#[test]
fn man_pages_that_can_not_be_written_are_reported_with_their_directory() {
    let bench = Bench::new();
    bench.write("file", "");
    let ended = run(bench.jobctl().args(["man", "--out", "file/man"]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(
        ended.stderr,
        "error: can't write to `file/man`: Not a directory\n"
    );
}

#[test]
fn builds_help_shows_push() {
    let bench = Bench::new();
    let help = run(bench.jobctl().args(["build", "--help"])).stdout;
    assert!(help.contains("[alias: --push]"), "{help}");
}

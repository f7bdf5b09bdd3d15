//! What a run is asked for with, and what is said of it: flags, terminals, gates.

use serde_json::json;

use crate::support::image::{DEBIAN, docker};
use crate::support::project::Project;
use crate::support::{Ended, run};

#[test]
fn a_run_that_nobody_watches_tells_its_id_and_its_ending() {
    let project = Project::new("job: { image: IMAGE, command: [sh, -c, echo out; exit 3] }\n");
    let ended = run(&mut project.jobctl(&["run", "job"]));
    let id = project.record()["id"].as_str().unwrap()[..14].to_owned();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), "out\n"));
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines[0], format!("run {id} of job: starting"));
    let ending = format!("run {id} of job: failed with exit code 3 (");
    assert!(lines[1].starts_with(&ending), "{}", ended.stderr);
    assert_eq!(lines.len(), 2, "{}", ended.stderr);
    let quiet = run(&mut project.jobctl(&["-q", "run", "job"]));
    let expected = (Some(3), "out\n", "");
    assert_eq!((quiet.code, &*quiet.stdout, &*quiet.stderr), expected);
}

#[test]
fn a_terminal_that_is_not_there_is_missed_in_dockers_words() {
    let project = Project::empty();
    let ended = run(&mut project.run_image(&["-d", "-t"], &["sleep", "600"]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let id = ended.stdout.trim();
    let expected = "error: the input device is not a TTY\n";
    for mut command in [
        project.run_image(&["-it"], &["true"]),
        project.jobctl(&["exec", "-it", id, "true"]),
        project.jobctl(&["attach", id]),
    ] {
        let ended = run(command.stdin(std::process::Stdio::null()));
        assert_eq!(ended.code, Some(125), "{command:?}: {ended:?}");
        assert!(ended.stderr.starts_with(expected), "{command:?}: {ended:?}");
    }
    assert_eq!(project.records().len(), 1);
    // Output needs none, and neither does what reads nothing.
    let ended = run(&mut project.jobctl(&["exec", "-t", id, "echo", "hello"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "hello\r\n"));
    project.output(&["kill", id]);
    project.assert_clean();
}

#[test]
fn only_the_command_is_blamed_for_a_command_that_is_not_found() {
    let project = Project::empty();
    for (flags, said) in [
        (
            &["--device", "/dev/no-such"][..],
            "can't give the container a device",
        ),
        (&["--workdir", "/etc/passwd"], "not a directory"),
        (&["--user", "nobody-such"], "nobody-such"),
        (
            &["--mount", "type=bind,source=/no/such,target=/x"],
            "/no/such",
        ),
        (&["--runtime", "no-such"], "no-such"),
    ] {
        for init in ["--init=true", "--init=false"] {
            let words = [flags, &[init]].concat();
            let ended = run(&mut project.run_image(&words, &["true"]));
            assert_eq!(ended.code, Some(125), "{flags:?}: {ended:?}");
            assert!(ended.stderr.contains(said), "{flags:?}: {ended:?}");
            assert!(!ended.stderr.contains("command was not found"), "{ended:?}");
        }
    }
    project.assert_clean();
}

#[test]
fn args_that_replace_the_command_and_are_no_program_are_explained() {
    let project = Project::new(
        "train: { image: IMAGE, command: [python3, train.py] }\nbare: { image: IMAGE }\n",
    );
    for (words, hint) in [
        (
            &["train", "--lr", "0.1"][..],
            "ARGS replace the job's `command`; to add to it: `jobctl run train -- python3 train.py --lr 0.1`",
        ),
        (
            &["--init=false", "train", "--lr", "0.1"],
            "ARGS replace the job's `command`; to add to it: `jobctl run train -- python3 train.py --lr 0.1`",
        ),
        (
            &["bare", "--lr"],
            "ARGS replace the image's CMD; write the program first: `jobctl run bare -- PROGRAM --lr`",
        ),
    ] {
        let words = [&["run"], words].concat();
        let Ended { code, stderr, .. } = run(&mut project.jobctl(&words));
        assert_eq!(code, Some(127), "{words:?}: {stderr}");
        assert!(
            stderr.contains(&format!("help: {hint}\n")),
            "{words:?}: {stderr}"
        );
    }
    // A command of its own that is not there has nothing to do with it.
    let ended = run(&mut project.jobctl(&["run", "train"]));
    assert_eq!(ended.code, Some(127));
    assert!(!ended.stderr.contains("ARGS"), "{}", ended.stderr);
    // Nor has a program that ends so.
    let ended = run(&mut project.jobctl(&["run", "train", "sh", "-c", "exit 3"]));
    assert!(!ended.stderr.contains("ARGS"), "{}", ended.stderr);
}

#[test]
fn a_job_runs_without_the_health_check_of_its_image() {
    let project = Project::with_name(
        "job: { build: ., command: [sleep, '600'] }\n\
         serve: { image: job:job, command: [sleep, '600'], service: true }\n",
    );
    let dockerfile = format!("FROM {DEBIAN}\nHEALTHCHECK --interval=1s CMD false\n");
    project.bench.write("Dockerfile", &dockerfile);
    for (job, check) in [("job", "NONE"), ("serve", "CMD-SHELL")] {
        let ended = run(&mut project.jobctl(&["run", "-d", job]));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let id = ended.stdout.trim();
        let container = project.records()[0]["attempts"][0]["container_id"].clone();
        let format = "{{json .Config.Healthcheck.Test}}";
        let test =
            crate::support::image::docker(&["inspect", "-f", format, container.as_str().unwrap()]);
        assert!(test.starts_with(&format!("[\"{check}\"")), "{job}: {test}");
        project.output(&["kill", id]);
    }
    project.assert_clean();
}

/// A training whose accuracy its environment says, its evaluation, and what is served.
fn gated() -> Project {
    let train = "mkdir /out; echo accuracy=$$ACCURACY; echo $$ACCURACY > /out/model";
    Project::with_name(&format!(
        "train:\n  image: IMAGE\n  command: [sh, -c, '{train}']\n  environment: {{ ACCURACY: }}\n  \
         outputs: {{ model: /out }}\n\
         evaluate:\n  image: IMAGE\n  command: [sh, -c, 'echo accuracy=`cat /model/model`']\n  \
         needs: {{ train: {{ outputs: {{ model: /model }} }} }}\n  \
         metrics: {{ log: {{ accuracy: 'accuracy=([0-9.]+)' }} }}\n\
         serve:\n  image: IMAGE\n  command: [cat, /model/model]\n  needs:\n    evaluate: {{ gate: \
         'accuracy >= 0.8' }}\n    train: {{ outputs: {{ model: /model }} }}\n"
    ))
}

#[test]
fn a_run_whose_needs_do_not_pass_their_gates_is_refused() {
    let project = gated();
    let run_it = |words: &[&str], accuracy: &str| {
        let words = [&["-q", "run"], words].concat();
        run(project.jobctl(&words).env("ACCURACY", accuracy))
    };
    let short = |job: &str| {
        let records = project.records();
        let record = records.iter().find(|record| record["job"] == job).unwrap();
        record["id"].as_str().unwrap()[..14].to_owned()
    };
    assert_eq!(run_it(&["train"], "0.9").code, Some(0));
    // Nothing was judged yet.
    let ended = run_it(&["serve"], "");
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(ended.stderr.contains("no run of `evaluate`"), "{ended:?}");
    assert_eq!(run_it(&["evaluate"], "").code, Some(0));
    let ended = run_it(&["serve"], "");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "0.9\n"));
    let judged = short("train");

    assert_eq!(run_it(&["train"], "0.5").code, Some(0));
    let ended = run_it(&["serve"], "");
    assert_eq!(ended.code, Some(125), "{ended:?}");
    let expected = format!(
        "error: the run {} of `evaluate` judged the run {judged} of `train`, but the newest is {}\nhelp: \
         judge the newest first: `jobctl run evaluate`; ",
        short("evaluate"),
        short("train")
    );
    assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
    assert_eq!(run_it(&["evaluate"], "").code, Some(0));
    let ended = run_it(&["serve"], "");
    assert_eq!(ended.code, Some(125), "{ended:?}");
    let expected = format!(
        "error: the run {} of `evaluate` did not pass the gate of `serve`: accuracy 0.5 is not >= 0.8\n",
        short("evaluate")
    );
    assert!(ended.stderr.starts_with(&expected), "{}", ended.stderr);
    let served = project.records().into_iter();
    let served: Vec<_> = served.filter(|record| record["job"] == "serve").collect();
    assert_eq!(served.len(), 1);

    let ended = run_it(&["--ignore-gates", "serve"], "");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "0.5\n"));
    assert_eq!(project.records()[0]["ending"], json!("success"));
    project.assert_clean();
}

#[test]
fn an_image_that_was_never_built_is_not_looked_for_in_a_registry() {
    let project = Project::with_name("a: { build: . }\nb: { image: \"job:a\" }\n");
    let dockerfile =
        "FROM scratch AS other\nCOPY jobs.yaml /\nFROM debian:trixie-slim\nCMD [\"true\"]\n";
    project.bench.write("Dockerfile", dockerfile);
    let other = "linux/arm64";
    let refused = |words: &[&str], error: &str, help: &str| {
        let words = [&["run", "--no-build"], words].concat();
        let ended = run(&mut project.jobctl(&words));
        assert_eq!(ended.code, Some(125), "{words:?}: {ended:?}");
        let said = [format!("error: {error}\n"), format!("help: build it{help}")];
        for part in said {
            assert!(ended.stderr.contains(&part), "{words:?}: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("pull"), "{}", ended.stderr);
    };
    let never = "the image of `a` is not built";
    for flags in [
        &["a"][..],
        &["--dry-run", "a"],
        &["--pull", "never", "a"],
        &["--pull", "always", "a"],
    ] {
        refused(flags, never, ": `jobctl build a`");
    }
    assert!(project.records().is_empty());
    // Without an engine, nobody knows.
    let nowhere = [
        "--host",
        "unix:///nowhere.sock",
        "run",
        "--no-build",
        "--dry-run",
        "a",
    ];
    let ended = run(&mut project.jobctl(&nowhere));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.contains("whether its image is built"),
        "{ended:?}"
    );

    project.output(&["build", "a"]);
    project.output(&["run", "--no-build", "a"]);
    let built = project.record()["image"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let planned = |flags: &[&str]| {
        let words = [
            &["run", "--no-build", "--dry-run", "--format", "json"],
            flags,
            &["a"],
        ]
        .concat();
        let plan: serde_json::Value = serde_json::from_str(&project.output(&words)).unwrap();
        plan["image"].as_str().unwrap().to_owned()
    };
    assert_eq!(planned(&[]), built);
    let for_other = format!("{never} for {other}");
    for flags in [
        &["--platform", other, "a"][..],
        &["--dry-run", "--platform", other, "a"],
    ] {
        refused(
            flags,
            &for_other,
            ": `jobctl build --platform linux/arm64 a`",
        );
    }
    // The very image of another job has no other platform, and its id is known to no registry.
    let ended = run(&mut project.jobctl(&["run", "--platform", other, "b"]));
    assert_eq!(ended.code, Some(125), "{ended:?}");
    assert!(!ended.stderr.contains("pull"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("for the platform linux/arm64"),
        "{}",
        ended.stderr
    );

    project.output(&["build", "--platform", other, "--target", "other", "a"]);
    let architecture = |image: &str| {
        docker(&["image", "inspect", "--format", "{{.Architecture}}", image])
            .trim()
            .to_owned()
    };
    assert_eq!(architecture(&planned(&["--platform", other])), "arm64");
    // The newest is not for this one.
    let native = std::env::consts::ARCH.replace("x86_64", "amd64");
    assert_eq!(
        architecture(&planned(&["--platform", &format!("linux/{native}")])),
        native
    );
}

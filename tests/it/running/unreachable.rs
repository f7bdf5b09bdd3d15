//! Verbs on an engine that is not there, may not be used, or does not answer.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::faults::{Site, ended};
use super::killed::supervisor;
use crate::support::image::DEBIAN;
use crate::support::project::Project;
use crate::support::{Ended, is_root, run, wait_for};

/// How soon a verb is to say that there is no engine, and that one hangs.
const ABSENT: Duration = Duration::from_secs(2);
const HUNG: Duration = Duration::from_secs(15);

/// All verbs that can't do without the engine while the run has no supervisor.
fn verbs(id: &str) -> Vec<Vec<&str>> {
    vec![
        vec!["run", "--image", DEBIAN, "true"],
        vec!["run", "--detach", "--image", DEBIAN, "true"],
        vec!["attach", id],
        vec!["exec", id, "true"],
        vec!["logs", id],
        vec!["logs", "--follow", id],
        vec!["wait", id],
        vec!["stop", id],
        vec!["kill", id],
        vec!["rm", "--force", id],
    ]
}

/// Verbs that show what was last known of it.
const SHOWING: [&[&str]; 2] = [&["ps"], &["prune", "--keep", "9"]];

/// A run that goes on without a supervisor.
fn unattended(project: &Project) -> String {
    let ended = run(&mut project.run_image(&["-d"], &["sleep", "600"]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let id = ended.stdout.trim().to_owned();
    kill_process(supervisor(&id), Signal::KILL).unwrap();
    wait_for(|| project.output(&["ps"]).contains("(unattended)"));
    id
}

fn assert_told(mut jobctl: impl FnMut(&[&str]) -> Command, id: &str, message: &str, help: &str) {
    let mut timed = |verb: &[&str]| {
        let start = Instant::now();
        let ended = run(&mut jobctl(verb));
        assert!(start.elapsed() < ABSENT, "{verb:?}: {:?}", start.elapsed());
        ended
    };
    for verb in verbs(id) {
        let Ended {
            code,
            stdout,
            stderr,
        } = timed(&verb);
        let expected = format!("error: {message}\nhelp: {help}\n");
        let expected = (Some(125), "", expected.as_str());
        assert_eq!(
            (code, stdout.as_str(), stderr.as_str()),
            expected,
            "{verb:?}"
        );
    }
    for verb in SHOWING {
        let ended = timed(verb);
        let expected = format!("warning: {message}; what is shown is what was last known\n");
        assert_eq!(ended.code, Some(0), "{verb:?}");
        assert!(
            ended.stderr.starts_with(&expected),
            "{verb:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn every_verb_says_that_no_engine_is_running() {
    let project = Project::empty();
    let id = unattended(&project);
    let socket = project.bench.path().join("none.sock");
    let address = format!("unix://{}", socket.display());
    let jobctl = |verb: &[&str]| {
        let mut command = project.jobctl(verb);
        command.env("DOCKER_HOST", &address).stdin(Stdio::null());
        command
    };
    assert_told(
        jobctl,
        &id,
        &format!("no engine is running at {address}"),
        "start it: `sudo systemctl start docker`; install it: `sudo apt-get install docker.io`; or \
         name another with `--host` or `docker context use`",
    );
    project.output(&["stop", "-t", "1", &id]);
    project.assert_clean();
}

#[test]
fn every_verb_answers_soon_on_an_engine_that_hangs() {
    if !is_root("every_verb_answers_soon_on_an_engine_that_hangs") {
        return;
    }
    let site = Site::new(&[]);
    let mut command = site.run(&["-d"], "sleep 600");
    let started = run(&mut command);
    assert_eq!(started.code, Some(0), "{}", started.stderr);
    let id = started.stdout.trim();
    kill_process(supervisor(id), Signal::KILL).unwrap();
    wait_for(|| {
        run(&mut site.jobctl(&["ps"]))
            .stdout
            .contains("(unattended)")
    });
    site.engine.freeze();
    let start = Instant::now();
    let mut asked = verbs(id);
    asked.extend(SHOWING.map(<[&str]>::to_vec));
    let children: Vec<_> = asked
        .iter()
        .map(|verb| {
            let mut command = site.jobctl(verb);
            Project::start(&mut command)
        })
        .collect();
    for (verb, child) in asked.iter().zip(children) {
        let ended = ended(child);
        assert!(start.elapsed() < HUNG, "{verb:?}: {:?}", start.elapsed());
        let code = if SHOWING.contains(&verb.as_slice()) {
            0
        } else {
            125
        };
        assert_eq!(ended.code, Some(code), "{verb:?}: {ended:?}");
        assert!(ended.stderr.contains("is hung"), "{verb:?}: {ended:?}");
    }
    site.engine.thaw();
    let stopped = run(&mut site.jobctl(&["stop", "-t", "1", id]));
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
}

//! How containers end, and what is said of those that don't begin.

use std::time::Duration;

use jobctl::engine::run::{Container, ExecSpec, LogRequest, RunError, RunSpec, Status, Until};

use crate::support::container::{Finished, Runner, command, shell};

#[tokio::test]
async fn exit_codes_are_the_jobs_own() {
    let runner = Runner::new().await;
    for code in [
        0, 1, 2, 7, 42, 124, 125, 126, 127, 128, 130, 137, 143, 254, 255,
    ] {
        let finished = runner.run(&shell(&format!("exit {code}"))).await;
        assert_eq!(finished.code, code);
    }
}

/// Nothing lives shorter than `true`.
#[tokio::test]
async fn no_end_is_missed() {
    let runner = Runner::new().await;
    for _ in 0..8 {
        let specs: Vec<_> = (0..4).map(|_| command(&["true"])).collect();
        let runs = specs.iter().map(|spec| runner.run(spec));
        let finished = futures_util::future::join_all(runs).await;
        let nothing = |finished: &Finished| finished.code == 0 && finished.stdout.is_empty();
        assert!(finished.iter().all(nothing), "{finished:?}");
    }
}

#[tokio::test]
async fn a_command_that_is_not_there_is_told_from_one_that_can_not_be_executed() {
    let runner = Runner::new().await;
    for (words, is_found) in [
        (["no-such-program"], false),
        (["/no/such/program"], false),
        (["/etc/passwd"], true),
        (["/etc"], true),
    ] {
        // With an init process it is that which looks for the command, and ends with docker's codes.
        let code = runner.run(&command(&words)).await.code;
        assert_eq!(code, if is_found { 126 } else { 127 }, "{words:?}");

        let mut spec = command(&words);
        spec.init = None;
        let id = runner.create(&spec).await;
        let error = runner.engine.start(&id).await.unwrap_err();
        match (&error, is_found) {
            (RunError::NotFound { .. }, false) | (RunError::NotExecutable { .. }, true) => {}
            _ => panic!("{words:?}: {error:?}"),
        }
        assert!(error.to_string().contains(words[0]), "{error}");
    }
}

#[tokio::test]
async fn a_taken_name_says_who_has_it() {
    let runner = Runner::new().await;
    let spec = command(&["true"]);
    let first = runner.create(&spec).await;
    let error = runner.try_create(&spec).await.unwrap_err();
    let expected = format!("the name `{}` is taken by the container {first}", spec.name);
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn what_the_engine_does_not_have_is_said() {
    let runner = Runner::new().await;
    let mut spec = command(&["true"]);
    spec.image = "jobctl-test-no-such-image:1".to_owned();
    let error = runner.try_create(&spec).await.unwrap_err();
    let expected = "the engine does not have the image `jobctl-test-no-such-image:1`";
    assert_eq!(error.to_string(), expected);

    let engine = &runner.engine;
    let nobody = "jobctl-test-no-such-container";
    assert_eq!(engine.container(nobody).await.unwrap(), None);
    assert_eq!(engine.image_details(nobody).await.unwrap(), None);
    engine.remove(nobody).await.unwrap();
    let exec = ExecSpec {
        command: vec!["true".to_owned()],
        ..ExecSpec::default()
    };
    let refused = [
        engine.start(nobody).await.unwrap_err(),
        engine.attach(nobody, &<_>::default()).await.err().unwrap(),
        engine.wait(nobody, Until::NextExit).await.err().unwrap(),
        engine
            .logs(nobody, false, &<_>::default())
            .await
            .err()
            .unwrap(),
        engine.stop(nobody, None, Duration::ZERO).await.unwrap_err(),
        engine.kill(nobody, "SIGTERM").await.unwrap_err(),
        engine.copy_out(nobody, "/etc").await.err().unwrap(),
        engine.exec(nobody, &exec).await.err().unwrap(),
        engine.memory(nobody).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(
            error.to_string(),
            "the engine has no container `jobctl-test-no-such-container`"
        );
    }
}

#[tokio::test]
async fn what_is_known_of_a_container_follows_its_life() {
    let runner = Runner::new().await;
    let mut spec = shell("exit 3");
    spec.limits.memory = Some("64mb".parse().unwrap());
    spec.labels
        .insert("dev.jobctl.test.life".to_owned(), spec.name.clone());
    let id = runner.create(&spec).await;
    let container = runner.engine.container(&id).await.unwrap().unwrap();
    let image = runner.engine.image_details(&spec.image).await.unwrap();
    assert_eq!(container.id, id);
    assert_eq!(container.name, spec.name);
    assert_eq!(container.image, image.unwrap().id.as_str());
    assert_eq!(container.labels["dev.jobctl.test.life"], spec.name);
    assert_eq!(container.status, Status::Created);
    assert_eq!(container.memory_limit, Some(64 << 20));
    let times = (container.started, container.finished, container.exit_code);
    assert_eq!(times, (None, None, None));

    assert_eq!(runner.finish(&id, false).await.code, 3);
    let container = runner.engine.container(&spec.name).await.unwrap().unwrap();
    assert_eq!(container.status, Status::Exited);
    assert_eq!(container.exit_code, Some(3));
    assert!(!container.is_oom_killed);
    // A busy engine notes that it ended before it notes that it started.
    assert!(container.started.is_some() && container.finished.is_some());

    let listed = runner
        .engine
        .containers_labelled("dev.jobctl.test.life", Some(&spec.name))
        .await
        .unwrap();
    let known = |container: &Container| {
        (
            container.id.clone(),
            container.name.clone(),
            container.image.clone(),
            container.labels.clone(),
            container.status,
            container.exit_code,
        )
    };
    assert_eq!(
        listed.iter().map(known).collect::<Vec<_>>(),
        [known(&container)]
    );

    runner.engine.remove(&id).await.unwrap();
    assert_eq!(runner.engine.container(&id).await.unwrap(), None);
}

#[tokio::test]
async fn a_job_that_outgrows_its_memory_is_told_from_one_that_is_killed() {
    let runner = Runner::new().await;
    // An engine looks at memory from a moment after the start, and hears of it in its own time.
    let mut spec = shell(
        "trap '(echo 1000 > /proc/self/oom_score_adj; head -c 200000000 /dev/zero | exec tail); \
         sleep 2; exit 5' USR1; echo ready; while :; do sleep 0.05; done",
    );
    spec.limits.memory = Some("24mb".parse().unwrap());
    let id = runner.up(&spec).await;
    ready(&runner, &id).await;
    let waiting = runner.engine.wait(&id, Until::Stopped).await.unwrap();
    runner.engine.kill(&id, "SIGUSR1").await.unwrap();
    // The shell lives on: the code is its own.
    assert_eq!(waiting.exit().await.unwrap(), 5);
    let container = runner.engine.container(&id).await.unwrap().unwrap();
    assert!(container.is_oom_killed);

    let id = runner.up(&command(&["sleep", "1000"])).await;
    let waiting = runner.engine.wait(&id, Until::Stopped).await.unwrap();
    runner.engine.kill(&id, "SIGKILL").await.unwrap();
    assert_eq!(waiting.exit().await.unwrap(), 137);
    let container = runner.engine.container(&id).await.unwrap().unwrap();
    assert!(!container.is_oom_killed);
}

/// A job that takes `signal` well, and says so when it is ready.
fn graceful(signal: &str) -> RunSpec {
    shell(&format!(
        "trap 'exit 11' {signal}; echo ready; while :; do sleep 0.05; done"
    ))
}

/// Waits until a container has said something.
async fn ready(runner: &Runner, id: &str) {
    let following = LogRequest {
        follow: true,
        ..<_>::default()
    };
    let mut output = runner.engine.logs(id, false, &following).await.unwrap();
    assert_eq!(output.next().await.unwrap().unwrap().bytes, "ready\n");
}

#[tokio::test]
async fn stopping_asks_first() {
    let runner = Runner::new().await;
    let long = Duration::from_secs(60);
    for (signal, given) in [("TERM", None), ("USR1", Some("SIGUSR1"))] {
        let id = runner.up(&graceful(signal)).await;
        ready(&runner, &id).await;
        runner.engine.stop(&id, given, long).await.unwrap();
        let container = runner.engine.container(&id).await.unwrap().unwrap();
        assert_eq!(container.exit_code, Some(11), "{signal}");
        // Once more is no error.
        runner.engine.stop(&id, given, long).await.unwrap();
    }
    let mut spec = graceful("USR2");
    spec.stop_signal = Some("SIGUSR2".to_owned());
    let id = runner.up(&spec).await;
    ready(&runner, &id).await;
    runner.engine.stop(&id, None, long).await.unwrap();
    let container = runner.engine.container(&id).await.unwrap().unwrap();
    assert_eq!(container.exit_code, Some(11));
}

#[tokio::test]
async fn stopping_kills_when_the_grace_is_over() {
    let runner = Runner::new().await;
    for given in [None, Some("SIGTERM")] {
        let id = runner
            .up(&shell(
                "trap '' TERM; echo ready; while :; do sleep 0.05; done",
            ))
            .await;
        ready(&runner, &id).await;
        let grace = Duration::from_millis(300);
        runner.engine.stop(&id, given, grace).await.unwrap();
        let container = runner.engine.container(&id).await.unwrap().unwrap();
        assert_eq!(
            (container.status, container.exit_code),
            (Status::Exited, Some(137))
        );
    }
}

#[tokio::test]
async fn removing_waits_for_whoever_removes_already() {
    let runner = Runner::new().await;
    let id = runner.up(&command(&["sleep", "1000"])).await;
    let removed = runner.engine.wait(&id, Until::Removed).await.unwrap();
    let removals = (0..4).map(|_| runner.engine.remove(&id));
    for removal in futures_util::future::join_all(removals).await {
        removal.unwrap();
        assert_eq!(runner.engine.container(&id).await.unwrap(), None);
    }
    assert_eq!(removed.exit().await.unwrap(), 137);
}

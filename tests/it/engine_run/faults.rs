//! Engines that go away under a running container.

use std::time::Duration;

use jobctl::engine::docker::EngineError;
use jobctl::engine::run::{AttachRequest, LogRequest, RunError, Status, Until};

use crate::support::container::{Runner, drain, shell};
use crate::support::engine::{self, PrivateEngine};
use crate::support::image::{DEBIAN, ensure_debian};
use crate::support::is_root;

#[tokio::test]
async fn a_container_outlives_its_engine_and_is_found_again() {
    if !is_root("a_container_outlives_its_engine_and_is_found_again") {
        return;
    }
    ensure_debian();
    let mut private = PrivateEngine::start("", &["--live-restore"]);
    engine::load(DEBIAN, &private.socket());
    let runner = Runner::at(private.socket()).await;
    let engine = &runner.engine;
    // It ends by itself if this test can't end it.
    let folder = tempfile::tempdir().unwrap();
    let mut spec = shell(
        "echo before; i=0; until [ -e /data/go ]; do [ $i = 600 ] && exit 1; sleep 0.1; i=$((i + 1)); done; \
         echo after; exit 7",
    );
    spec.mounts = vec![
        format!("{}:/data", folder.path().display())
            .parse()
            .unwrap(),
    ];
    let id = runner.create(&spec).await;
    let attached = engine.attach(&id, &AttachRequest::default()).await;
    let mut output = attached.unwrap().output;
    let waiting = engine.wait(&id, Until::NextExit).await.unwrap();
    engine.start(&id).await.unwrap();
    assert_eq!(output.next().await.unwrap().unwrap().bytes, "before\n");
    let following = LogRequest {
        follow: true,
        ..LogRequest::default()
    };
    let mut log = engine.logs(&id, false, &following).await.unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().bytes, "before\n");

    private.kill();
    // Not even the attached output can say that this is not the job's end; the others do.
    assert!(output.next().await.is_none());
    let gone = waiting.exit().await.unwrap_err();
    let broken = log.next().await.unwrap().unwrap_err();
    for error in [gone, broken] {
        let is_gone = matches!(error, RunError::Engine(EngineError::Gone { .. }));
        assert!(is_gone, "{error:?}");
    }
    assert!(engine.ping().await.unwrap_err().is_absence());
    assert!(engine.start(&id).await.is_err());

    private.restart();
    let container = engine.container(&id).await.unwrap().unwrap();
    assert_eq!(container.status, Status::Running);
    let waiting = engine.wait(&id, Until::Stopped).await.unwrap();
    std::fs::write(folder.path().join("go"), "").unwrap();
    assert_eq!(waiting.exit().await.unwrap(), 7);
    let log = engine.logs(&id, false, &LogRequest::default()).await;
    assert_eq!(drain(log.unwrap()).await.0, b"before\nafter\n");
    engine.remove(&id).await.unwrap();
}

#[tokio::test]
async fn a_hung_engine_is_noticed_quickly() {
    if !is_root("a_hung_engine_is_noticed_quickly") {
        return;
    }
    let private = PrivateEngine::start("", &[]);
    let runner = Runner::at(private.socket()).await;
    private.freeze();
    let start = std::time::Instant::now();
    let error = runner.engine.ping().await.unwrap_err();
    assert!(matches!(error, EngineError::Hung { .. }), "{error:?}");
    assert!(error.is_absence());
    assert!(start.elapsed() < Duration::from_secs(10));
}

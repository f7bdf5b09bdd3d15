//! The same on Podman.

use jobctl::engine::run::{LogRequest, Status};
use tokio::io::AsyncWriteExt as _;

use crate::support::container::{Finished, Runner, drain, shell};
use crate::support::engine::{self, PodmanService};
use crate::support::image::{DEBIAN, ensure_debian};
use crate::support::is_root;

/// A container that Podman can run on a machine that limits its root.
fn limited(script: &str) -> jobctl::engine::run::RunSpec {
    let mut spec = shell(script);
    spec.image = format!("localhost/{DEBIAN}");
    spec.limits.ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
        .map(|limit| limit.parse().unwrap())
        .into();
    // Its own one is not installed everywhere.
    spec.init = None;
    spec
}

#[tokio::test]
async fn podman_runs_containers_as_docker_does() {
    if !is_root("podman_runs_containers_as_docker_does") {
        return;
    }
    ensure_debian();
    let podman = PodmanService::start();
    engine::load(DEBIAN, &podman.socket());
    let runner = Runner::at(podman.socket()).await;
    let engine = &runner.engine;

    let spec = limited("printf '\\001\\377out'; printf err >&2; exit 5");
    let id = runner.create(&spec).await;
    assert_eq!(
        runner.finish(&id, false).await,
        Finished {
            code: 5,
            stdout: b"\x01\xffout".to_vec(),
            stderr: b"err".to_vec(),
        }
    );
    let container = engine.container(&spec.name).await.unwrap().unwrap();
    assert_eq!(
        (container.status, container.exit_code),
        (Status::Exited, Some(5))
    );
    let stamped = LogRequest {
        timestamps: true,
        ..LogRequest::default()
    };
    let mut log = engine.logs(&id, false, &stamped).await.unwrap();
    assert!(log.next().await.unwrap().unwrap().time.is_some());
    let name = runner.try_create(&spec).await.unwrap_err().to_string();
    assert_eq!(
        name,
        format!("the name `{}` is taken by the container {id}", spec.name)
    );
    engine.remove(&id).await.unwrap();
    engine.remove(&id).await.unwrap();
    assert_eq!(engine.container(&id).await.unwrap(), None);

    let mut spec = limited("cat");
    spec.stdin = true;
    let id = runner.create(&spec).await;
    let how = jobctl::engine::run::AttachRequest {
        stdin: true,
        ..<_>::default()
    };
    let attachment = engine.attach(&id, &how).await.unwrap();
    engine.start(&id).await.unwrap();
    let mut input = attachment.input.unwrap();
    input.write_all(b"typed").await.unwrap();
    input.shutdown().await.unwrap();
    assert_eq!(drain(attachment.output).await.0, b"typed");

    let spec = limited("sleep 1000");
    let id = runner.up(&spec).await;
    engine
        .stop(&id, Some("SIGKILL"), std::time::Duration::ZERO)
        .await
        .unwrap();
    let container = engine.container(&id).await.unwrap().unwrap();
    assert_eq!(container.exit_code, Some(137));

    let mut spec = limited("true");
    spec.image = "localhost/no-such-image:1".to_owned();
    let error = runner.try_create(&spec).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the engine does not have the image `localhost/no-such-image:1`"
    );
}

//! What engines see of this machine.

use std::path::Path;
use std::process::Command;

use jobctl::engine::docker::{Address, DockerEngine};

use crate::support::container::Runner;
use crate::support::engine::{self, PodmanService, PrivateEngine};
use crate::support::image::{DEBIAN, ensure_debian};
use crate::support::proxy::forward;
use crate::support::{SOCKET, is_root};

/// A state directory, and a file that is elsewhere.
struct Files {
    state: tempfile::TempDir,
    elsewhere: tempfile::NamedTempFile,
}

impl Files {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("staging")).unwrap();
        std::fs::write(state.path().join("output"), "").unwrap();
        Self {
            state,
            elsewhere: tempfile::NamedTempFile::new().unwrap(),
        }
    }

    /// Whether an engine sees what is in the state directory, what is elsewhere, and has our network.
    async fn seen_by(&self, engine: &DockerEngine) -> [bool; 3] {
        let state = self.state.path();
        let (output, scratch) = (state.join("output"), state.join("staging"));
        let sees = async |path: &Path| engine.sees_our_files(state, &scratch, &[path]).await;
        let seen = [
            sees(&output).await,
            sees(self.elsewhere.path()).await,
            engine.shares_our_network().await,
        ];
        let left: Vec<_> = std::fs::read_dir(scratch).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        seen
    }
}

/// The containers of an engine that were made to look through.
fn probes(socket: &Path) -> String {
    let host = format!("unix://{}", socket.display());
    let listed = Command::new("docker")
        .args([
            "-H",
            &host,
            "ps",
            "-aq",
            "--filter",
            "label=dev.jobctl.probe",
        ])
        .output()
        .unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_of_this_machine_sees_its_files_however_it_is_reached() {
    if !is_root("an_engine_of_this_machine_sees_its_files_however_it_is_reached") {
        return;
    }
    ensure_debian();
    let files = Files::new();
    let folder = tempfile::tempdir().unwrap();
    for socket in [SOCKET.into(), forward(folder.path(), SOCKET.into())] {
        let runner = Runner::at(socket).await;
        assert_eq!(files.seen_by(&runner.engine).await, [true; 3]);
    }
    // Files that are in no state directory may have namesakes where nothing but the address is known.
    // One in namespaces of its own sees what it is shown.
    let private = PrivateEngine::start("", &[]);
    engine::load(DEBIAN, &private.socket());
    let runner = Runner::at(private.socket()).await;
    assert_eq!(files.seen_by(&runner.engine).await, [true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_behind_a_forwarded_socket_does_not_see_our_files() {
    if !is_root("an_engine_behind_a_forwarded_socket_does_not_see_our_files") {
        return;
    }
    let files = Files::new();
    // As on another machine, with a file of the same name.
    let hidden = format!(
        "mount -t tmpfs tmpfs {}; mount -t tmpfs tmpfs /dev/shm",
        files.state.path().display()
    );
    let private = PrivateEngine::start(&hidden, &[]);
    let folder = tempfile::tempdir().unwrap();
    let forwarded = forward(folder.path(), private.socket());
    for socket in [private.socket(), forwarded] {
        let runner = Runner::through(Address::Unix(socket.clone()), None, socket).await;
        assert_eq!(files.seen_by(&runner.engine).await, [false; 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_is_asked_through_a_container_that_is_removed() {
    if !is_root("podman_is_asked_through_a_container_that_is_removed") {
        return;
    }
    ensure_debian();
    let files = Files::new();
    let podman = PodmanService::start();
    // Without any image there is nothing to look through.
    let runner = Runner::at(podman.socket()).await;
    assert_eq!(files.seen_by(&runner.engine).await, [false; 3]);
    engine::load(DEBIAN, &podman.socket());
    let runner = Runner::at(podman.socket()).await;
    assert_eq!(files.seen_by(&runner.engine).await, [true; 3]);
    assert_eq!(probes(&podman.socket()), "");
    assert_eq!(probes(SOCKET.as_ref()), "");
}

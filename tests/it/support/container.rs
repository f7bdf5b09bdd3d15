//! Containers of a test's own, through the library.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use jobctl::engine::docker::client::Deadlines;
use jobctl::engine::docker::run::Output;
use jobctl::engine::docker::{Address, DockerEngine, Endpoint, Origin};
use jobctl::engine::run::{AttachRequest, RunError, RunSpec, Stream, Until};
use jobctl::model::NetworkAttachment;

use super::SOCKET;
use super::image::{DEBIAN, ensure_debian};

/// An engine, and the containers that were made on it, which are removed with it.
pub(crate) struct Runner {
    pub(crate) engine: DockerEngine,
    socket: PathBuf,
    made: Mutex<Vec<String>>,
}

/// What a container did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) code: i64,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Runner {
    /// On the engine of all tests.
    pub(crate) async fn new() -> Self {
        ensure_debian();
        Self::at(SOCKET.into()).await
    }

    /// On the engine of a socket.
    pub(crate) async fn at(socket: PathBuf) -> Self {
        Self::through(Address::Unix(socket.clone()), None, socket).await
    }

    /// On the engine of a socket that is reached in another way.
    pub(crate) async fn through(address: Address, ssh: Option<PathBuf>, socket: PathBuf) -> Self {
        let endpoint = Endpoint {
            address,
            origin: Origin::Default,
            overridden: None,
        };
        let engine = DockerEngine::connect(endpoint, ssh, Deadlines::default());
        Self {
            engine: engine.await.unwrap(),
            socket,
            made: Mutex::default(),
        }
    }

    /// Makes a container.
    pub(crate) async fn create(&self, spec: &RunSpec) -> String {
        self.try_create(spec).await.unwrap()
    }

    pub(crate) async fn try_create(&self, spec: &RunSpec) -> Result<String, RunError> {
        let created = self.engine.create(spec).await?;
        self.made.lock().unwrap().push(created.id.clone());
        Ok(created.id)
    }

    /// Makes a container and starts it.
    pub(crate) async fn up(&self, spec: &RunSpec) -> String {
        let id = self.create(spec).await;
        self.engine.start(&id).await.unwrap();
        id
    }

    /// Runs a container to its end.
    pub(crate) async fn run(&self, spec: &RunSpec) -> Finished {
        let id = self.create(spec).await;
        self.finish(&id, spec.tty).await
    }

    /// Starts a container that was made, and follows it to its end.
    pub(crate) async fn finish(&self, id: &str, tty: bool) -> Finished {
        let how = AttachRequest {
            tty,
            ..AttachRequest::default()
        };
        let attachment = self.engine.attach(id, &how).await.unwrap();
        let waiting = self.engine.wait(id, Until::NextExit).await.unwrap();
        self.engine.start(id).await.unwrap();
        let (stdout, stderr) = drain(attachment.output).await;
        let code = waiting.exit().await.unwrap();
        Finished {
            code,
            stdout,
            stderr,
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let made = self.made.lock().unwrap();
        if !made.is_empty() {
            let _ = Command::new("docker")
                .args(["-H", &format!("unix://{}", self.socket.display())])
                .args(["rm", "--force", "--volumes"])
                .args(made.iter())
                .output();
        }
    }
}

/// A container of this test that runs a line of shell.
pub(crate) fn shell(script: &str) -> RunSpec {
    command(&["sh", "-c", script])
}

/// A container of this test.
pub(crate) fn command(words: &[&str]) -> RunSpec {
    static NEXT: AtomicU32 = AtomicU32::new(0);

    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    RunSpec {
        image: DEBIAN.to_owned(),
        name: format!("jobctl-test-run-{}-{number}", std::process::id()),
        command: Some(words.iter().map(|word| (*word).to_owned()).collect()),
        labels: BTreeMap::from([("dev.jobctl.test".to_owned(), "run".to_owned())]),
        networks: vec![NetworkAttachment::of("none")],
        init: Some(true),
        ..RunSpec::default()
    }
}

/// All that is still to come.
pub(crate) async fn drain(mut output: Output) -> (Vec<u8>, Vec<u8>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = output.next().await {
        let chunk = chunk.unwrap();
        match chunk.stream {
            Stream::Stdout => stdout.extend_from_slice(&chunk.bytes),
            Stream::Stderr => stderr.extend_from_slice(&chunk.bytes),
        }
    }
    (stdout, stderr)
}

//! What an engine sees of this machine: its files, its network.
//!
//! An address does not tell. A socket may be forwarded from another machine, an engine on this one may be
//! in a container, and one on another may have our files by way of a network file system. So the engine
//! is asked: it gets a new file with a random name as the source of a mount, and either knows it or does
//! not.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use super::client::DockerEngine;
use super::endpoint::Address;
use super::error::EngineError;
use crate::engine::PROBE;
use crate::engine::run::{Bound, BoundKind, RunError, RunSpec};
use crate::facts::host;
use crate::model::NetworkAttachment;

/// An image that no engine has: its name can't be one.
const NO_IMAGE: &str = "jobctl.invalid/probe:none";
/// A container that no engine has.
const NO_CONTAINER: &str = "jobctl-probe-none";
/// A file system that no two machines share.
const MEMORY: &str = "/dev/shm";
/// The label of a container that is created to read a file through it.
const LABEL: &str = "dev.jobctl.probe";
/// The file in a probe, and where the probe is in such a container.
const FILE: &str = "it";
const TARGET: &str = "/probe";
/// No file of a probe's is larger, with the header that an archive has of it.
const MOST_BYTES: u64 = 64 << 10;
/// A container that is so old was left by a jobctl that was killed.
const ABANDONED: Duration = Duration::from_mins(1);

/// What was found out of an engine already.
#[derive(Debug, Default)]
pub(super) struct Sight {
    state: OnceCell<bool>,
    machine: OnceCell<bool>,
}

/// The process behind a socket, by one of its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// It is in ours.
    Ours,
    /// It is in another, or can't be seen from here.
    Foreign,
    /// It is another user's, which does not say.
    Unknown,
}

impl DockerEngine {
    /// Whether the engine sees these files and directories where we see them, so that it can mount them.
    ///
    /// `state` is our own directory, and `scratch` one in it in which a file can be made. What is in
    /// `state` can be mounted if the engine sees a new file there. What is elsewhere might have a
    /// namesake on another machine, and can be mounted only if the engine is on this one.
    pub async fn sees_our_files(&self, state: &Path, scratch: &Path, paths: &[&Path]) -> bool {
        let sees_state = self.sight.state.get_or_init(|| self.sees_new_file(scratch));
        if !*sees_state.await {
            return false;
        }
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let state = real(state);
        let paths = paths.iter().map(|path| real(path));
        let others: Vec<_> = paths.filter(|path| !path.starts_with(&state)).collect();
        others.is_empty()
            || (self.peer("mnt").await != Peer::Foreign
                && self.is_on_this_machine().await
                && self.has_sources(&others).await != Some(false))
    }

    /// Whether a port that the engine publishes on this machine's addresses is one of this machine's.
    pub async fn shares_our_network(&self) -> bool {
        self.peer("net").await != Peer::Foreign && self.is_on_this_machine().await
    }

    async fn is_on_this_machine(&self) -> bool {
        let asking = || self.sees_new_file(Path::new(MEMORY));
        *self.sight.machine.get_or_init(asking).await
    }

    async fn sees_new_file(&self, directory: &Path) -> bool {
        match Probe::new(directory) {
            Ok(probe) => Box::pin(self.sees(&probe)).await,
            Err(error) => {
                tracing::debug!("{}: no probe: {error}", directory.display());
                false
            }
        }
    }

    /// Whether the engine sees a probe. Engine 20.10 answers without creating anything; for one that looks for
    /// the image first (26, 28, Podman), the probe is read back through a container.
    async fn sees(&self, probe: &Probe) -> bool {
        let there = [probe.path().to_owned()];
        let absent = [probe.path().join("none")];
        let answers = tokio::join!(self.has_sources(&there), self.has_sources(&absent));
        match answers {
            (Some(true), Some(false)) => true,
            (Some(false), _) => false,
            _ => self.reads_back(probe).await.unwrap_or_else(|error| {
                tracing::debug!("the probe is not read back: {error}");
                false
            }),
        }
    }

    /// Whether the engine has all of these as sources of mounts; nothing if it does not say. It is asked
    /// for a container of an image that it does not have: it looks at the mounts first, as Docker does,
    /// or not at all.
    async fn has_sources(&self, paths: &[PathBuf]) -> Option<bool> {
        let spec = RunSpec {
            image: NO_IMAGE.to_owned(),
            bound: (paths.iter().enumerate())
                .map(|(at, path)| mount(path, format!("{TARGET}/{at}")))
                .collect(),
            ..RunSpec::default()
        };
        match self.create(&spec).await {
            Err(RunError::NoImage { .. }) => Some(true),
            Err(RunError::Engine(EngineError::Refused {
                status: 400,
                message,
            })) if message.contains("does not exist") => Some(false),
            Err(_) => None,
            Ok(created) => {
                let _ = self.remove(&created.id).await;
                None
            }
        }
    }

    /// Whether the engine finds the init process that it puts into containers, for those that do not say so
    /// (Podman). Nothing where that can't be found out.
    ///
    /// It is asked for a container with one, in the network of a container that is not there: it looks for
    /// the program first, and creates nothing, which can take long with large images.
    pub async fn finds_init(&self) -> Option<bool> {
        let image = self.images().await.ok()?.into_iter().next()?;
        let spec = RunSpec {
            init: Some(true),
            networks: vec![NetworkAttachment::of(format!("container:{NO_CONTAINER}"))],
            ..probe_of(image.id.to_string())
        };
        match self.create(&spec).await {
            Err(RunError::NoInit { .. }) => Some(false),
            Err(RunError::Engine(EngineError::Refused { message, .. }))
                if message.contains(NO_CONTAINER) =>
            {
                Some(true)
            }
            Err(_) => None,
            Ok(created) => {
                let _ = self.remove(&created.id).await;
                None
            }
        }
    }

    /// Creates a container with the probe in it, of any image, and reads the probe back.
    async fn reads_back(&self, probe: &Probe) -> Result<bool, RunError> {
        for left in self.containers_labelled(LABEL, None).await? {
            let created = left.created.unwrap_or_default();
            if host::now().duration_since(created).unsigned_abs() > ABANDONED {
                self.remove(&left.id).await?;
            }
        }
        let Some(image) = self.images().await?.into_iter().next() else {
            return Ok(false);
        };
        let spec = RunSpec {
            bound: vec![mount(probe.path(), TARGET.to_owned())],
            ..probe_of(image.id.to_string())
        };
        let created = self.create(&spec).await?;
        let path = format!("{TARGET}/{FILE}");
        let read = self.small_file(&created.id, &path, MOST_BYTES).await;
        self.remove(&created.id).await?;
        Ok(read? == probe.content)
    }

    /// The process behind our socket.
    async fn peer(&self, namespace: &str) -> Peer {
        let Address::Unix(path) = &self.endpoint().address else {
            return Peer::Foreign;
        };
        let Ok(socket) = UnixStream::connect(path).await else {
            return Peer::Foreign;
        };
        // The number of a process that is in none of our namespaces is 0.
        let process = socket.peer_cred().ok().and_then(|peer| peer.pid());
        let Some(process) = process.filter(|process| *process > 0) else {
            return Peer::Foreign;
        };
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}"));
        match (of(&process.to_string()), of("self")) {
            (Ok(theirs), Ok(ours)) if theirs == ours => Peer::Ours,
            (Ok(_), Ok(_)) => Peer::Foreign,
            _ => Peer::Unknown,
        }
    }
}

/// A container that is created, and not started.
fn probe_of(image: String) -> RunSpec {
    RunSpec {
        image,
        command: Some(vec![FILE.to_owned()]),
        labels: BTreeMap::from([(LABEL.to_owned(), "true".to_owned())]),
        networks: vec![NetworkAttachment::of("none")],
        ..RunSpec::default()
    }
}

fn mount(source: &Path, target: String) -> Bound {
    let source = Some(source.to_string_lossy().into_owned());
    Bound::of(BoundKind::Bind, source, target).read_only()
}

/// A directory with a random name and a file in it, until it is dropped.
struct Probe {
    directory: TempDir,
    content: String,
}

impl Probe {
    /// In a directory that is there.
    fn new(directory: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(PROBE)
            .rand_bytes(20)
            .tempdir_in(directory.canonicalize()?)?;
        let content = uuid::Uuid::new_v4().to_string();
        fs::write(directory.path().join(FILE), &content)?;
        Ok(Self { directory, content })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

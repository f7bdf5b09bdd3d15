//! What is written down of who needs an image, for all projects of a user, beside the digests of contexts.
//!
//! Each process has files of its own, one for each image that it has built or found, and one for each that it
//! runs: no process takes back what another has said.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use crate::engine::docker::DockerEngine;
use crate::facts::read_small;
use crate::model::Digest;
use crate::records::{ImageRecord, Store, durable};

/// The directory with what is written down.
const CLAIMS: &str = "images";
/// Held by whoever removes images, and while a claim is made.
const LOCK: &str = "images.lock";
/// How long the lock is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait between two looks at it.
const PAUSE: Duration = Duration::from_millis(20);
/// No claim has more bytes.
const LARGEST: u64 = 64 << 10;

/// What a project has to do with an image.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// It has built the image, or found it to be up to date: its labels are jobctl's own.
    Built,
    /// It has pulled the image as a job's. Its labels are whatever the registry's image says.
    Pulled,
    /// It is pushing the image, until the process is gone.
    Pushed,
    /// It runs the image.
    // The least that a claim without a kind may mean.
    #[default]
    Run,
}

impl Kind {
    /// Whether the image is a job's own.
    fn is_of_job(self) -> bool {
        matches!(self, Self::Built | Self::Pulled)
    }
}

/// A project that has built or pulled an image, or runs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Its state directory.
    pub(super) store: PathBuf,
    /// The process that says so, and may be about to run it.
    process: u32,
    #[serde(default)]
    pub(super) kind: Kind,
}

impl Claim {
    fn new(store: &Store, kind: Kind) -> Self {
        Self {
            store: store.place(),
            process: std::process::id(),
            kind,
        }
    }

    fn file_name(&self) -> String {
        let store = Digest::of(self.store.as_os_str().as_encoded_bytes());
        let store = store.as_str().replace(':', "-");
        let suffix = match self.kind {
            Kind::Built => "",
            Kind::Pulled => "-pulled",
            Kind::Pushed => "-pushed",
            Kind::Run => "-run",
        };
        format!("{store}-{}{suffix}", self.process)
    }

    /// Whether the process is another one, and there.
    pub(super) fn is_of_another_process(&self) -> bool {
        self.process != std::process::id()
            && Path::new("/proc").join(self.process.to_string()).exists()
    }
}

/// Whether claims can be kept there.
///
/// # Errors
///
/// There is no place for them.
pub(super) fn check(cache: &Path) -> io::Result<()> {
    let claims = cache.join(CLAIMS);
    durable::create_directory(cache)?;
    durable::create_directory(&claims)?;
    // Both may be there in what can't be changed.
    Ok(rustix::fs::access(&claims, Access::WRITE_OK)?)
}

/// Images that no other process removes until it is dropped.
#[derive(Debug, Default)]
pub struct Kept(Vec<PathBuf>);

impl Drop for Kept {
    fn drop(&mut self) {
        for path in &self.0 {
            // What is left says nothing once the process is gone.
            let _ = fs::remove_file(path);
        }
    }
}

/// Keeps other processes from removing images that are about to be pushed.
pub async fn keep_pushed<'a>(
    store: &Store,
    cache: Option<&Path>,
    images: impl IntoIterator<Item = &'a Digest>,
) -> Kept {
    let mut kept = Kept::default();
    let Some(cache) = cache else {
        return kept;
    };
    // A push does not fail for it.
    let _lock = hold(cache).await;
    for image in images {
        match claim(cache, store, image, Kind::Pushed) {
            Ok(path) => kept.0.push(path),
            Err(error) => tracing::info!("that {image} is pushed: {error}"),
        }
    }
    kept
}

/// Keeps others from removing images, and from claiming them, until it is dropped.
///
/// # Errors
///
/// There is no place for it, or another process has it for too long.
pub async fn hold(cache: &Path) -> io::Result<File> {
    durable::create_directory(cache)?;
    let file = durable::change(&cache.join(LOCK))?;
    let waiting = async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await??;
    Ok(file)
}

/// Writes down that a run has this image, before it is recorded. An image that isn't here is not anybody's that
/// was built.
pub(in crate::ops) async fn note_run(
    engine: &DockerEngine,
    store: &Store,
    cache: Option<&PathBuf>,
    image: &ImageRecord,
) {
    let Some(cache) = cache else {
        return;
    };
    let noting = async {
        // A run does not fail for it.
        let _lock = hold(cache).await;
        let name = image.id.as_ref().unwrap_or(&image.name);
        match engine.image(name).await.map_err(io::Error::other)? {
            Some(found) => claim(cache, store, &found.id, Kind::Run).map(drop),
            None => Ok(()),
        }
    };
    if let Err(error) = noting.await {
        tracing::info!("that {} is run: {error}", image.name);
    }
}

/// Writes down what a project has to do with an image; the file that says so.
pub(super) fn claim(
    cache: &Path,
    store: &Store,
    image: &Digest,
    kind: Kind,
) -> io::Result<PathBuf> {
    let directory = directory(cache, image);
    let claim = Claim::new(store, kind);
    let path = directory.join(claim.file_name());
    durable::create_directory(&directory)?;
    durable::write(&path, serde_json::to_string(&claim)?.as_bytes())?;
    // Those of processes that are gone say nothing more than this one.
    for (other, said) in read(cache, image)? {
        let is_same = (&said.store, said.kind) == (&claim.store, claim.kind);
        if is_same && other != path && !said.is_of_another_process() {
            let _ = fs::remove_file(other);
        }
    }
    Ok(path)
}

/// What is said of an image, and where.
pub(super) fn read(cache: &Path, image: &Digest) -> io::Result<Vec<(PathBuf, Claim)>> {
    let entries = match fs::read_dir(directory(cache, image)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut claims = Vec::new();
    for entry in entries {
        let entry = entry?;
        // What is being written is not there yet.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match read_small(&entry.path(), LARGEST) {
            Ok(text) => claims.push((entry.path(), serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(claims)
}

/// When a project, or any of the user's, has last built an image, or found it to be up to date.
pub(super) fn built_at(
    cache: &Path,
    store: Option<&Store>,
    image: &Digest,
) -> io::Result<Option<Timestamp>> {
    claimed_at(cache, store, image, |kind| kind == Kind::Built)
}

/// When a project, or any of the user's, has last built an image, found it to be up to date, or pulled it as a
/// job's.
pub(super) fn had_at(
    cache: &Path,
    store: Option<&Store>,
    image: &Digest,
) -> io::Result<Option<Timestamp>> {
    claimed_at(cache, store, image, Kind::is_of_job)
}

fn claimed_at(
    cache: &Path,
    store: Option<&Store>,
    image: &Digest,
    is_meant: impl Fn(Kind) -> bool,
) -> io::Result<Option<Timestamp>> {
    let mut claimed = None;
    for (path, claim) in read(cache, image)? {
        if store.is_none_or(|store| claim.store == store.place()) && is_meant(claim.kind) {
            let time = fs::metadata(path)?.modified()?;
            claimed = claimed.max(Some(Timestamp::try_from(time).map_err(io::Error::other)?));
        }
    }
    Ok(claimed)
}

/// Whether any project of the user's has built an image, or found it to be up to date. Labels alone don't tell:
/// what is made from an image inherits them, and anybody can write them.
pub(super) fn is_known(cache: &Path, image: &Digest) -> bool {
    matches!(built_at(cache, None, image), Ok(Some(_)))
}

/// Forgets an image that is gone.
pub(super) fn forget(cache: &Path, image: &Digest) {
    // What is left of the claims is in nobody's way.
    let _ = fs::remove_dir_all(directory(cache, image));
}

/// Where an image's claims are.
fn directory(cache: &Path, image: &Digest) -> PathBuf {
    cache.join(CLAIMS).join(image.as_str().replace(':', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_a_claim_of_its_own() {
        let top = tempfile::tempdir().unwrap();
        let cache = top.path().canonicalize().unwrap().join("cache");
        let image = Digest::of(b"image");
        let store = Store::new(top.path().join("project/.jobctl"));
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        claim(&cache, &store, &image, Kind::Built).unwrap();
        let other = Claim {
            process: child.id(),
            ..Claim::new(&store, Kind::Built)
        };
        let path = directory(&cache, &image).join(other.file_name());
        durable::write(&path, serde_json::to_string(&other).unwrap().as_bytes()).unwrap();
        let said = |kind| {
            let claims = read(&cache, &image).unwrap().into_iter();
            claims.filter(|(_, claim)| claim.kind == kind).count()
        };
        claim(&cache, &store, &image, Kind::Built).unwrap();
        claim(&cache, &store, &image, Kind::Run).unwrap();
        assert_eq!((said(Kind::Built), said(Kind::Run)), (2, 1));
        assert!(other.is_of_another_process());
        drop(child.stdin.take());
        child.wait().unwrap();
        claim(&cache, &store, &image, Kind::Built).unwrap();
        assert_eq!((said(Kind::Built), said(Kind::Run)), (1, 1));
        assert!(built_at(&cache, Some(&store), &image).unwrap().is_some());
        forget(&cache, &image);
        assert_eq!(read(&cache, &image).unwrap(), []);
    }

    #[tokio::test]
    async fn what_is_pushed_is_kept_until_the_push_has_ended() {
        let top = tempfile::tempdir().unwrap();
        let cache = top.path().canonicalize().unwrap().join("cache");
        let store = Store::new(top.path().join("project/.jobctl"));
        let image = Digest::of(b"image");
        claim(&cache, &store, &image, Kind::Built).unwrap();
        let kept = keep_pushed(&store, Some(&cache), [&image]).await;
        let kinds = || {
            let claims = read(&cache, &image).unwrap().into_iter();
            let mut kinds: Vec<_> = claims
                .map(|(_, claim)| format!("{:?}", claim.kind))
                .collect();
            kinds.sort();
            kinds
        };
        assert_eq!(kinds(), ["Built", "Pushed"]);
        drop(kept);
        assert_eq!(kinds(), ["Built"]);
    }

    #[test]
    fn only_what_was_built_here_is_known() {
        let top = tempfile::tempdir().unwrap();
        let cache = top.path().canonicalize().unwrap();
        let store = Store::new(top.path().join("project/.jobctl"));
        for (kind, is_built, is_had) in [
            (Kind::Built, true, true),
            (Kind::Pulled, false, true),
            (Kind::Pushed, false, false),
            (Kind::Run, false, false),
        ] {
            let image = Digest::of(format!("{kind:?}").as_bytes());
            claim(&cache, &store, &image, kind).unwrap();
            assert_eq!(is_known(&cache, &image), is_built, "{kind:?}");
            let had = had_at(&cache, None, &image).unwrap();
            assert_eq!(had.is_some(), is_had, "{kind:?}");
        }
        // What does not say its kind.
        let image = Digest::of(b"image");
        let path = directory(&cache, &image).join("claim");
        durable::create_directory(path.parent().unwrap()).unwrap();
        durable::write(&path, br#"{"store":"/project/.jobctl","process":1}"#).unwrap();
        assert!(!is_known(&cache, &image));
        assert_eq!(read(&cache, &image).unwrap()[0].1.kind, Kind::Run);
    }
}

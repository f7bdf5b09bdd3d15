//! Files and folders that a run reads.

use std::collections::BTreeMap;
use std::io::{self, BufWriter};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::RunFailure;
use super::attempt::Work;
use crate::context::{ContextError, Filter, StatCache, digest, file_content};
use crate::engine::docker::DockerEngine;
use crate::model::Name;
use crate::ops::pipe::{PARTS_WAITING, Sent};
use crate::plan::run::PlannedInput;
use crate::records::{InputRecord, Record, Store, hex};

/// Bytes that are read or sent at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Describes a file or directory for the record: its content's digest, and how much it is. What is as it
/// was when it was last described is not read again.
///
/// # Errors
///
/// It can't be read; why, in words.
fn describe(
    source: &Path,
    shown: &str,
    target: &str,
    cache: Option<&Path>,
) -> Result<InputRecord, ContextError> {
    let (sha256, bytes) = content(source, cache)?;
    Ok(InputRecord {
        source: shown.to_owned(),
        path: Some(source.to_string_lossy().into_owned()),
        target: target.to_owned(),
        sha256,
        is_executable: is_executable(source),
        bytes,
        is_changed: false,
        sha256_at_end: None,
    })
}

fn is_executable(source: &Path) -> bool {
    let metadata = source.metadata();
    metadata.is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// The digest of a file or directory, and how many bytes it has.
fn content(source: &Path, cache: Option<&Path>) -> Result<(String, u64), ContextError> {
    let mut cache = cache.map_or_else(StatCache::default, StatCache::load);
    let (sha256, bytes) = if source.is_dir() {
        let found = digest(source, &Filter::default(), &mut cache)?;
        (found.sha256, found.bytes)
    } else {
        file_content(source, &mut cache)?
    };
    if let Err(error) = cache.save() {
        tracing::debug!("a cache is not kept: {error}");
    }
    Ok((hex(&sha256), bytes))
}

/// Describes all inputs of a run, several at once.
///
/// # Errors
///
/// One can't be read.
pub(super) async fn describe_all(
    store: &Store,
    inputs: BTreeMap<Name, PlannedInput>,
) -> Result<BTreeMap<String, InputRecord>, RunFailure> {
    let describing = inputs.into_iter().map(|(name, input)| {
        let cache = store.input_cache(&input.source);
        let describing = tokio::task::spawn_blocking(move || {
            describe(
                &input.source,
                &input.shown,
                input.target.as_str(),
                cache.as_deref(),
            )
        });
        async move {
            let described = describing.await.expect("reading files does not panic");
            match described {
                Ok(record) => Ok((name.to_string(), record)),
                Err(error) => Err(RunFailure::Input {
                    name,
                    reason: error.to_string(),
                }),
            }
        }
    });
    let described = futures_util::future::try_join_all(describing).await?;
    Ok(described.into_iter().collect())
}

/// Looks whether the inputs of a run that has ended are what they were when it began; if one is not, the
/// job may have read anything, and the record says so.
pub(super) async fn check(work: &Work<'_>, record: &mut Record) {
    for (name, input) in &mut record.inputs {
        let Some(path) = input.path.clone().map(PathBuf::from) else {
            continue;
        };
        let cache = work.folder.input_cache(&path);
        let looking = tokio::task::spawn_blocking(move || content(&path, cache.as_deref()));
        let found = looking.await.expect("reading files does not panic");
        let (sha256, what) = match found {
            Ok((sha256, _)) if sha256 == input.sha256 => continue,
            Ok((sha256, _)) => {
                let what = format!(
                    "sha256:{} before it, sha256:{sha256} after it",
                    input.sha256
                );
                (Some(sha256), what)
            }
            Err(error) => (None, error.to_string()),
        };
        input.is_changed = true;
        input.sha256_at_end = sha256;
        let warning = format!("the input `{name}` changed while the job ran: {what}");
        if !record.warnings.contains(&warning) {
            record.warnings.push(warning);
        }
    }
}

/// Copies a file or folder into a container, for an engine that does not see this machine's files.
pub(super) async fn copy_in(
    engine: &DockerEngine,
    container: &str,
    from: &Path,
    to: &str,
) -> Result<(), RunFailure> {
    let (sender, receiver) = mpsc::channel(PARTS_WAITING);
    let from: PathBuf = from.to_owned();
    // From the root, so that folders which are not there are made.
    let name = to.trim_start_matches('/').to_owned();
    tokio::task::spawn_blocking(move || {
        let failed = sender.clone();
        let packed = pack(&from, &name, sender);
        if let Err(error) = packed {
            // Nobody listens once the engine has refused.
            let _ = failed.blocking_send(Err(error));
        }
    });
    let archive = ReceiverStream::new(receiver);
    engine.copy_in(container, "/", archive).await?;
    Ok(())
}

fn pack(
    from: &Path,
    name: &str,
    sender: mpsc::Sender<io::Result<hyper::body::Bytes>>,
) -> io::Result<()> {
    let out = BufWriter::with_capacity(CHUNK_BYTES, Sent(sender));
    let mut archive = tar::Builder::new(out);
    archive.follow_symlinks(false);
    let path = Path::new(name);
    let mut above: Vec<_> = path.ancestors().skip(1).collect();
    above.reverse();
    for folder in above
        .into_iter()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        archive.append_data(&mut header, folder, io::empty())?;
    }
    if from.is_dir() {
        archive.append_dir_all(path, from)?;
    } else {
        archive.append_file(path, &mut std::fs::File::open(from)?)?;
    }
    archive
        .into_inner()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    Ok(())
}

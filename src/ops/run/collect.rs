//! What is taken from a container when it has ended: its outputs, and the metrics in its files.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::attempt::{Work, latest};
use super::unpack::{Unpacked, unpack};
use super::{inputs, metric_files};
use crate::context::{Filter, Kind, StatCache, contents};
use crate::engine::docker::EngineError;
use crate::engine::run::RunError;
use crate::ops::pipe::{PARTS_WAITING, Received};
use crate::ops::tree::Tree;
use crate::records::{CollectedFile, Ending, OutputRecord, OutputsDirectory, Record, RunFolder};

/// How many links an output's path may lead through, as many as Linux follows (`man 7 path_resolution`).
const MOST_LINKS: usize = 40;
/// How often an archive is asked for whose engine went away meanwhile.
const TRIES: u32 = 3;

/// Collects what the policy names, after the last attempt has ended.
///
/// An output that can't be collected is in the record's `lost_outputs` with the reason, and so does
/// one that a job which succeeded did not make: the container is kept then. Outputs that were collected
/// of this attempt before are left as they are.
pub(super) async fn collect(work: &Work<'_>, record: &mut Record) {
    let Some(container) = latest(record).container_id.clone() else {
        return;
    };
    // Where the project was moved to, the next jobctl collects them.
    if !work.folder.path().is_dir() {
        return;
    }
    // One that never ran has made nothing, and one that somebody removed has nothing any more.
    if latest(record).started.is_none() || latest(record).is_removed {
        return;
    }
    let has_succeeded = latest(record).ending == Some(Ending::Success);
    let policy = record.policy.clone();
    let is_second_try = !record.lost_outputs.is_empty();
    let lost = std::mem::take(&mut record.lost_outputs);
    for (name, path) in &policy.outputs {
        if is_second_try && !lost.contains_key(name) {
            continue;
        }
        let is_optional = policy.optional_outputs.contains(name);
        let wanted = Wanted {
            name,
            path,
            most_bytes: policy.max_output_bytes.get(name).copied(),
            is_required: has_succeeded && !is_optional,
        };
        let (kept, absence) = match fetch(work, &container, &wanted).await {
            Ok(Ok(output)) if output.file_count > 0 => (Some(output), None),
            Ok(Ok(output)) => {
                let reason = format!("the job wrote nothing to `{path}`");
                (Some(output), Some(reason))
            }
            Ok(Err(absence)) => (None, Some(absence)),
            Err(reason) => {
                let reason = work.masker.masked(&reason);
                record.lost_outputs.insert(name.clone(), reason);
                continue;
            }
        };
        if let Some(reason) = absence.filter(|_| !is_optional) {
            if has_succeeded {
                let reason = work.masker.masked(&reason);
                record.lost_outputs.insert(name.clone(), reason);
                continue;
            }
            work.warn(record, format!("the output `{name}` is missing: {reason}"));
        }
        record
            .outputs
            .extend(kept.map(|output| (name.clone(), output)));
    }
    inputs::check(work, record).await;
    metric_files::collect(work, record, &container, has_succeeded).await;
}

/// An output as it is asked for.
struct Wanted<'a> {
    name: &'a str,
    /// Where it is in the container.
    path: &'a str,
    most_bytes: Option<u64>,
    /// Whether the run has no success without it.
    is_required: bool,
}

/// Fetches an output of a container, or says that it isn't there. Where its path is that of a link in the
/// container, what that points to is the output.
async fn fetch(
    work: &Work<'_>,
    container: &str,
    wanted: &Wanted<'_>,
) -> Result<Result<OutputRecord, String>, String> {
    let outputs = work.folder.outputs(true).map_err(|error| {
        let place = work.folder.path().join("outputs");
        format!("`{}`: {error}", place.display())
    })?;
    let outputs = Arc::new(outputs);
    let part = outputs.path().join(format!(".{}.part", wanted.name));
    let mut path = PathBuf::from(wanted.path);
    let name = path.file_name().unwrap_or_default().to_owned();
    for _ in 0..MOST_LINKS {
        let unpacking = {
            let (part, most_bytes) = (part.clone(), wanted.most_bytes);
            let name = name.clone();
            move |archive: Received| {
                make_empty(&part)?;
                unpack(archive, &part, &name, most_bytes)
            }
        };
        let Some(asked) = path.to_str() else {
            remove(part).await;
            let (wanted, path) = (wanted.path, path.display());
            return Err(format!(
                "`{wanted}` is a link to `{path}`, which is not UTF-8: the engine can't be asked for it"
            ));
        };
        let unpacked = through(work, container, asked, unpacking).await;
        let files = match unpacked {
            Ok(Some(Ok(Unpacked::Files(files)))) => files,
            Ok(Some(Ok(Unpacked::Link(target)))) => {
                path = path.parent().unwrap_or(Path::new("/")).join(target);
                continue;
            }
            Ok(None) => {
                remove(part).await;
                return Ok(Err(absence(Path::new(wanted.path), &path)));
            }
            Ok(Some(Err(error))) => {
                remove(part).await;
                return Err(match error.file {
                    Some(file) => format!("`{}`: {}", file.display(), error.source),
                    None => error.source.to_string(),
                });
            }
            Err(reason) => {
                remove(part).await;
                return Err(reason);
            }
        };
        if files.is_empty() && wanted.is_required {
            remove(part).await;
            return Ok(Err(format!("the job wrote nothing to `{}`", wanted.path)));
        }
        let placing = {
            let (outputs, name) = (Arc::clone(&outputs), wanted.name.to_owned());
            let (part, path) = (part.clone(), wanted.path.to_owned());
            move || place(&outputs, &name, &part, &files, path)
        };
        let placed = tokio::task::spawn_blocking(placing).await;
        let placed = placed.map_err(io::Error::other).and_then(|placed| placed);
        if placed.is_err() {
            remove(part).await;
        }
        return placed.map(Ok).map_err(|error| error.to_string());
    }
    remove(part).await;
    Err("too many links lead on from it".to_owned())
}

/// Why an output is not there.
fn absence(wanted: &Path, path: &Path) -> String {
    let (wanted, target) = (wanted.display(), path.display());
    if wanted.to_string() == target.to_string() {
        return format!("there is no `{wanted}` in the container");
    }
    let memory = if path.starts_with("/dev") {
        "; it was in memory"
    } else {
        ""
    };
    format!("`{wanted}` is a link to `{target}`, which is not in the container{memory}")
}

/// Makes a directory that has nothing in it, for its owner alone.
fn make_empty(folder: &Path) -> io::Result<()> {
    remove_all(folder)?;
    fs::DirBuilder::new().mode(0o700).create(folder)
}

fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes half a copy. What can't be removed is removed with the run.
async fn remove(part: PathBuf) {
    let _ = tokio::task::spawn_blocking(move || remove_all(&part)).await;
}

/// Reads the archive of a path of a container in a thread of its own, which hears of it where the archive
/// breaks off. An engine that is gone is waited for, and asked again.
pub(super) async fn through<T: Send + 'static>(
    work: &Work<'_>,
    container: &str,
    path: &str,
    read: impl FnOnce(Received) -> T + Clone + Send + 'static,
) -> Result<Option<T>, String> {
    let mut tries = 1;
    loop {
        let asked = work.patiently(|| async {
            match work.engine.copy_out(container, path).await {
                Err(RunError::Engine(error)) => Err(error),
                answer => Ok(answer),
            }
        });
        let (found, _) = asked.await.map_err(|error| error.to_string())?;
        let Some(archive) = found.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let (sender, receiver) = mpsc::channel(PARTS_WAITING);
        let read = read.clone();
        let reading = tokio::task::spawn_blocking(move || read(Received::new(receiver)));
        let mut archive = std::pin::pin!(archive);
        let mut is_lost = false;
        while let Some(part) = archive.next().await {
            is_lost = part.as_ref().is_err_and(EngineError::is_absence);
            let part = part.map_err(|error| io::Error::other(error.to_string()));
            if sender.send(part).await.is_err() {
                break;
            }
        }
        drop(sender);
        let read = reading.await.map_err(|error| error.to_string())?;
        if !is_lost || tries == TRIES {
            return Ok(Some(read));
        }
        tries += 1;
    }
}

/// Puts what was unpacked in its place, with the list of its files, and describes it.
fn place(
    outputs: &OutputsDirectory,
    name: &str,
    part: &Path,
    files: &[CollectedFile],
    path: String,
) -> io::Result<OutputRecord> {
    let output = outputs.path().join(name);
    remove_all(&output)?;
    outputs.write_list(name, files)?;
    fs::rename(part, &output)?;
    rustix::fs::syncfs(fs::File::open(&output)?)?;
    Ok(OutputRecord::of(path, files))
}

/// The files of an output that was collected, as they are now. Those that are as they were when they were
/// last looked at are not read again.
pub(in crate::ops) fn files(folder: &RunFolder, name: &str) -> io::Result<Vec<CollectedFile>> {
    let outputs = folder.outputs(false)?;
    let kept = outputs.path().join(name);
    // The walk follows the link that its top may be.
    Tree::open(&kept)?;
    let mut cache = StatCache::load(&outputs.path().join(format!(".{name}.stat")));
    let contents = contents(&kept, &Filter::default(), &mut cache);
    let contents = contents.map_err(io::Error::other)?;
    if let Err(error) = cache.save() {
        tracing::debug!("a cache is not kept: {error}");
    }
    let files = contents.into_iter().filter_map(|(entry, content)| {
        let link = match entry.kind {
            Kind::Symlink => entry
                .link
                .map(|link| PathBuf::from(OsString::from_vec(link))),
            _ => None,
        };
        let sha256 = match &link {
            Some(link) => Sha256::digest(link.as_os_str().as_bytes()).into(),
            None => content?,
        };
        Some(CollectedFile {
            path: OsString::from_vec(entry.path).into(),
            sha256,
            bytes: if link.is_some() { 0 } else { entry.stamp.size },
            link,
        })
    });
    let mut files: Vec<_> = files.collect();
    files.sort_unstable_by(|left, right| left.path.as_os_str().cmp(right.path.as_os_str()));
    Ok(files)
}

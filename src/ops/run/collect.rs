//! What is taken from a container when it has ended: its outputs, and the metrics in its files.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::attempt::{Work, latest};
use super::inputs::sha256;
use crate::facts::host::now;
use crate::ops::pipe::{PARTS_WAITING, Received};
use crate::records::metrics::{MetricsWriter, Point, read_file, series};
use crate::records::{CollectedFile, OutputRecord, Record};

/// The largest file of metrics that is read.
const MOST_METRIC_BYTES: u64 = 64 << 20;

/// Collects what the policy names. What is not there, or can't be kept, is a warning: the run
/// ended as it ended.
pub(super) async fn collect(work: &Work<'_>, record: &mut Record) {
    let Some(container) = latest(record).container_id.clone() else {
        return;
    };
    // One that never ran has made nothing.
    if latest(record).started.is_none() {
        return;
    }
    let policy = record.policy.clone();
    for (name, path) in &policy.outputs {
        let folder = work.folder.output(name);
        match fetch(work, &container, path, &folder).await {
            Ok(Some(output)) => {
                record.outputs.insert(name.clone(), output);
            }
            Ok(None) => record.warnings.push(format!(
                "the output `{name}` is missing: there is no `{path}` in the container"
            )),
            Err(reason) => record
                .warnings
                .push(format!("the output `{name}` is not collected: {reason}")),
        }
    }
    for path in &policy.metric_files {
        match read_metrics(work, &container, path).await {
            Ok(Some(points)) => keep(work, &points),
            Ok(None) => record
                .warnings
                .push(format!("there is no file of metrics at `{path}`")),
            Err(reason) => record
                .warnings
                .push(format!("the metrics in `{path}` can't be read: {reason}")),
        }
    }
    match series(work.folder.path(), None) {
        // The last one of a name wins.
        Ok(points) => {
            let points = points.into_iter();
            record.metrics = points.map(|point| (point.name, point.value)).collect();
        }
        Err(error) => record.warnings.push(format!("metrics are lost: {error}")),
    }
}

/// Looks into files of metrics that grow while the job runs. What can't be read now is read at the
/// end.
pub(super) async fn glance(work: &Work<'_>, container: &str, files: &[String]) {
    let grows = |path: &str| {
        Path::new(path)
            .extension()
            .is_some_and(|end| end == "jsonl")
    };
    for path in files.iter().filter(|path| grows(path)) {
        match read_metrics(work, container, path).await {
            Ok(Some(points)) => keep(work, &points),
            Ok(None) => {}
            Err(reason) => tracing::info!("metrics in {path}: {reason}"),
        }
    }
}

/// Keeps the points that are new.
fn keep(work: &Work<'_>, points: &[Point]) {
    let folder = work.folder.path();
    let key = |point: &Point| {
        let step = point.step.map(f64::to_bits);
        (point.name.clone(), step, point.value.to_bits())
    };
    let kept = series(folder, None).and_then(|known| {
        let known: HashSet<_> = known.iter().map(key).collect();
        let new = points.iter().filter(|point| !known.contains(&key(point)));
        let new: Vec<_> = new.cloned().collect();
        MetricsWriter::open(folder)?.append(&new, now())
    });
    if let Err(error) = kept {
        tracing::warn!("metrics are lost: {error}");
    }
}

/// Fetches a file or folder of a container. Nothing, if it isn't there.
async fn fetch(
    work: &Work<'_>,
    container: &str,
    path: &str,
    folder: &Path,
) -> Result<Option<OutputRecord>, String> {
    let part = folder.with_extension("part");
    let unpacking = {
        let part = part.clone();
        move |archive: Received| unpack(archive, &part)
    };
    let unpacked = match through(work, container, path, unpacking).await? {
        None => return Ok(None),
        Some(unpacked) => unpacked.map_err(|error| error.to_string())?,
    };
    let folder = folder.to_owned();
    let path = path.to_owned();
    let placing = move || place(&unpacked, &part, &folder, path);
    let placed = tokio::task::spawn_blocking(placing).await;
    placed
        .map_err(|error| error.to_string())?
        .map(Some)
        .map_err(|error| error.to_string())
}

/// Reads the archive of a path of a container in a thread of its own.
async fn through<T: Send + 'static>(
    work: &Work<'_>,
    container: &str,
    path: &str,
    read: impl FnOnce(Received) -> T + Send + 'static,
) -> Result<Option<T>, String> {
    let found = work.engine.copy_out(container, path).await;
    let Some(archive) = found.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let (sender, receiver) = mpsc::channel(PARTS_WAITING);
    let reading = tokio::task::spawn_blocking(move || read(Received::new(receiver)));
    let mut archive = std::pin::pin!(archive);
    while let Some(bytes) = archive.next().await {
        let bytes = bytes.map_err(|error| error.to_string())?;
        if sender.send(bytes).await.is_err() {
            break;
        }
    }
    drop(sender);
    reading.await.map(Some).map_err(|error| error.to_string())
}

/// Unpacks an archive into a new folder. What comes back is its only entry there.
fn unpack(mut archive: Received, part: &Path) -> io::Result<PathBuf> {
    if part.exists() {
        fs::remove_dir_all(part)?;
    }
    fs::create_dir_all(part)?;
    let mut root = None;
    {
        let mut archive = tar::Archive::new(&mut archive);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let kind = entry.header().entry_type();
            // Devices and pipes are nobody's output.
            if kind.is_block_special() || kind.is_character_special() || kind.is_fifo() {
                continue;
            }
            if root.is_none() {
                let path = entry.path()?;
                root = path.components().next().map(|first| part.join(first));
            }
            // Refuses what would leave the folder, through links too.
            entry.unpack_in(part)?;
        }
    }
    // Whatever follows the archive's end.
    io::copy(&mut archive, &mut io::sink())?;
    root.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the engine sent nothing"))
}

/// Puts what was unpacked in its place, and describes it.
fn place(unpacked: &Path, part: &Path, folder: &Path, path: String) -> io::Result<OutputRecord> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    if unpacked.symlink_metadata()?.is_dir() {
        fs::rename(unpacked, folder)?;
        fs::remove_dir_all(part)?;
    } else {
        fs::rename(part, folder)?;
    }
    let files = files(folder)?;
    rustix::fs::syncfs(fs::File::open(folder)?)?;
    Ok(OutputRecord {
        path,
        sha256: tree(&files),
        files,
    })
}

/// The files of an output that was collected, as they are now.
pub(in crate::ops) fn files(folder: &Path) -> io::Result<Vec<CollectedFile>> {
    let mut files = Vec::new();
    list(folder, "", &mut files)?;
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

fn list(folder: &Path, prefix: &str, files: &mut Vec<CollectedFile>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = format!("{prefix}{}", name.to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(entry.path())?.to_string_lossy().into_owned();
            files.push(CollectedFile {
                path,
                sha256: format!("{:x}", Sha256::digest(&link)),
                bytes: 0,
                link: Some(link),
            });
        } else {
            let (sha256, bytes) = sha256(&entry.path())?;
            files.push(CollectedFile {
                path,
                sha256,
                bytes,
                link: None,
            });
        }
    }
    Ok(())
}

/// The digest of names and contents: that of the lines `sha256  path`, as `sha256sum` writes them.
fn tree(files: &[CollectedFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{}  {}\n", file.sha256, file.path));
    }
    format!("{:x}", hash.finalize())
}

/// The metrics in a file of a container. Nothing, if it isn't there.
async fn read_metrics(
    work: &Work<'_>,
    container: &str,
    path: &str,
) -> Result<Option<Vec<Point>>, String> {
    let read = |archive: Received| -> io::Result<Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let mut text = Vec::new();
        for entry in archive.entries()? {
            let entry = entry?;
            if entry.header().entry_type().is_file() {
                entry.take(MOST_METRIC_BYTES).read_to_end(&mut text)?;
            }
        }
        Ok(text)
    };
    let Some(text) = through(work, container, path, read).await? else {
        return Ok(None);
    };
    let text = text.map_err(|error| error.to_string())?;
    let points = read_file(path, &text);
    points.map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_output_is_its_names_and_contents() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("model.part");
        let unpacked = part.join("artifacts");
        fs::create_dir_all(unpacked.join("deep")).unwrap();
        fs::write(unpacked.join("deep/b"), "b").unwrap();
        fs::write(unpacked.join("a"), "").unwrap();
        std::os::unix::fs::symlink("a", unpacked.join("link")).unwrap();
        let to = folder.path().join("model");
        let output = place(&unpacked, &part, &to, "/artifacts".to_owned()).unwrap();
        let files: BTreeMap<_, _> = output
            .files
            .iter()
            .map(|file| (file.path.as_str(), (file.bytes, file.link.as_deref())))
            .collect();
        let expected = [
            ("a", (0, None)),
            ("deep/b", (1, None)),
            ("link", (0, Some("a"))),
        ];
        assert_eq!(files, BTreeMap::from(expected));
        assert!(!part.exists() && to.join("deep/b").exists());
    }
}

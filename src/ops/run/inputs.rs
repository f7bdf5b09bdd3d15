//! Files and folders that a run reads.

use std::io::{self, BufReader, BufWriter, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::RunFailure;
use crate::context::{Filter, StatCache, digest};
use crate::engine::docker::DockerEngine;
use crate::ops::pipe::{PARTS_WAITING, Sent};
use crate::records::InputRecord;

/// Bytes that are read or sent at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Describes a file or folder for the record: its content's digest, and how much it is.
///
/// # Errors
///
/// It can't be read; why, in words.
pub(super) fn describe(source: &Path, shown: &str, target: &str) -> Result<InputRecord, String> {
    let metadata = std::fs::metadata(source).map_err(|error| error.to_string())?;
    let (sha256, bytes) = if metadata.is_dir() {
        let everything = Filter::default();
        let found = digest(source, &everything, &mut StatCache::default())
            .map_err(|error| error.to_string())?;
        (hex(&found.sha256), found.bytes)
    } else {
        sha256(source).map_err(|error| error.to_string())?
    };
    Ok(InputRecord {
        source: shown.to_owned(),
        target: target.to_owned(),
        sha256,
        bytes,
    })
}

/// The digest of a file's content, and its size.
pub(super) fn sha256(file: &Path) -> io::Result<(String, u64)> {
    let mut file = BufReader::with_capacity(CHUNK_BYTES, std::fs::File::open(file)?);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok((hex(&hash.finalize()), bytes));
        }
        hash.update(&chunk[..length]);
        bytes += length as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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

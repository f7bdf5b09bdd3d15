//! The session's `FileSync` service: the engine asks for a folder, is told what is in it, and asks
//! for the files that it does not have yet (tonistiigi/fsutil's protocol).

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use percent_encoding::percent_decode;
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tower_service::Service;

use super::wire::{Packet, PacketKind, Stat};
use crate::context::{
    ContextError, Entry, Filter, Kind, Patterns, STATE_EXCLUDE, attributes, open, walk,
};
use crate::engine::build::FileClock;

/// How much of a file goes into one message.
const CHUNK_BYTES: u64 = 256 << 10;
/// How many such messages wait for the network; bounds the memory.
const CHUNKS_WAITING: usize = 8;
/// How many entries of a folder wait for it.
const STATS_WAITING: usize = 1024;

/// A folder that the engine may ask for.
pub(super) struct Folder {
    /// The folder.
    pub(super) root: PathBuf,
    /// What the engine is told of a file's time.
    pub(super) clock: Arc<FileClock>,
    /// Whether jobctl's own folder of runs may be in it, which never travels.
    pub(super) hides_state: bool,
}

/// The folders by the name under which the engine asks for them, and what went wrong with them.
#[derive(Clone)]
pub(super) struct FileSync {
    folders: Arc<HashMap<&'static str, Folder>>,
    failure: Arc<Mutex<Option<ContextError>>>,
}

impl FileSync {
    pub(super) const METHOD: &'static str = "/moby.filesync.v1.FileSync/DiffCopy";

    pub(super) fn new(folders: HashMap<&'static str, Folder>) -> Self {
        Self {
            folders: Arc::new(folders),
            failure: Arc::default(),
        }
    }

    /// Why a folder could not be sent: better words than the engine has for it.
    pub(super) fn take_failure(&self) -> Option<ContextError> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }
}

impl NamedService for FileSync {
    const NAME: &'static str = "moby.filesync.v1.FileSync";
}

impl Service<http::Request<tonic::body::Body>> for FileSync {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != Self::METHOD {
                return Ok(Status::unimplemented("only DiffCopy").into_http());
            }
            let mut grpc = Grpc::new(tonic_prost::ProstCodec::default());
            Ok(grpc.streaming(DiffCopy(service), request).await)
        })
    }
}

/// The one method: both sides send [`Packet`]s until both have finished.
struct DiffCopy(FileSync);

impl StreamingService<Packet> for DiffCopy {
    type Response = Packet;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Packet>>) -> Self::Future {
        let sync = self.0.clone();
        Box::pin(async move {
            let wanted = Wanted::of(request.metadata())?;
            if !sync.folders.contains_key(wanted.folder.as_str()) {
                // The words that clients of BuildKit agree on for "go on without it".
                let message = format!("no access allowed to dir {:?}", wanted.folder);
                return Err(Status::not_found(message));
            }
            let (stats, told) = mpsc::channel(STATS_WAITING);
            let (chunks, sent) = mpsc::channel(CHUNKS_WAITING);
            tokio::spawn(serve(sync, wanted, request.into_inner(), stats, chunks));
            let answer = ReceiverStream::new(told).merge(ReceiverStream::new(sent));
            Ok(Response::new(Box::pin(answer) as Self::ResponseStream))
        })
    }
}

/// Which part of which folder is asked for.
struct Wanted {
    folder: String,
    filter: Filter,
}

impl Wanted {
    fn of(metadata: &MetadataMap) -> Result<Self, Status> {
        let folder = values(metadata, "dir-name")
            .pop()
            .ok_or_else(|| Status::invalid_argument("no dir-name"))?;
        let excludes = Patterns::from_lines(values(metadata, "exclude-patterns"))
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Self {
            folder: String::from_utf8_lossy(&folder).into_owned(),
            filter: Filter {
                includes: values(metadata, "include-patterns"),
                excludes,
                follow: values(metadata, "followpaths"),
            },
        })
    }
}

/// The values of a key, which are percent-encoded if they say so.
fn values(metadata: &MetadataMap, key: &str) -> Vec<Vec<u8>> {
    let is_encoded = metadata.contains_key(format!("{key}-encoded"));
    let values = metadata.get_all(key);
    values
        .iter()
        .map(|value| {
            let bytes = value.as_encoded_bytes();
            if is_encoded {
                // As Go's QueryEscape writes it.
                let spaced: Vec<u8> = bytes
                    .iter()
                    .map(|byte| if *byte == b'+' { b' ' } else { *byte })
                    .collect();
                percent_decode(&spaced).collect()
            } else {
                bytes.to_vec()
            }
        })
        .collect()
}

/// The files that were told, by their place in the list; nothing for what has no content.
type Listed = Arc<Mutex<Vec<Option<Box<Entry>>>>>;
type Sender = mpsc::Sender<Result<Packet, Status>>;

async fn serve(
    sync: FileSync,
    wanted: Wanted,
    mut asked: Streaming<Packet>,
    stats: Sender,
    chunks: Sender,
) {
    let listed = Listed::default();
    let folder = &sync.folders[wanted.folder.as_str()];
    let telling = tokio::task::spawn_blocking({
        let (sync, listed) = (sync.clone(), Arc::clone(&listed));
        move || tell(&sync, &wanted, &listed, &stats)
    });
    let (requests, waiting) = mpsc::unbounded_channel();
    let sending = tokio::task::spawn_blocking({
        let (root, listed, chunks) = (folder.root.clone(), Arc::clone(&listed), chunks.clone());
        move || send_files(&root, waiting, &listed, &chunks)
    });
    // The engine's side of the talk; it ends with its last word, or when the build is cancelled.
    let is_finished = loop {
        match asked.message().await {
            Ok(Some(packet)) => match packet.kind() {
                PacketKind::Request => {
                    let _ = requests.send(packet.id);
                }
                PacketKind::Finish => break true,
                PacketKind::Error => break false,
                PacketKind::Stat | PacketKind::Data => {}
            },
            Ok(None) | Err(_) => break false,
        }
    };
    drop(requests);
    let told = telling.await;
    let sent = sending.await;
    let failure = match (told, sent) {
        (Ok(Err(error)), _) | (_, Ok(Err(error))) => Some(error),
        _ => None,
    };
    if let Some(error) = failure {
        sync.fail(error);
    } else if is_finished {
        let _ = chunks.send(Ok(Packet::of(PacketKind::Finish, 0))).await;
    }
}

impl FileSync {
    fn fail(&self, error: ContextError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }
}

impl Packet {
    fn of(kind: PacketKind, id: u32) -> Self {
        Self {
            kind: kind.into(),
            id,
            ..Self::default()
        }
    }

    fn error(error: &ContextError) -> Self {
        Self {
            data: Bytes::from(error.to_string()),
            ..Self::of(PacketKind::Error, 0)
        }
    }
}

/// Tells what is in a folder, in order.
fn tell(
    sync: &FileSync,
    wanted: &Wanted,
    listed: &Listed,
    sender: &Sender,
) -> Result<(), ContextError> {
    let folder = &sync.folders[wanted.folder.as_str()];
    let mut filter = wanted.filter.clone();
    if folder.hides_state {
        let state = Patterns::from_lines([STATE_EXCLUDE])?;
        filter.excludes = filter.excludes.followed_by(state);
    }
    for entry in walk(&folder.root, &filter, &mut |_, _| {}) {
        let stat = match entry.and_then(|entry| told(folder, listed, &entry)) {
            Ok(stat) => stat,
            Err(error) => {
                let _ = sender.blocking_send(Ok(Packet::error(&error)));
                return Err(error);
            }
        };
        let packet = Packet {
            stat: Some(stat),
            ..Packet::of(PacketKind::Stat, 0)
        };
        if sender.blocking_send(Ok(packet)).is_err() {
            return Ok(());
        }
    }
    let _ = sender.blocking_send(Ok(Packet::of(PacketKind::Stat, 0)));
    Ok(())
}

fn told(folder: &Folder, listed: &Listed, entry: &Entry) -> Result<Stat, ContextError> {
    let has_content = entry.kind == Kind::File;
    let file = has_content.then(|| Box::new(entry.clone()));
    listed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(file);
    let size = match entry.kind {
        Kind::File | Kind::Symlink => entry.size,
        // The engine compares it with the size of the file that it is another name of.
        Kind::HardLink => entry.stamp.size,
        Kind::Folder => 0,
    };
    let attributes = match entry.kind {
        Kind::File | Kind::Folder => attributes(&folder.root, &entry.path)?,
        Kind::Symlink | Kind::HardLink => BTreeMap::new(),
    };
    Ok(Stat {
        path: entry.path.clone(),
        mode: go_mode(entry),
        size: i64::try_from(size).unwrap_or(i64::MAX),
        modified: (folder.clock)(entry),
        link: entry.link.clone().unwrap_or_default(),
        attributes: attributes.into_iter().collect(),
        ..Stat::default()
    })
}

/// A mode as Go's `os.FileMode` has it: the kind in the top bits.
fn go_mode(entry: &Entry) -> u32 {
    const DIRECTORY: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const SET_USER: u32 = 1 << 23;
    const SET_GROUP: u32 = 1 << 22;
    const STICKY: u32 = 1 << 20;

    let kind = match entry.kind {
        Kind::Folder => DIRECTORY,
        Kind::Symlink => SYMLINK,
        Kind::File | Kind::HardLink => 0,
    };
    let special = [(0o4000, SET_USER), (0o2000, SET_GROUP), (0o1000, STICKY)];
    special
        .iter()
        .filter(|(unix, _)| entry.mode & unix != 0)
        .fold(kind | (entry.mode & 0o777), |mode, (_, go)| mode | go)
}

/// Sends the files that are asked for.
fn send_files(
    root: &Path,
    mut requests: mpsc::UnboundedReceiver<u32>,
    listed: &Listed,
    sender: &Sender,
) -> Result<(), ContextError> {
    while let Some(id) = requests.blocking_recv() {
        let entry = listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id as usize)
            .cloned()
            .flatten();
        let Some(entry) = entry else {
            continue;
        };
        match send_file(root, &entry, id, sender) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                let _ = sender.blocking_send(Ok(Packet::error(&error)));
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Sends one file; `false` if nobody takes it any more.
fn send_file(root: &Path, entry: &Entry, id: u32, sender: &Sender) -> Result<bool, ContextError> {
    // One that is no longer what was told would be taken for it.
    let mut file = open(root, entry)?;
    // One byte more than the file has, to meet its end in the first chunk: most files are small,
    // and clearing a large chunk for each costs more than the reading.
    let room = entry.size.saturating_add(1).min(CHUNK_BYTES);
    loop {
        let mut chunk = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        let length = (&mut file)
            .take(room)
            .read_to_end(&mut chunk)
            .map_err(|source| ContextError::Unreadable {
                path: root.join(OsStr::from_bytes(&entry.path)),
                source,
            })?;
        let is_end = (length as u64) < room;
        if length > 0 && !send_data(id, chunk, sender) {
            return Ok(false);
        }
        if is_end {
            return Ok(send_data(id, Vec::new(), sender));
        }
    }
}

/// Sends a part of a file; an empty one is its end. `false` if nobody takes it.
fn send_data(id: u32, data: Vec<u8>, sender: &Sender) -> bool {
    let packet = Packet {
        data: data.into(),
        ..Packet::of(PacketKind::Data, id)
    };
    sender.blocking_send(Ok(packet)).is_ok()
}

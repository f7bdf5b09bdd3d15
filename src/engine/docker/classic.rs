//! The classic builder, for engines without BuildKit and for Podman: the whole context is sent.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use bollard::query_parameters::{BuildImageOptions, BuilderVersion};
use futures_util::StreamExt as _;
use hyper::body::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::client::DockerEngine;
use super::error::EngineError;
use crate::context::{
    ContextError, Filter, LARGEST_BUILD_FILE, Patterns, STATE_EXCLUDE, TarTimes, ignore_file, walk,
    write_file, write_tar,
};
use crate::engine::build::{BuildError, BuildRequest, BuiltImage, FailedStep, Mask, Reuse};
use crate::event::{Events, Outcome, Step, StepId, Stream};
use crate::facts::read_small;
use crate::model::{Digest, ImageRef, without_access};

/// How much of the context is sent at once.
const CHUNK_BYTES: usize = 256 << 10;
/// How many such parts wait for the network; bounds the memory.
const CHUNKS_WAITING: usize = 8;
/// How many of a step's last lines are repeated when it fails.
const TAIL_LINES: usize = 20;

impl DockerEngine {
    pub(super) async fn build_classic(
        &self,
        request: &BuildRequest,
        events: &Events,
        parent: Option<StepId>,
    ) -> Result<BuiltImage, BuildError> {
        refuse_what_it_can_not(request)?;
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let dockerfile = request.recipe.dockerfile.clone();
        let context = request.recipe.context.clone();
        // The builder does not look at times, and the same content should be the same layers.
        let times = TarTimes(request.rewrite_times_to.unwrap_or(0));
        let packing = tokio::task::spawn_blocking(move || {
            pack(&context, &dockerfile, times, Chunks::new(sender))
        });
        let body = bollard::body_try_stream(ReceiverStream::new(receiver));
        let mut told = Box::pin(self.docker.build_image(options(request), None, Some(body)));
        let mut log = Log::new(events.clone(), parent, Arc::clone(&request.mask));
        let mut failure = None;
        while let Some(told) = told.next().await {
            match told {
                Ok(told) => {
                    log.take(told.stream.as_deref().unwrap_or_default());
                    if let Some(id) = told.aux.and_then(|aux| aux.id) {
                        log.id = id.parse().ok();
                    }
                }
                Err(error) => {
                    failure = Some(EngineError::of_bollard(&error, &self.endpoint().address));
                    break;
                }
            }
        }
        drop(told);
        // The engine may fail before it has read all; why jobctl could not go on tells more.
        let packed = packing.await.unwrap_or(Ok(()));
        if let (Err(error), Some(_)) = (packed, &failure)
            && !matches!(error, ContextError::Send(_))
        {
            return Err(error.into());
        }
        match (failure, log.id.clone()) {
            (Some(error), _) => Err(log.fail(error)),
            (None, Some(id)) => {
                log.end(Outcome::Done);
                for tag in request.tags.iter().skip(1) {
                    self.tag(&id, tag).await?;
                }
                Ok(BuiltImage { id, sources: None })
            }
            (None, None) => Err(BuildError::Interrupted),
        }
    }
}

fn refuse_what_it_can_not(request: &BuildRequest) -> Result<(), BuildError> {
    let needs = |what| Err(BuildError::NeedsBuildKit { what });
    if !request.recipe.secrets.is_empty() {
        return needs("a build secret");
    }
    if !request.recipe.agents.is_empty() {
        return needs("an ssh agent");
    }
    Ok(())
}

fn options(request: &BuildRequest) -> BuildImageOptions {
    let args: HashMap<_, _> = request
        .recipe
        .args
        .iter()
        .map(|(name, value)| (name.clone(), value.expose().to_owned()))
        .collect();
    BuildImageOptions {
        dockerfile: sent_name(&request.recipe.context, &request.recipe.dockerfile),
        t: request.tags.first().map(ImageRef::to_string),
        nocache: request.recipe.reuse == Reuse::Nothing,
        rm: true,
        forcerm: true,
        buildargs: Some(args),
        labels: Some(request.labels.clone().into_iter().collect()),
        platform: request.recipe.platform.clone().unwrap_or_default(),
        target: request.recipe.target.clone().unwrap_or_default(),
        version: BuilderVersion::BuilderV1,
        ..BuildImageOptions::default()
    }
}

/// What a Dockerfile outside the context is called in the archive.
const FOREIGN_DOCKERFILE: &str = ".dockerfile.jobctl";

fn sent_name(context: &Path, dockerfile: &Path) -> String {
    match dockerfile.strip_prefix(context) {
        Ok(inner) => inner.to_string_lossy().into_owned(),
        Err(_) => FOREIGN_DOCKERFILE.to_owned(),
    }
}

fn pack(
    context: &Path,
    dockerfile: &Path,
    times: TarTimes,
    chunks: Chunks,
) -> Result<(), ContextError> {
    let mut excludes = Patterns::from_lines([STATE_EXCLUDE])?;
    if let Some(ignored) = ignore_file(context, dockerfile)? {
        let sent = sent_name(context, dockerfile);
        let kept = ignored.patterns.keep_build_files(sent.as_bytes())?;
        excludes = kept.followed_by(excludes);
    }
    let filter = Filter {
        excludes,
        ..Filter::default()
    };
    let mut out = io::BufWriter::with_capacity(CHUNK_BYTES, chunks);
    if !dockerfile.starts_with(context) {
        let text = read_small(dockerfile, LARGEST_BUILD_FILE).map_err(|source| {
            ContextError::Unreadable {
                path: dockerfile.to_owned(),
                source,
            }
        })?;
        write_file(FOREIGN_DOCKERFILE, &text, &mut out, times).map_err(ContextError::Send)?;
    }
    write_tar(context, walk(context, &filter, &mut |_, _| {}), out, times)
}

/// Hands what is written on to the network.
struct Chunks {
    sender: mpsc::Sender<Result<Bytes, io::Error>>,
}

impl Chunks {
    fn new(sender: mpsc::Sender<Result<Bytes, io::Error>>) -> Self {
        Self { sender }
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        self.sender
            .blocking_send(Ok(chunk))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The builder's words, one step for each `Step N/M : …`.
struct Log {
    events: Events,
    parent: Option<StepId>,
    mask: Arc<Mask>,
    step: Option<(String, Step)>,
    is_cached: bool,
    partial: String,
    tail: Vec<String>,
    id: Option<Digest>,
}

impl Log {
    fn new(events: Events, parent: Option<StepId>, mask: Arc<Mask>) -> Self {
        Self {
            events,
            parent,
            mask,
            step: None,
            is_cached: false,
            partial: String::new(),
            tail: Vec::new(),
            id: None,
        }
    }

    fn take(&mut self, text: &str) {
        self.partial.push_str(text);
        while let Some(end) = self.partial.find('\n') {
            let rest = self.partial.split_off(end + 1);
            let line = std::mem::replace(&mut self.partial, rest);
            let line = (self.mask)(line.trim_end());
            self.line(&line);
        }
    }

    fn line(&mut self, line: &str) {
        if let Some((number, instruction)) = line
            .strip_prefix("Step ")
            .or_else(|| line.strip_prefix("STEP "))
            .and_then(|rest| rest.split_once(':'))
        {
            self.end(Outcome::Done);
            let instruction = without_access(instruction.trim());
            let name = format!("[{}] {instruction}", number.trim());
            self.step = Some((name.clone(), self.events.step(self.parent, name)));
            self.tail.clear();
            return;
        }
        let words = line.trim();
        if words == "---> Using cache" || words.starts_with("--> Using cache") {
            self.is_cached = true;
        }
        if words.is_empty() || words.starts_with("--->") || words.starts_with("-->") {
            return;
        }
        if let Some((_, step)) = &self.step {
            step.log(Stream::Stdout, line);
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.remove(0);
        }
        self.tail.push(line.to_owned());
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some((_, step)) = self.step.take() {
            let is_cached = std::mem::take(&mut self.is_cached) && outcome == Outcome::Done;
            step.finish(if is_cached { Outcome::Cached } else { outcome });
        }
    }

    fn fail(mut self, error: EngineError) -> BuildError {
        let message = match error {
            EngineError::Failed { message } | EngineError::Refused { message, .. } => {
                without_access(&(self.mask)(&message)).into_owned()
            }
            // The connection broke, or what came over it was cut off.
            _ if self.step.is_some() => return BuildError::Interrupted,
            error => return BuildError::Engine(error),
        };
        if message.contains("no space left on device") {
            return BuildError::DiskFull { message };
        }
        let name = self.step.as_ref().map(|(name, _)| name.clone());
        self.end(Outcome::Failed(message.clone()));
        BuildError::Step(Box::new(FailedStep {
            name,
            message,
            log: self.tail,
            place: None,
        }))
    }
}

//! Base images: pulled, or made here where they can't be.

use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio_stream::wrappers::ReceiverStream;

use super::{Image, Reason, State};
use crate::context::{TarTimes, file_header, padding, write_file};
use crate::diagnostic::plain;
use crate::engine::docker::{DockerEngine, EngineError};
use crate::engine::tar_names::TarNames;
use crate::event::{Events, Outcome, Step, Stream};
use crate::facts::exposure;
use crate::model::ImageRef;
use crate::plan::build::{BaseSpec, Bootstrap};
use crate::records::Untrusted;

/// What a container of Debian's own image begins with.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Why a base image can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// It can't be pulled, and there is no way to make it.
    #[error("can't pull `{image}`: {source}")]
    Pull {
        /// The image.
        image: ImageRef,
        /// Why.
        source: EngineError,
    },
    /// The program that makes it could not be run.
    #[error("can't run `{}`: {}", program.display(), plain(source))]
    NotRun {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program that makes it is the project's, and nobody has said that it may run here.
    #[error(
        "`{}` is not run: it is a program of this project, and {}", .0.program.program.display(), .0.reason()
    )]
    Untrusted(Box<Untrusted>),
    /// Others may put another program in its place.
    #[error("`{}` is not run: others may write `{}`", program.display(), place.display())]
    Exposed {
        /// The program.
        program: PathBuf,
        /// Where they may: the program, or something on the way to it.
        place: PathBuf,
    },
    /// The program that makes it failed.
    #[error("`{}` failed with {status}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: String,
        /// Its last lines.
        log: Vec<String>,
    },
    /// What the program wrote is no archive, or could not be kept.
    #[error("what `{}` wrote can't be used: {source}", program.display())]
    Archive {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl BaseError {
    /// It in a few words, where its step names the image.
    fn short(&self) -> String {
        match self {
            Self::Pull { source, .. } => source.to_string(),
            Self::NotRun { source, .. } | Self::Archive { source, .. } => plain(source),
            Self::Untrusted(untrusted) => untrusted.reason(),
            Self::Exposed { place, .. } => format!("others may write `{}`", place.display()),
            Self::Failed { status, .. } => status.clone(),
        }
    }

    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Pull { image, .. } => Some(format!(
                "check the name, `jobctl login`, and the network; or make it here: \
                 `images: {{ NAME: {{ pull: \"{image}\", bootstrap: PROGRAM }} }}`"
            )),
            Self::Untrusted(untrusted) => Some(format!(
                "read it, then allow it as it is now: `{}`, or for one call: `--trust`; in CI, where what is \
                 checked out is trusted, set JOBCTL_TRUST=1",
                trust_command(&untrusted.program.manifest)
            )),
            Self::Exposed { place, .. } => Some(format!(
                "what was allowed could be swapped before it starts: `chmod go-w {0}`, or `chown` it to yourself; \
                 where nobody else is, set JOBCTL_TRUST=1",
                place.display()
            )),
            Self::NotRun { program, source } => Some(not_run_help(program, source)),
            Self::Failed { program, log, .. } if log.is_empty() => Some(format!(
                "run it by hand: `{} > /dev/null`",
                program.display()
            )),
            Self::Failed { .. } => Some("see its last lines above".to_owned()),
            Self::Archive { .. } => Some(
                "it must write the root file system as a tar, and nothing else, to standard output"
                    .to_owned(),
            ),
        }
    }
}

/// How to fix that a program can't be run.
fn not_run_help(program: &Path, error: &io::Error) -> String {
    let shown = program.display();
    match error.kind() {
        io::ErrorKind::NotFound if program.exists() => {
            format!("install the interpreter that the first line of `{shown}` names")
        }
        io::ErrorKind::NotFound => {
            "correct `bootstrap` in jobs.yaml, or create the file".to_owned()
        }
        io::ErrorKind::InvalidInput => {
            "name an interpreter and plain words there, or allow it for one call: `--trust`"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => format!("make it executable: `chmod +x {shown}`"),
        _ => "`bootstrap` names a program, or a script whose first line is such as `#!/bin/sh`"
            .to_owned(),
    }
}

/// The command that allows a project's programs.
fn trust_command(manifest: &Path) -> String {
    let quoted = |path: &Path| shell_words::quote(&path.to_string_lossy()).into_owned();
    let is_found = ["jobs.yaml", "jobs.yml"].map(|name| manifest.ends_with(name));
    match manifest.parent() {
        Some(directory) if is_found.contains(&true) => {
            format!("jobctl trust {}", quoted(directory))
        }
        _ => format!("jobctl -f {} trust", quoted(manifest)),
    }
}

/// Sees to it that a base image is there.
pub(super) async fn ensure(
    engine: &DockerEngine,
    spec: &BaseSpec,
    events: &Events,
) -> Result<Image, Reason> {
    let name = spec.image.to_string();
    let image = |found: crate::engine::docker::LocalImage, state| Image {
        title: spec.title.clone(),
        id: found.id,
        tags: vec![spec.image.clone()],
        version: None,
        context: None,
        files: Vec::new(),
        state,
        provenance: None,
    };
    let present = engine.image(&name).await?;
    if let (Some(found), false) = (&present, spec.pulls) {
        let step = events.step(None, format!("base image {name}"));
        step.finish(Outcome::Cached);
        return Ok(image(found.clone(), State::Present));
    }
    let step = events.step(None, format!("pull {name}"));
    let state = match (engine.pull(&spec.image, None, &step).await, &spec.bootstrap) {
        (Ok(_), _) => {
            step.finish(Outcome::Done);
            State::Pulled
        }
        (Err(error), Some(program)) => {
            step.finish(Outcome::Skipped(error.to_string()));
            make_here(engine, &spec.image, program, events).await?;
            State::Bootstrapped
        }
        (Err(source), None) => {
            step.finish(Outcome::Failed(source.to_string()));
            let image = spec.image.clone();
            return Err(BaseError::Pull { image, source }.into());
        }
    };
    match engine.image(&name).await? {
        Some(found) => Ok(image(found, state)),
        None => Err(EngineError::Failed {
            message: format!("`{name}` is not there after all"),
        }
        .into()),
    }
}

/// Makes an image of what a program writes.
async fn make_here(
    engine: &DockerEngine,
    image: &ImageRef,
    bootstrap: &Bootstrap,
    events: &Events,
) -> Result<(), Reason> {
    let step = events.step(None, format!("make {image} here"));
    match make(engine, image, bootstrap, &step).await {
        Ok(()) => {
            step.finish(Outcome::Done);
            Ok(())
        }
        Err(reason) => {
            // The error that follows has the rest.
            let short = match &reason {
                Reason::Base(error) => error.short(),
                reason => reason.to_string(),
            };
            step.finish(Outcome::Failed(short));
            Err(reason)
        }
    }
}

async fn make(
    engine: &DockerEngine,
    image: &ImageRef,
    bootstrap: &Bootstrap,
    step: &Step,
) -> Result<(), Reason> {
    let program = bootstrap.program.as_path();
    let unusable = |source| BaseError::Archive {
        program: program.to_owned(),
        source,
    };
    let file = tempfile::tempfile().map_err(unusable)?;
    let output = file.try_clone().map_err(unusable)?;
    run(bootstrap, output, step).await?;
    let platform = engine.facts().await?.platform;
    let architecture = match platform.split_once('/') {
        Some((_, "x86_64")) => "amd64",
        Some((_, "aarch64")) => "arm64",
        Some((_, other)) => other,
        None => "amd64",
    }
    .to_owned();
    let (name, by) = (image.clone(), program.to_owned());
    let packing = tokio::task::spawn_blocking(move || Archive::of(file, &name, &by, &architecture));
    let archive = packing
        .await
        .map_err(io::Error::other)
        .and_then(|archive| archive)
        .map_err(unusable)?;
    engine.load(archive.stream()).await?;
    Ok(())
}

/// Runs the program; its standard error is the step's log.
async fn run(bootstrap: &Bootstrap, output: std::fs::File, step: &Step) -> Result<(), BaseError> {
    const TAIL_LINES: usize = 20;

    let program = &bootstrap.program;
    let not_run = |source| BaseError::NotRun {
        program: program.clone(),
        source,
    };
    let exposed = if bootstrap.trust.is_given() {
        None
    } else {
        exposed(bootstrap).map_err(not_run)?
    };
    // As late as can be: what was allowed before may have changed since.
    if let Some(untrusted) = bootstrap.untrusted().map_err(not_run)? {
        return Err(BaseError::Untrusted(Box::new(untrusted)));
    }
    if let Some(place) = exposed {
        let program = program.clone();
        return Err(BaseError::Exposed { program, place });
    }
    let mut child = Command::new(program)
        .args(&bootstrap.args)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(not_run)?;
    let mut group = Group(child.id());
    let mut log = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(&line).into_owned();
            step.log(Stream::Stderr, line.clone());
            if log.len() == TAIL_LINES {
                log.remove(0);
            }
            log.push(line);
        }
    }
    let status = child.wait().await.map_err(not_run)?;
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    Err(BaseError::Failed {
        program: program.clone(),
        status: status.to_string(),
        log,
    })
}

/// Where others may put another in the place of a program, or of what its first line names.
fn exposed(bootstrap: &Bootstrap) -> io::Result<Option<PathBuf>> {
    let named = bootstrap.read()?.named.into_iter().map(|file| file.path);
    for path in [bootstrap.program.clone()].into_iter().chain(named) {
        if let Some(place) = exposure(&path)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// A program and what it started, told to end when dropped: it cleans up, which being killed would
/// not let it.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(rustix::process::Pid::from_raw) {
            // One that has just ended needs no telling.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        }
    }
}

/// An image of one layer, in the form that `docker load` takes.
///
/// All in it follows from the layer, so that the same layer is the same image on any machine.
struct Archive {
    layer: std::fs::File,
    size: u64,
    config: String,
    manifest: String,
    config_name: String,
}

impl Archive {
    fn of(
        mut layer: std::fs::File,
        image: &ImageRef,
        program: &Path,
        architecture: &str,
    ) -> io::Result<Self> {
        layer.rewind()?;
        let mut hash = Sha256::new();
        let size = io::copy(&mut layer, &mut hash)?;
        let digest = format!("sha256:{:x}", hash.finalize());
        layer.rewind()?;
        let newest = newest(&layer)?;
        layer.rewind()?;
        let created = Timestamp::from_second(i64::try_from(newest).unwrap_or(0))
            .unwrap_or(Timestamp::UNIX_EPOCH)
            .to_string();
        let by = program.file_name().unwrap_or_default().to_string_lossy();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": { "Env": [PATH], "Cmd": ["bash"] },
            "rootfs": { "type": "layers", "diff_ids": [digest] },
            "history": [{ "created": created, "created_by": by }],
        })
        .to_string();
        let config_name = format!("{:x}.json", Sha256::digest(&config));
        let tag = image.tag().map_or("latest", crate::model::Tag::as_str);
        let manifest = json!([{
            "Config": config_name,
            "RepoTags": [format!("{}:{tag}", image.familiar().repository())],
            "Layers": ["layer.tar"],
        }])
        .to_string();
        Ok(Self {
            layer,
            size,
            config,
            manifest,
            config_name,
        })
    }

    /// The archive, as it is read.
    fn stream(self) -> ReceiverStream<Result<Bytes, io::Error>> {
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        tokio::task::spawn_blocking(move || {
            let failed = sender.clone();
            if let Err(error) = self.write(&sender) {
                // Nobody listens once the engine has refused.
                let _ = failed.blocking_send(Err(error));
            }
        });
        ReceiverStream::new(receiver)
    }

    fn write(
        mut self,
        sender: &tokio::sync::mpsc::Sender<Result<Bytes, io::Error>>,
    ) -> io::Result<()> {
        let send = |bytes: Vec<u8>| {
            sender
                .blocking_send(Ok(bytes.into()))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
        };
        send(file_header("layer.tar", self.size, TarTimes(0))?)?;
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let length = self.layer.read(&mut chunk)?;
            if length == 0 {
                break;
            }
            chunk.truncate(length);
            send(chunk)?;
        }
        send(padding(self.size).to_vec())?;
        for (name, text) in [
            (self.config_name.as_str(), &self.config),
            ("manifest.json", &self.manifest),
        ] {
            let mut part = Vec::new();
            write_file(name, text.as_bytes(), &mut part, TarTimes(0))?;
            send(part)?;
        }
        // Two empty blocks end an archive.
        send(vec![0; 1024])
    }
}

/// The newest time in an archive, in seconds since 1970; fails if it is none.
fn newest(archive: &std::fs::File) -> io::Result<u64> {
    let mut archive = tar::Archive::new(TarNames::new(io::BufReader::new(archive)));
    let mut newest = None;
    for entry in archive.entries()? {
        newest = newest.max(Some(entry?.header().mtime()?));
    }
    newest.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the archive is empty"))
}

//! One container of a run: made, started, followed to its end.

use std::io::{self, Write as _};
use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::cancel::{Cancel, StopCause, Undone};
use super::follow::{Followable, Followed};
use super::outcome::note_failure;
use super::outputs::make_room;
use super::pump::Pump;
use super::{RunFailure, Streams, container, inputs};
use crate::engine::docker::DockerEngine;
use crate::engine::docker::run::Attachment;
use crate::engine::run::{AttachRequest, RunError, RunSpec, Until};
use crate::event::{Event, Events};
use crate::facts::host::now;
use crate::model::{Digest, ImageRef};
use crate::ops::pull::pull;
use crate::plan::run::Pull;
use crate::records::mask::Masker;
use crate::records::{Attempt, Record, RunFolder, State};

/// What a supervisor works with.
pub(super) struct Work<'a> {
    pub(super) engine: &'a DockerEngine,
    pub(super) folder: &'a RunFolder,
    pub(super) events: &'a Events,
    /// Of the run's secrets.
    pub(super) masker: Masker,
}

/// What is read for the container's standard input.
pub(super) type Input = Box<dyn AsyncRead + Send + Unpin>;

impl Work<'_> {
    /// Makes a container, starts it, and follows it to its end.
    ///
    /// What the engine refuses is noted in the attempt; that is no error.
    pub(super) async fn attempt(
        &self,
        record: &mut Record,
        asked: &Asked<'_>,
        pump: &mut Pump,
        cancel: &mut Cancel<'_>,
        streams: &mut Streams,
    ) -> Result<Followed, RunFailure> {
        let mut spec = asked.spec.clone();
        let number = record.attempts.len();
        let labels = container::labels(self.folder, number, record.policy.is_service);
        spec.labels.extend(labels);
        if record.attempts.len() > 1 {
            spec.name = format!("{}-{}", spec.name, record.attempts.len());
        }
        let attempt = latest(record);
        attempt.container.clone_from(&spec.name);
        self.keep(record, "created")?;
        let input = streams.input.take();
        let followable = match Box::pin(self.begin(record, &spec, asked, input, cancel)).await {
            Ok(followable) => followable,
            Err(Undone::Stopped(cause)) => {
                let attempt = latest(record);
                attempt.ending = Some(cause.ending());
                attempt.message = Some(match cause {
                    StopCause::TimedOut => {
                        "its time was up before its container started".to_owned()
                    }
                    _ => "its container had not started".to_owned(),
                });
                return Ok(Followed::Stopped(cause));
            }
            Err(Undone::Abandoned) => return Ok(Followed::Detached),
            Err(Undone::Failed(RunFailure::Run(error))) => {
                let error = self.with_owner(error).await;
                note_failure(latest(record), &error);
                self.mask(latest(record));
                self.discard(record).await;
                return match error {
                    // Whoever asks for an engine that is not there has no run.
                    RunError::Engine(_)
                        if record.attempts.len() == 1 && latest(record).container_id.is_none() =>
                    {
                        Err(error.into())
                    }
                    _ => Ok(Followed::Over),
                };
            }
            Err(Undone::Failed(error)) => return Err(error),
        };
        record.state = State::Running;
        record.started = Some(now());
        if let Some(path) = streams.cidfile.take() {
            let container = latest(record).container_id.clone().unwrap_or_default();
            if let Err(error) = write_new(&path, &container) {
                // A run is worth more than the file that names it.
                let warning = format!("the cidfile `{}` is not written: {error}", path.display());
                self.warn(record, warning);
            }
        }
        self.keep(record, "running")?;
        if let Some(lacks_program) = streams.lacks_program.take() {
            let container = latest(record).container_id.clone().unwrap_or_default();
            // Nobody waits for it any more.
            let _ = lacks_program.send(self.engine.lacks_program(&container).await);
        }
        if let Some(started) = streams.started.take() {
            // Nobody waits for it any more.
            let _ = started.send(latest(record).container_id.clone().unwrap_or_default());
        }
        self.follow(record, Some(followable), pump, cancel).await
    }

    /// Says whose the container is that has the name.
    async fn with_owner(&self, error: RunError) -> RunError {
        let RunError::NameTaken { name, holder } = error else {
            return error;
        };
        let found = self.engine.container(&holder).await;
        let run = found.ok().flatten().as_ref().and_then(container::run_of);
        let holder = match run {
            Some(run) => format!("{holder} of the run {run}"),
            None => holder,
        };
        RunError::NameTaken { name, holder }
    }

    /// Makes the container and starts it, attached to and waited for.
    async fn begin(
        &self,
        record: &mut Record,
        spec: &RunSpec,
        asked: &Asked<'_>,
        input: Option<Input>,
        cancel: &mut Cancel<'_>,
    ) -> Result<Followable, Undone> {
        if asked.pull == Pull::Always && !is_id(&spec.image) {
            cancel.race(self.pull(spec)).await?;
        }
        let making = "has made the container";
        let created = match cancel.insist(making, self.engine.create(spec)).await {
            Err(Undone::Failed(RunFailure::Run(
                RunError::NoImage { .. } | RunError::OtherPlatform { .. },
            ))) if asked.pull == Pull::Missing && !is_id(&spec.image) => {
                cancel.race(self.pull(spec)).await?;
                cancel.insist(making, self.engine.create(spec)).await?
            }
            created => created?,
        };
        for warning in created.warnings {
            self.warn(record, warning);
        }
        let id = created.id;
        latest(record).container_id = Some(id.clone());
        record.state = State::Submitted;
        self.keep(record, "submitted")?;
        for (from, to) in asked.copied {
            cancel
                .race(inputs::copy_in(self.engine, &id, from, to))
                .await?;
        }
        let preparing = async {
            make_room(self, &id, spec, &record.policy).await;
            let streams = AttachRequest {
                tty: spec.tty,
                stdin: spec.stdin,
                detach_keys: None,
            };
            let attachment = self.engine.attach(&id, &streams).await?;
            let waiting = self.engine.wait(&id, Until::NextExit).await?;
            Ok::<_, RunError>((attachment, waiting))
        };
        let (attachment, waiting) = cancel.race(preparing).await?;
        cancel.check().await?;
        let starting = self.engine.start(&id);
        cancel.insist("has started the container", starting).await?;
        let Attachment {
            output,
            input: sink,
        } = attachment;
        if let (Some(input), Some(sink)) = (input, sink) {
            tokio::spawn(feed(input, sink));
        }
        Ok(Followable { output, waiting })
    }

    async fn pull(&self, spec: &RunSpec) -> Result<(), RunFailure> {
        let Ok(image) = spec.image.parse::<ImageRef>() else {
            return Err(RunError::NoImage {
                image: spec.image.clone(),
            }
            .into());
        };
        let platform = spec.platform.as_deref();
        let pulling = pull(self.engine, &image, platform, self.events);
        let pulled = pulling.await.map_err(|reason| RunFailure::Pull {
            image: image.to_string(),
            reason,
        });
        pulled.map(drop)
    }

    /// Takes secrets out of the engine's words about an attempt: it may quote the command.
    pub(super) fn mask(&self, attempt: &mut Attempt) {
        let message = attempt.message.as_deref();
        attempt.message = message.map(|message| self.masker.masked(message));
    }

    /// Writes the record, and what has just happened to the run.
    pub(super) fn keep(&self, record: &mut Record, what: &str) -> Result<(), RunFailure> {
        if let Err(error) = self.tell(record, what) {
            self.warn(
                record,
                format!("`events.jsonl` of the run lacks `{what}`: {error}"),
            );
        }
        match self.folder.write(record) {
            Err(_) if !self.folder.path().is_dir() => Err(RunFailure::Moved {
                id: record.id,
                path: self.folder.path().to_owned(),
            }),
            written => Ok(written?),
        }
    }

    /// Says what should be looked at, and keeps it in the record. The job may have put a secret into the
    /// name of a file.
    pub(super) fn warn(&self, record: &mut Record, warning: impl AsRef<str>) {
        let warning = self.masker.masked(warning.as_ref());
        if !record.warnings.contains(&warning) {
            self.events.send(Event::Warning(warning.clone()));
            record.warnings.push(warning);
        }
    }

    fn tell(&self, record: &Record, what: &str) -> io::Result<()> {
        let attempt = record.attempts.last();
        let told = json!({
            "t": now(),
            "event": what,
            "state": record.state,
            "attempt": record.attempts.len(),
            "container": attempt.and_then(|attempt| attempt.container_id.as_deref()),
            "ending": attempt.and_then(|attempt| attempt.ending),
            "exit_code": attempt.and_then(|attempt| attempt.exit_code),
        });
        self.folder.tell(&told)
    }

    /// Removes the container of the last attempt, if it was made, and if nothing is to be had of it any
    /// more.
    pub(super) async fn discard(&self, record: &mut Record) {
        let run = record.id;
        let keep = record.policy.keep || !record.lost_outputs.is_empty();
        let attempt = latest(record);
        let Some(id) = attempt.container_id.as_ref().filter(|_| !keep) else {
            return;
        };
        match container::remove(self.engine, run, id).await {
            Ok(()) => attempt.is_removed = true,
            Err(error) => {
                let name = &attempt.container;
                let warning = format!(
                    "the container {name} is not removed: {error}; the next `jobctl ps` tries again"
                );
                self.warn(record, warning);
            }
        }
    }
}

/// What an attempt is made with.
pub(super) struct Asked<'a> {
    pub(super) spec: &'a RunSpec,
    pub(super) copied: &'a [(std::path::PathBuf, String)],
    pub(super) pull: Pull,
}

/// Whether an image is named by its id, under which no registry has it.
fn is_id(image: &str) -> bool {
    image.parse::<Digest>().is_ok()
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    std::fs::File::create_new(path)?.write_all(text.as_bytes())
}

/// The attempt that is under way.
pub(super) fn latest(record: &mut Record) -> &mut Attempt {
    if record.attempts.is_empty() {
        record.attempts.push(Attempt::default());
    }
    record.attempts.last_mut().expect("there is one now")
}

/// Passes what is read on, and then the end of it.
async fn feed(mut input: Input, mut sink: impl AsyncWrite + Unpin) {
    // A program that reads no more of it ends the copying.
    let _ = tokio::io::copy(&mut input, &mut sink).await;
    let _ = sink.shutdown().await;
}

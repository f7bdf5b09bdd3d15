//! One container of a run: made, started, followed to its end.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::cancel::{Cancel, StopCause, Undone};
use super::control::{self, Orders};
use super::metric_files::MetricLooks;
use super::outcome::{note_failure, note_removal, note_seen};
use super::outputs::make_room;
use super::pump::Pump;
use super::restarts::restarts;
use super::{RunFailure, Streams, container, inputs};
use crate::engine::docker::run::{Attachment, Output, Waiting};
use crate::engine::docker::{DockerEngine, EngineError};
use crate::engine::run::{AttachRequest, Container, LogRequest, RunError, RunSpec, Status, Until};
use crate::event::{Event, Events};
use crate::facts::host::now;
use crate::model::ImageRef;
use crate::ops::pull::pull;
use crate::plan::run::Pull;
use crate::records::mask::Masker;
use crate::records::{Attempt, Record, RunFolder, State};

/// The time between two tries to get back to an engine that is gone: the first, and the longest.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];
/// How long an engine may be gone.
const GONE: Duration = Duration::from_mins(10);
/// How often a silent engine is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// The longest time between two looks at a container.
const LOOK: Duration = Duration::from_secs(5);

/// What a supervisor works with.
pub(super) struct Work<'a> {
    pub(super) engine: &'a DockerEngine,
    pub(super) folder: &'a RunFolder,
    pub(super) events: &'a Events,
    /// Of the run's secrets.
    pub(super) masker: Masker,
}

/// How following a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Followed {
    /// The container has ended.
    Over,
    /// The run is to end, and its container never started.
    Stopped(StopCause),
    /// The user detached from it.
    Detached,
}

/// What is read for the container's standard input.
pub(super) type Input = Box<dyn AsyncRead + Send + Unpin>;

/// Output and end of a container.
pub(super) struct Followable {
    pub(super) output: Output,
    pub(super) waiting: Waiting,
}

impl Followable {
    /// Takes all output, until the container has ended.
    async fn watch(self, pump: &mut Pump) -> Result<(), RunError> {
        let (end, has_ended) = watch::channel(false);
        let mut ended = std::pin::pin!(self.waiting.exit());
        let mut pumped = std::pin::pin!(pump.run(self.output, has_ended));
        tokio::select! {
            ended = &mut ended => {
                // What was written before the end comes soon after it, or never.
                end.send_replace(true);
                let drained = pumped.await;
                ended?;
                drained
            }
            pumped = &mut pumped => {
                pumped?;
                ended.await.map(|_| ())
            }
        }
    }
}

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
                attempt.message = Some("its container had not started".to_owned());
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
        if asked.pull == Pull::Always {
            cancel.race(self.pull(spec)).await?;
        }
        let making = "has made the container";
        let created = match cancel.insist(making, self.engine.create(spec)).await {
            Err(Undone::Failed(RunFailure::Run(RunError::NoImage { .. })))
                if asked.pull == Pull::Missing =>
            {
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
        pulling.await.map_err(|reason| RunFailure::Pull {
            image: image.to_string(),
            reason,
        })
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
        Ok(self.folder.write(record)?)
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

    /// Follows a container that was started, over whatever happens to the engine, and notes its end.
    pub(super) async fn follow(
        &self,
        record: &mut Record,
        mut followable: Option<Followable>,
        pump: &mut Pump,
        cancel: &mut Cancel<'_>,
    ) -> Result<Followed, RunFailure> {
        let mut orders = Orders::default();
        // Whether the engine was gone meanwhile.
        let mut was_lost = false;
        let attempt = latest(record);
        let id = attempt.container_id.clone().unwrap_or_default();
        let grace = Duration::from_millis(record.policy.grace_ms);
        let mut peak = latest(record).peak_memory;
        let mut looks = MetricLooks::new(record);
        // How often the engine had started the container again when it was last looked at.
        let mut seen = followable.is_some().then_some(0);
        loop {
            let now = match followable.take() {
                Some(followable) => followable,
                None => {
                    let reconnected = tokio::select! {
                        reconnected = self.reconnect(&id) => reconnected,
                        () = cancel.released() => return Ok(Followed::Detached),
                    };
                    let reconnected = match reconnected {
                        Err(RunFailure::Engine(error))
                            if error.is_absence() && restarts(record) =>
                        {
                            return Ok(Followed::Detached);
                        }
                        reconnected => reconnected?,
                    };
                    let Some((container, followable)) = reconnected else {
                        note_removal(latest(record));
                        return Ok(Followed::Over);
                    };
                    let before = latest(record).restarts;
                    note_seen(latest(record), &container, &mut seen);
                    if latest(record).restarts > before {
                        self.keep(record, "restarted")?;
                    }
                    self.lead_to(record, &container);
                    pump.rewind()?;
                    if was_lost {
                        self.events
                            .send(Event::Note("the engine answers again".to_owned()));
                    }
                    followable
                }
            };
            let obeyed = control::obey(self.engine, &id, cancel, grace, &mut orders, self.events);
            let watched = tokio::select! {
                watched = now.watch(pump) => watched,
                () = obeyed => return Ok(Followed::Detached),
                () = self.observe(&id, &mut looks, &mut peak) => unreachable!("it observes for ever"),
            };
            match watched {
                Ok(()) => {
                    let is_ended = orders.is_stopped || orders.is_timed_out;
                    let obeyed =
                        control::obey(self.engine, &id, cancel, grace, &mut orders, self.events);
                    let again = tokio::select! {
                        again = self.started_again(record, &mut seen, was_lost, pump) => again,
                        () = obeyed => return Ok(Followed::Detached),
                    };
                    if is_ended && restarts(record) {
                        // It was ended by a signal that the engine does not take for an end.
                        self.engine.stop(&id, None, grace).await?;
                    }
                    match again {
                        Ok(None) => break,
                        Ok(again) => (followable, was_lost) = (again, false),
                        // It may be started again when the engine is.
                        Err(RunFailure::Engine(error)) if error.is_absence() => {
                            return Ok(Followed::Detached);
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => {
                    was_lost = true;
                    tracing::info!("following {id}: {error}");
                    self.events.send(Event::Warning(
                        "the engine is gone; the job may go on, and jobctl tries to get back to it"
                            .to_owned(),
                    ));
                }
            }
        }
        pump.finish().await;
        latest(record).peak_memory = peak;
        tokio::select! {
            settled = self.settle(record, orders, was_lost) => settled,
            // The engine is gone once more; whoever looks next settles it.
            () = cancel.released() => Ok(Followed::Detached),
        }
    }

    /// Waits for an engine that is gone, and takes hold of the container again.
    async fn reconnect(&self, id: &str) -> Result<Option<(Container, Followable)>, RunFailure> {
        let container = loop {
            match self.patiently(|| self.engine.container(id)).await?.0 {
                // Until it is started again there is nothing to follow.
                Some(container) if container.status == Status::Restarting => sleep(RETRY[0]).await,
                Some(container) => break container,
                None => return Ok(None),
            }
        };
        let request = LogRequest {
            follow: true,
            timestamps: !container.tty,
            ..LogRequest::default()
        };
        let output = self.engine.logs(id, container.tty, &request).await?;
        let waiting = self.engine.wait(id, Until::Stopped).await?;
        Ok(Some((container, Followable { output, waiting })))
    }

    /// Asks again and again, with growing breaks, while the engine is not there. Whether it was not
    /// there at first is told with its answer.
    pub(super) async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<(T, bool), RunFailure>
    where
        F: Future<Output = Result<T, EngineError>>,
    {
        let [mut pause, longest] = RETRY;
        let start = Instant::now();
        let mut was_gone = false;
        loop {
            match ask().await {
                Err(error) if error.is_absence() && start.elapsed() < GONE => {
                    was_gone = true;
                    sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                answer => return Ok((answer?, was_gone)),
            }
        }
    }

    /// Looks now and then how much memory the container has, whether its files have new metrics, and
    /// whether the engine is there.
    async fn observe(&self, id: &str, looks: &mut MetricLooks, peak: &mut Option<u64>) {
        let mut pause = Duration::from_millis(500);
        let mut silent: Option<Instant> = None;
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(LOOK);
            match timeout(PING, self.engine.memory(id)).await {
                Ok(Ok(sample)) => {
                    if silent.take().is_some() {
                        self.events
                            .send(Event::Note("the engine answers again".to_owned()));
                    }
                    let seen = sample.map(|sample| sample.peak.unwrap_or(sample.used));
                    *peak = seen.max(*peak);
                    looks.look(self, id).await;
                }
                Ok(Err(_)) => {}
                Err(_) => {
                    if silent.is_none() {
                        silent = Some(Instant::now());
                        self.events.send(Event::Warning(
                            "the engine does not answer; jobctl waits for it".to_owned(),
                        ));
                    }
                }
            }
        }
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

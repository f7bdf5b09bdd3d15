//! Runs a pipeline: what a job needs first, and what was made before is not made again.
//!
//! A step whose key is that of a run that succeeded is skipped; one that is under way is waited for,
//! whoever began it. So a pipeline that was cut short, however that was, goes on where it was.

mod down;
mod images;
mod promote;
mod restore;
mod reuse;
mod service;
mod start;
mod step;
mod why;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::engine::docker::DockerEngine;
use crate::event::{Event, Events};
use crate::model::{Name, Port, RunId};
use crate::ops::run::{
    Asked, Control, Controls, Given, Prepared, RunFailure, failed, orphan_words, orphans, reconcile,
};
use crate::plan::up::{Judgement, Step, judge};
use crate::records::{FileLock, ImageRecord, Record, Store, StoreError};

pub use down::{Down, down};
pub use promote::promote;
pub use restore::restore;
pub use why::Why;

/// How often it is tried to take the right to change what runs, and how many times.
const LOCK_LOOK: Duration = Duration::from_millis(50);
const LOCK_LOOKS: u32 = 20;

/// How a pipeline is to be run.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// What each run is asked for with.
    pub asked: Asked,
    /// Whether steps are run that were run before.
    pub is_fresh: bool,
    /// Whether it is said of each step that runs why, and what was and is.
    pub explains: bool,
    /// How many steps run at once, at most.
    pub at_once: usize,
    /// How long a service may take to be healthy.
    pub patience: Duration,
    /// Whether services that were rolled back go forward again.
    pub is_forward: bool,
}

/// Starts processes that keep running when this one has ended.
pub trait Launcher: Send + Sync + 'static {
    /// Starts the supervisor of a run; what waits until its container has started.
    ///
    /// # Errors
    ///
    /// It can't be started or talked to.
    fn supervisor(&self, prepared: &Prepared) -> io::Result<Launching>;

    /// Starts a supervisor for a run that has none, and waits until it supervises.
    ///
    /// # Errors
    ///
    /// It can't be started.
    fn adopter(&self, run: RunId) -> io::Result<()>;

    /// Starts the process that listens on a service's ports, and waits until it does.
    ///
    /// # Errors
    ///
    /// It can't listen; why.
    fn listener(&self, job: &Name) -> Result<(), String>;
}

/// Waits until a run's container has started, or never will.
pub type Launching = Box<dyn FnOnce() -> io::Result<Launched> + Send>;

/// What a run's supervisor told.
#[derive(Debug)]
pub enum Launched {
    /// The container has started.
    Started,
    /// The run is over already: an exit code, and the engine's or jobctl's words.
    Over(u8, String),
}

/// How a step came to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was run before, with the same key.
    UpToDate,
    /// It was under way.
    Resumed,
    /// It was run.
    Ran,
    /// It stays as a rollback has left it.
    RolledBack,
}

/// A step that is done.
#[derive(Debug, Clone)]
pub struct Done {
    /// The job.
    pub job: Name,
    /// The run.
    pub record: Record,
    /// Its image as the engine has it now: that of a run that was made before may be gone.
    pub image: ImageRecord,
    /// How it came to be done.
    pub how: How,
    /// Why it was run, if it was.
    pub why: Option<Why>,
    /// Where a service answers.
    pub ports: Vec<Port>,
}

/// Why a pipeline did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum UpFailure {
    /// A step could not be run.
    #[error(transparent)]
    Run(#[from] RunFailure),
    /// A step ran, and did not succeed.
    #[error("the job `{job}` failed")]
    Step {
        /// The job.
        job: Name,
        /// Its run.
        record: Box<Record>,
    },
    /// What a step made did not pass a gate.
    #[error("the run {} of `{judged}` did not pass the gate of `{job}`: {}", run.short(), failed(judgements))]
    Gate {
        /// The job that is not run.
        job: Name,
        /// The job whose metrics were judged.
        judged: Name,
        /// Its run.
        run: RunId,
        /// What became of each condition.
        judgements: Vec<Judgement>,
    },
    /// A service did not get healthy.
    #[error("the service `{job}` did not start: {why}")]
    Unhealthy {
        /// The service.
        job: Name,
        /// Its run.
        run: RunId,
        /// What it did instead.
        why: String,
        /// The last lines that it wrote.
        log: Vec<String>,
        /// Whether the one that was there before goes on.
        old_goes_on: bool,
    },
    /// A service that was up before, and stays so, is not healthy.
    #[error("the service `{job}` is up, and not healthy: {why}")]
    Ailing {
        /// The service.
        job: Name,
        /// Its run.
        run: RunId,
        /// What was seen.
        why: String,
    },
    /// A service's port can't be had.
    #[error("the service `{job}` can't be reached: {why}")]
    Port {
        /// The service.
        job: Name,
        /// Why.
        why: String,
    },
    /// The process that listens on a service's ports does not end.
    #[error("the process that listens on the ports of `{job}` does not end")]
    Listener {
        /// The service.
        job: Name,
        /// The lock that it holds.
        lock: PathBuf,
    },
    /// There is nothing to go back to.
    #[error("`{job}` has nothing to go back to: {why}")]
    NoWayBack {
        /// The service.
        job: Name,
        /// Why.
        why: String,
    },
    /// Nothing came of a run.
    #[error("the run {} did not succeed, and is not promoted", run.short())]
    NotPromotable {
        /// The run.
        run: RunId,
    },
    /// Another process changes what runs.
    #[error("another `jobctl up`, `down`, `promote` or `rollback` is at work in this project")]
    Busy,
    /// The user wants no more of it.
    #[error("interrupted")]
    Interrupted,
    /// The user let go of it.
    #[error("let go")]
    Detached,
}

impl UpFailure {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Run(failure) => failure.help(),
            Self::Gate { run, .. } => Some(format!(
                "what was up stays up; `jobctl show {}` has all of its metrics",
                run.short()
            )),
            Self::Unhealthy {
                run, old_goes_on, ..
            } => {
                let old = if *old_goes_on {
                    "the one before stays up; "
                } else {
                    ""
                };
                Some(format!(
                    "{old}`jobctl logs {}` has what it wrote",
                    run.short()
                ))
            }
            Self::Ailing { run, .. } => Some(format!(
                "it is left as it is; `jobctl logs {run}` has what it wrote; `jobctl up --fresh` replaces it",
                run = run.short()
            )),
            Self::Port { .. } => Some("end what has the port, or change `ports`".to_owned()),
            Self::Listener { lock, .. } => Some(format!(
                "it can't be seen from here, or is another user's; where it was started, end it: \
                 `fuser -k {}`",
                lock.display()
            )),
            Self::Busy => Some("wait for its end, or end it".to_owned()),
            Self::NotPromotable { .. } => {
                Some("name a run that `jobctl runs --state finished` lists".to_owned())
            }
            Self::Step { .. } | Self::NoWayBack { .. } | Self::Interrupted | Self::Detached => None,
        }
    }
}

impl From<StoreError> for UpFailure {
    fn from(error: StoreError) -> Self {
        Self::Run(error.into())
    }
}

/// A project's pipelines, and what they are run with.
pub struct Pipeline<L> {
    /// The engine.
    pub engine: DockerEngine,
    /// The runs.
    pub store: Store,
    /// How they are to be run.
    pub wishes: Wishes,
    /// What starts processes that keep running.
    pub launcher: L,
    /// Where it is told what happens.
    pub events: Events,
}

impl<L: Launcher> Pipeline<L> {
    /// Runs steps, which are in an order in which they can be run, and promotes the runs that a service
    /// stands on.
    ///
    /// What of it is done when it fails stays done: the next try goes on from there.
    ///
    /// # Errors
    ///
    /// See [`UpFailure`]: the first thing that kept it from its end.
    pub async fn up(
        self: &Arc<Self>,
        steps: Vec<Step>,
        controls: &mut Controls,
    ) -> Result<Vec<Done>, UpFailure> {
        let _lock = self.begin().await?;
        self.see_to_ports(&steps).await?;
        let cache = self.wishes.asked.cache.as_ref();
        let making = images::make(&self.engine, &self.store, &steps, cache, &self.events);
        let images = tokio::select! {
            images = Box::pin(making) => images?,
            () = given_up(controls) => return Err(UpFailure::Interrupted),
        };
        let after: BTreeMap<_, _> = (steps.iter())
            .map(|step| (step.job.clone(), step.after.clone()))
            .collect();
        let (done, failure) = self.run(steps, images, controls).await?;
        self.promote_all(&done, &after, failure.is_none())?;
        let Some(failure) = failure else {
            return Ok(done);
        };
        for step in done {
            if step.record.policy.is_service && step.how == How::Ran {
                let run = step.record.id.short();
                let words = format!(
                    "the service `{}` is up with the run {run} all the same",
                    step.job
                );
                self.events.send(Event::Note(words));
            }
        }
        Err(failure)
    }

    /// Takes the right to change what runs, and finds out what became of what was begun before.
    async fn begin(&self) -> Result<FileLock, UpFailure> {
        let lock = take_lock(&self.store).await?;
        reconcile(&self.engine, &self.store, &self.events).await;
        // A step that needs what is not reachable fails, and says why.
        restore(
            &self.engine,
            &self.store,
            &self.launcher,
            Some(&lock),
            &self.events,
        )
        .await;
        for orphan in orphans(&self.engine, &self.store).await? {
            let words = orphan_words(orphan.run, orphan.job.as_deref(), &self.store);
            self.events.send(Event::Warning(words));
        }
        Ok(lock)
    }
}

/// Takes the right to change what runs. Somebody who only starts a listener again has it for a moment.
async fn take_lock(store: &Store) -> Result<FileLock, UpFailure> {
    for _ in 0..LOCK_LOOKS {
        if let Some(lock) = store.take_up_lock()? {
            return Ok(lock);
        }
        sleep(LOCK_LOOK).await;
    }
    Err(UpFailure::Busy)
}

/// Waits until the user wants no more of it.
pub async fn given_up(controls: &mut Controls) {
    loop {
        match controls.recv().await {
            Some(Control::Interrupt | Control::Terminate | Control::Detach) => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

impl<L: Launcher> Pipeline<L> {
    /// Runs steps as soon as what they need is done, and as many at once as is wished. What was done, and the
    /// first thing that kept the others from it.
    async fn run(
        self: &Arc<Self>,
        steps: Vec<Step>,
        images: BTreeMap<Name, ImageRecord>,
        controls: &mut Controls,
    ) -> Result<(Vec<Done>, Option<UpFailure>), UpFailure> {
        let order: Vec<_> = steps.iter().map(|step| step.job.clone()).collect();
        let mut given = Given {
            images,
            runs: BTreeMap::new(),
        };
        let mut waiting = steps;
        // Tasks of their own: what takes long in one stalls neither another's log nor Ctrl-C.
        let mut running = JoinSet::new();
        let mut told: Vec<UnboundedSender<Control>> = Vec::new();
        let mut done: BTreeMap<Name, Done> = BTreeMap::new();
        let mut failed: Option<UpFailure> = None;
        loop {
            let names: BTreeSet<_> = done.keys().cloned().collect();
            while failed.is_none() && running.len() < self.wishes.at_once {
                let is_next = |step: &Step| step.after.is_subset(&names);
                let Some(at) = waiting.iter().position(is_next) else {
                    break;
                };
                let step = waiting.remove(at);
                if let Err(failure) = self.pass_gates(&step, &done) {
                    failed = Some(failure);
                    break;
                }
                let (sender, mut heard) = unbounded_channel();
                told.push(sender);
                let (pipeline, given) = (Arc::clone(self), given.clone());
                running.spawn(async move { pipeline.step(step, given, &mut heard).await });
            }
            if running.is_empty() {
                break;
            }
            tokio::select! {
                Some(ended) = running.join_next() => match ended.expect("a step does not panic") {
                    Ok(step) => {
                        given.runs.insert(step.job.clone(), step.record.id);
                        given.images.insert(step.job.clone(), step.image.clone());
                        done.insert(step.job.clone(), step);
                    }
                    Err(failure) => {
                        if failed.is_none() {
                            self.tell_of_others(running.len());
                        }
                        failed.get_or_insert(failure);
                    }
                },
                Some(control) = controls.recv() => {
                    if matches!(control, Control::Interrupt | Control::Terminate) {
                        failed.get_or_insert(UpFailure::Interrupted);
                    }
                    // One that has ended hears nothing any more.
                    told.retain(|sender| sender.send(control).is_ok());
                }
            }
        }
        let done = order.iter().filter_map(|job| done.remove(job)).collect();
        Ok((done, failed))
    }

    fn tell_of_others(&self, count: usize) {
        if count > 0 {
            let jobs = if count == 1 { "job" } else { "jobs" };
            self.events.send(Event::Note(format!(
                "nothing more is started; {count} {jobs} under way may end"
            )));
        }
    }

    /// Whether what a step needs passes its gates.
    fn pass_gates(&self, step: &Step, done: &BTreeMap<Name, Done>) -> Result<(), UpFailure> {
        for (judged, gate) in &step.plan.gates {
            let Some(need) = done.get(judged) else {
                continue;
            };
            let promoted = self.store.promoted()?;
            let promoted = promoted.of(judged.as_str()).map(|run| &run.metrics);
            let judgements = judge(gate, &need.record.metrics, promoted);
            if judgements.iter().any(|judgement| !judgement.holds) {
                return Err(UpFailure::Gate {
                    job: step.job.clone(),
                    judged: judged.clone(),
                    run: need.record.id,
                    judgements,
                });
            }
            let said: Vec<_> = judgements.iter().map(ToString::to_string).collect();
            self.events.send(Event::Note(format!(
                "{judged} passed the gate of {}: {}",
                step.job,
                said.join("; ")
            )));
        }
        Ok(())
    }
}

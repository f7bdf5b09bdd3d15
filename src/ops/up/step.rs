//! One step of a pipeline.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::{Done, How, Launcher, Pipeline, UpFailure, Why, given_up, why};
use crate::engine::run::Chunk;
use crate::event::{self, Event, Outcome, Stream};
use crate::model::{Name, RunId};
use crate::ops::run::{
    Controls, Ended, Given, Ready, RunFailure, Streams, attend, begin, collect_again, ready,
    supervise,
};
use crate::plan::run::RunPlan;
use crate::plan::up::Step;
use crate::records::{Ending, ImageRecord, Policy, Record};

/// Chunks of output that wait to be shown.
const WAITING: usize = 32;

impl<L: Launcher> Pipeline<L> {
    /// Runs a step, unless that was done before.
    // Boxed, as the compiler can't tell otherwise that a task may have it.
    pub(super) fn step<'a>(
        &'a self,
        step: Step,
        given: Given,
        controls: &'a mut Controls,
    ) -> BoxFuture<'a, Result<Done, UpFailure>> {
        Box::pin(async move {
            let shown = self.events.step(None, step.job.as_str());
            let stepping = self.stepped(step, &given, &shown, controls);
            let done = Box::pin(stepping).await;
            shown.finish(match &done {
                Ok(done) if done.how == How::UpToDate => Outcome::Skipped(format!(
                    "nothing changed since the run {}",
                    done.record.id.short()
                )),
                Ok(_) => Outcome::Done,
                Err(UpFailure::Interrupted | UpFailure::Detached) => Outcome::Cancelled,
                Err(failure) => Outcome::Failed(failure.to_string()),
            });
            done
        })
    }

    async fn stepped(
        &self,
        step: Step,
        given: &Given,
        shown: &event::Step,
        controls: &mut Controls,
    ) -> Result<Done, UpFailure> {
        let (job, is_service) = (step.job, step.is_service);
        let asked = &self.wishes.asked;
        let again = is_service.then(|| step.plan.clone());
        let making = ready(
            &self.engine,
            &self.store,
            step.plan,
            asked,
            given,
            &self.events,
        );
        let ready = unless_given_up(Box::pin(making), controls).await??;
        match again {
            Some(plan) => {
                let serving = self.serve_or_keep(&job, ready, plan, shown, controls);
                Box::pin(serving).await
            }
            None => Box::pin(self.run_once(&job, ready, shown, controls)).await,
        }
    }

    /// Starts a service as it is asked for, or keeps it as a rollback has left it.
    async fn serve_or_keep(
        &self,
        job: &Name,
        ready: Ready,
        plan: RunPlan,
        shown: &event::Step,
        controls: &mut Controls,
    ) -> Result<Done, UpFailure> {
        let Some(kept) = self.rolled_back(job, &ready, plan).await? else {
            return Box::pin(self.serve(job, ready, shown, controls)).await;
        };
        let mut done = Box::pin(self.serve(job, kept, shown, controls)).await?;
        done.how = How::RolledBack;
        Ok(done)
    }

    async fn run_once(
        &self,
        job: &Name,
        ready: Ready,
        shown: &event::Step,
        controls: &mut Controls,
    ) -> Result<Done, UpFailure> {
        let ready = Arc::new(ready);
        // It reads all that was made before.
        let finding = {
            let (store, is_fresh) = (self.store.clone(), self.wishes.is_fresh);
            let (job, ready) = (job.clone(), Arc::clone(&ready));
            spawn_blocking(move || why::find(&store, &job, &ready, is_fresh))
        };
        let before = unless_given_up(finding, controls).await?;
        let before = before.expect("looking for a run does not panic")?;
        let ready = Arc::into_inner(ready).expect("who looked for a run is done");
        let image = ready.image().clone();
        let mut why = before.as_ref().err().cloned();
        if let Ok(record) = before {
            if record.ending == Some(Ending::OutputsLost) {
                match self.collect(job, record.id, ready.outputs()).await? {
                    Some(record) => return settled(job, record, image, How::Resumed),
                    None => return Box::pin(self.run_once(job, ready, shown, controls)).await,
                }
            }
            if record.state.is_final() {
                return Ok(done(job, record, image, How::UpToDate));
            }
            let resumed = self.resume(record.id, shown, controls).await?;
            // One that ended by itself has its result; what went wrong around it can go better.
            let is_its_own = matches!(resumed.ending, Some(Ending::Success | Ending::Error));
            if is_its_own {
                return settled(job, resumed, image, How::Resumed);
            }
            why = Some(Why::Unsuccessful);
        }
        if let Some(why) = &why {
            self.explain(job, why);
        }
        let asked = &self.wishes.asked;
        let prepared = begin(&self.engine, &self.store, ready, asked).await?;
        let (display, showing) = show(shown, &self.events);
        let streams = Streams {
            display: Some(display),
            ..Streams::default()
        };
        let running = supervise(&self.engine, prepared, streams, controls, &self.events);
        let ended = Box::pin(running).await;
        // Ends with the last of its output.
        let _ = showing.await;
        match ended? {
            Ended::Over(record) => {
                let mut done = settled(job, *record, image, How::Ran)?;
                done.why = why;
                Ok(done)
            }
            Ended::Detached(_) => Err(UpFailure::Detached),
        }
    }

    /// Collects what could not be collected of a run that ended; nothing where it is lost for good.
    async fn collect(
        &self,
        job: &Name,
        id: RunId,
        today: &Policy,
    ) -> Result<Option<Record>, UpFailure> {
        self.events.send(Event::Note(format!(
            "run {} of {job} has outputs that were not collected: collecting them again",
            id.short()
        )));
        let collected =
            collect_again(&self.engine, &self.store, id, Some(today), &self.events).await;
        let record = match collected {
            Ok(record) => record,
            Err(RunFailure::ContainerGone { .. }) => return Ok(None),
            Err(failure) => return Err(failure.into()),
        };
        if record.lost_outputs.is_empty() {
            return Ok(Some(record));
        }
        Err(UpFailure::Step {
            job: job.clone(),
            record: Box::new(record),
        })
    }

    /// Waits for a run that was begun before, and supervises it if nobody does.
    async fn resume(
        &self,
        id: RunId,
        shown: &event::Step,
        controls: &mut Controls,
    ) -> Result<Record, UpFailure> {
        self.events.send(Event::Note(format!(
            "the run {} of it is under way: waiting for it",
            id.short()
        )));
        let (display, showing) = show(shown, &self.events);
        let streams = Streams {
            display: Some(display),
            ..Streams::default()
        };
        let connect = || async { Ok(self.engine.clone()) };
        let attending = attend(connect, &self.store, id, streams, controls, &self.events);
        let ended = Box::pin(attending).await;
        let _ = showing.await;
        match ended? {
            Ended::Over(record) => Ok(*record),
            Ended::Detached(_) => Err(UpFailure::Detached),
        }
    }
}

/// Does something that can be dropped, unless the user wants no more of it.
async fn unless_given_up<T>(
    work: impl Future<Output = T>,
    controls: &mut Controls,
) -> Result<T, UpFailure> {
    tokio::select! {
        biased;
        () = given_up(controls) => Err(UpFailure::Interrupted),
        done = work => Ok(done),
    }
}

fn done(job: &Name, record: Record, image: ImageRecord, how: How) -> Done {
    Done {
        job: job.clone(),
        record,
        image,
        how,
        why: None,
        ports: Vec::new(),
    }
}

fn settled(job: &Name, record: Record, image: ImageRecord, how: How) -> Result<Done, UpFailure> {
    match record.ending {
        Some(Ending::Success) => Ok(done(job, record, image, how)),
        Some(Ending::Stopped) => Err(UpFailure::Interrupted),
        _ => Err(UpFailure::Step {
            job: job.clone(),
            record: Box::new(record),
        }),
    }
}

/// Shows what a job writes as lines of its step.
fn show(
    step: &event::Step,
    events: &event::Events,
) -> (mpsc::Sender<Chunk>, tokio::task::JoinHandle<()>) {
    let (sender, mut chunks) = mpsc::channel::<Chunk>(WAITING);
    let (id, events) = (step.id(), events.clone());
    let showing = tokio::spawn(async move {
        let mut parts: [Vec<u8>; 2] = Default::default();
        let tell = |stream, line: &[u8]| {
            let line = String::from_utf8_lossy(line).trim_end().to_owned();
            if !line.is_empty() {
                let step = id;
                events.send(Event::StepLog { step, stream, line });
            }
        };
        while let Some(chunk) = chunks.recv().await {
            let part = &mut parts[usize::from(chunk.stream == Stream::Stderr)];
            for piece in chunk
                .bytes
                .split_inclusive(|byte| matches!(byte, b'\n' | b'\r'))
            {
                part.extend_from_slice(piece);
                if piece.ends_with(b"\n") || piece.ends_with(b"\r") {
                    tell(chunk.stream, part);
                    part.clear();
                }
            }
            // Nobody reads a line that is longer.
            part.truncate(LONGEST_LINE);
        }
        for (stream, part) in [Stream::Stdout, Stream::Stderr].into_iter().zip(parts) {
            tell(stream, &part);
        }
    });
    (sender, showing)
}

/// The most bytes of a line that are shown.
const LONGEST_LINE: usize = 4096;

//! Which runs are good enough, and going back to the one before.

use std::collections::{BTreeMap, BTreeSet};

use super::service::serving;
use super::{Done, How, Launcher, Pipeline, UpFailure};
use crate::event::{Event, Outcome};
use crate::facts::host::now;
use crate::model::{Name, RunId};
use crate::ops::run::{Controls, Ready, RunFailure};
use crate::plan::run::RunPlan;
use crate::records::{Ending, Promoted, Record, RolledBackFrom, Store};

/// Promotes a run, and the runs that it was made from: gates compare with their metrics from now on.
/// What is promoted now, by job.
///
/// # Errors
///
/// It did not succeed, or another process changes what runs.
pub fn promote(store: &Store, id: RunId) -> Result<Vec<(String, RunId)>, UpFailure> {
    let _lock = store.take_up_lock()?.ok_or(UpFailure::Busy)?;
    let record = store.read(id).map_err(RunFailure::from)?;
    if !is_promotable(&record) {
        return Err(UpFailure::NotPromotable { run: id });
    }
    let mut promoted = store.promoted()?;
    let mut told = Vec::new();
    let mut next = vec![record];
    while let Some(record) = next.pop() {
        promoted.promote(&record, now());
        if let Some(job) = &record.job {
            promoted.go_forward(job);
        }
        told.extend(record.job.map(|job| (job, record.id)));
        // One that is gone is compared with no more.
        let parents = record.parents.values();
        next.extend(parents.filter_map(|parent| store.read(*parent).ok()));
    }
    store.keep_promoted(&promoted)?;
    Ok(told)
}

/// Whether something came of a run, or is to be had of it.
fn is_promotable(record: &Record) -> bool {
    let is_up = record.policy.is_service && !record.state.is_final();
    record.job.is_some() && (is_up || record.ending == Some(Ending::Success))
}

impl<L: Launcher> Pipeline<L> {
    /// Starts what was up before what is up now, and puts it in its place.
    ///
    /// # Errors
    ///
    /// There was none, or it does not start any more.
    pub async fn rollback(
        &self,
        job: &Name,
        plan: RunPlan,
        controls: &mut Controls,
    ) -> Result<Done, UpFailure> {
        let _lock = self.begin().await?;
        let mut promoted = self.store.promoted()?;
        let before = self.before(job, &promoted).await?;
        let run = before.id.short();
        let current = promoted.of(job.as_str());
        let mut from = serving(&self.store, job.as_str())?;
        from.extend(current.and_then(|current| self.store.read(current.run).ok()));
        let ready = self.again(&before, plan).await?;
        let shown = self
            .events
            .step(None, format!("{job}, as in the run {run}"));
        let served = Box::pin(self.serve(job, ready, &shown, controls)).await;
        shown.finish(match &served {
            Ok(_) => Outcome::Done,
            Err(failure) => Outcome::Failed(failure.to_string()),
        });
        let done = served?;
        let from = from.iter().map(RolledBackFrom::from);
        promoted.roll_back(job.as_str(), before.id, &done.record, from, now());
        let mut parents: Vec<_> = before.parents.into_iter().collect();
        while let Some((job, run)) = parents.pop() {
            promoted.go_back(&job, run);
            if let Ok(parent) = self.store.read(run) {
                parents.extend(parent.parents);
            }
        }
        self.store.keep_promoted(&promoted)?;
        Ok(done)
    }

    /// What an earlier run was, to be run again with today's ports and secrets.
    async fn again(&self, before: &Record, plan: RunPlan) -> Result<Ready, UpFailure> {
        let ports = plan.spec.ports.clone();
        let (mut ready, doubts) = Ready::again(&self.store, before, plan).await?;
        ready.publish(ports);
        for doubt in doubts {
            let warning = format!("the run {}: {doubt}", before.id.short());
            self.events.send(Event::Warning(warning));
        }
        Ok(ready)
    }

    /// The run that a service was rolled back to, to be kept; nothing where another is asked for than what
    /// it was rolled back from.
    pub(super) async fn rolled_back(
        &self,
        job: &Name,
        ready: &Ready,
        plan: RunPlan,
    ) -> Result<Option<Ready>, UpFailure> {
        let promoted = self.store.promoted()?;
        let rollback = promoted.rollback(job.as_str());
        let Some(rollback) = rollback.filter(|_| !self.wishes.is_forward) else {
            return Ok(None);
        };
        if !(rollback.from.iter()).any(|from| ready.is_rolled_back(from)) {
            return Ok(None);
        }
        let run = rollback.to.short();
        let record = match self.store.read(rollback.to) {
            Ok(record) => record,
            Err(error) => {
                self.events.send(Event::Warning(format!(
                    "`{job}` was rolled back to the run {run}, which is gone, and goes forward again: {error}"
                )));
                return Ok(None);
            }
        };
        self.events.send(Event::Note(format!(
            "{job} stays rolled back, at the run {run}, until something changes; `jobctl up --forward` \
             goes forward again"
        )));
        self.again(&record, plan).await.map(Some)
    }

    /// Promotes what was done where a service is up with it, and all else if everything was done. What a
    /// service was rolled back from is left out, unless another one is up with it.
    pub(super) fn promote_all(
        &self,
        done: &[Done],
        after: &BTreeMap<Name, BTreeSet<Name>>,
        is_whole: bool,
    ) -> Result<(), UpFailure> {
        let services: Vec<_> = (done.iter())
            .filter(|step| step.record.policy.is_service)
            .collect();
        if services.is_empty() {
            return Ok(());
        }
        let needed = |is_rolled_back: bool| {
            let of_these = |step: &&&Done| (step.how == How::RolledBack) == is_rolled_back;
            let mut next: Vec<_> = (services.iter().filter(of_these))
                .map(|step| &step.job)
                .collect();
            let mut needed = BTreeSet::new();
            while let Some(job) = next.pop() {
                if needed.insert(job) {
                    next.extend(after.get(job).into_iter().flatten());
                }
            }
            needed
        };
        let (left_out, wanted) = (needed(true), needed(false));
        let mut promoted = self.store.promoted()?;
        for step in done {
            let job = step.job.as_str();
            if step.how == How::RolledBack {
                let before = promoted.rollback(job).map(|rollback| rollback.to);
                if let Some(before) = before.filter(|before| *before != step.record.id) {
                    promoted.roll_back(job, before, &step.record, [], now());
                }
            } else if wanted.contains(&step.job) || (is_whole && !left_out.contains(&step.job)) {
                promoted.promote(&step.record, now());
                promoted.go_forward(job);
            }
        }
        Ok(self.store.keep_promoted(&promoted)?)
    }

    /// The run that was up before, of which everything is there that it needs.
    async fn before(&self, job: &Name, promoted: &Promoted) -> Result<Record, UpFailure> {
        let no_way = |why: String| UpFailure::NoWayBack {
            job: job.clone(),
            why,
        };
        // One that was started again as it had been is no step back.
        let current = promoted.of(job.as_str());
        let current = current.and_then(|current| self.store.read(current.run).ok());
        let is_same = |run: RunId| {
            let before = self.store.read(run).ok();
            let pair = before.as_ref().zip(current.as_ref());
            pair.is_some_and(|(before, current)| {
                before.key == current.key && before.image.is_alike(&current.image)
            })
        };
        let mut before = promoted.before(job.as_str());
        let before = before.find(|before| !is_same(before.run));
        let before = before.ok_or_else(|| no_way("nothing else was up before".to_owned()))?;
        let run = before.run.short();
        let record = self.store.read(before.run);
        let record = record.map_err(|error| no_way(format!("the run {run} was, and {error}")))?;
        let image = record.image.id.clone().unwrap_or_default();
        let found = self.engine.image_details(&image).await;
        if found.map_err(RunFailure::from)?.is_none() {
            let name = &record.image.name;
            return Err(no_way(format!(
                "the image {name} of the run {run} is gone from the engine"
            )));
        }
        Ok(record)
    }
}

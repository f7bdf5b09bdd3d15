//! Which runs are good enough, and going back to the one before.

use super::{Done, Launcher, Pipeline, UpFailure};
use crate::event::{Event, Outcome};
use crate::facts::host::now;
use crate::model::{Name, RunId};
use crate::ops::run::{Controls, Ready, RunFailure};
use crate::plan::run::RunPlan;
use crate::records::{Ending, Promoted, Record, Store};

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
        let ports = plan.spec.ports.clone();
        let (mut ready, doubts) = Ready::again(&self.store, &before, plan).await?;
        ready.publish(ports);
        for doubt in doubts {
            let warning = format!("the run {run}: {doubt}");
            self.events.send(Event::Warning(warning));
        }
        let shown = self
            .events
            .step(None, format!("{job}, as in the run {run}"));
        let served = Box::pin(self.serve(job, ready, &shown, controls)).await;
        shown.finish(match &served {
            Ok(_) => Outcome::Done,
            Err(failure) => Outcome::Failed(failure.to_string()),
        });
        let done = served?;
        promoted.replace(job.as_str(), before.id, &done.record, now());
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

    /// The run that was up before, of which everything is there that it needs.
    async fn before(&self, job: &Name, promoted: &Promoted) -> Result<Record, UpFailure> {
        let no_way = |why: String| UpFailure::NoWayBack {
            job: job.clone(),
            why,
        };
        let before = promoted.before(job.as_str());
        let before = before.ok_or_else(|| no_way("nothing was up before".to_owned()))?;
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

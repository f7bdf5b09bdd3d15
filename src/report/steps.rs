//! Which steps are under way, for the reporters that show names.

use std::collections::BTreeMap;
use std::time::Instant;

use super::printable;
use crate::event::{Outcome, StepId};

/// A step under way.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) depth: usize,
    pub(super) started: Instant,
}

/// The steps under way, by number.
#[derive(Debug, Default)]
pub(super) struct Steps(BTreeMap<StepId, Step>);

impl Steps {
    /// Notes a new step; returns it.
    pub(super) fn start(&mut self, id: StepId, parent: Option<StepId>, name: &str) -> &Step {
        let depth = parent
            .and_then(|parent| self.0.get(&parent))
            .map_or(0, |parent| parent.depth + 1);
        self.0.entry(id).or_insert(Step {
            name: printable::line(name),
            depth,
            started: Instant::now(),
        })
    }

    /// Forgets a step; returns it, if it was known.
    pub(super) fn finish(&mut self, id: StepId) -> Option<Step> {
        self.0.remove(&id)
    }

    /// A step's name, or a stand-in for one that was never started.
    pub(super) fn name(&self, id: StepId) -> &str {
        self.0.get(&id).map_or("?", |step| step.name.as_str())
    }

    /// How many steps a step is part of.
    pub(super) fn depth(&self, id: StepId) -> usize {
        self.0.get(&id).map_or(0, |step| step.depth)
    }

    /// The steps under way, the oldest first.
    pub(super) fn under_way(&self) -> impl Iterator<Item = &Step> {
        self.0.values()
    }
}

/// The mark and the words of an outcome: `✓`, and what is to be said of it.
pub(super) fn outcome_words(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Done => ("ok", None),
        Outcome::Cached => ("cached", None),
        Outcome::Skipped(why) => ("skipped", Some(why)),
        Outcome::Warned(why) => ("warning", Some(why)),
        // Why is said by the step below it that failed.
        Outcome::Failed(why) if why.is_empty() => ("failed", None),
        Outcome::Failed(why) => ("failed", Some(why)),
        Outcome::Cancelled => ("cancelled", None),
    }
}

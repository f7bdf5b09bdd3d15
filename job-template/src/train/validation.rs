//! What follows from a validation: which model is the best, and when training stops early.

use std::error::Error;

use super::Training;
use super::outcome::Subset;
use super::record::Line;
use crate::checkpoint::{Best, ResumeError};
use crate::config::{Config, Metric, Objective};
use crate::data::Reviews;
use crate::evaluate::Report;
use crate::progress::say;

/// Whether there are validation reviews, where the variables ask for more than a validation after each epoch.
///
/// # Errors
/// There are none.
pub(super) fn check(config: &Config, reviews: &Reviews) -> Result<(), String> {
    let training = &config.training;
    let best = training.best.map(|best| format!("BEST={best}"));
    let patience = training.patience.map(|count| format!("PATIENCE={count}"));
    let eval_steps = training
        .eval_steps
        .map(|count| format!("EVAL_STEPS={count}"));
    match best.or(patience).or(eval_steps) {
        Some(given) if reviews.valid.is_empty() => Err(format!(
            "{given}: there are no validation reviews: VALID_PCT={} of {} training reviews; raise one of \
             them",
            config.data.valid_pct,
            reviews.train.len()
        )),
        _ => Ok(()),
    }
}

impl Objective {
    /// With `PATIENCE` alone.
    const LOSS: Self = Self {
        metric: Metric::Loss,
        is_max: false,
    };

    fn value(self, report: &Report) -> f64 {
        match self.metric {
            Metric::Accuracy => report.accuracy,
            Metric::Loss => report.loss,
            Metric::MacroF1 => report.macro_f1,
        }
    }
}

impl Training<'_> {
    fn objective(&self) -> Option<Objective> {
        let training = &self.config.training;
        let of_patience = training.patience.map(|_| Objective::LOSS);
        training.best.or(of_patience)
    }

    /// Validates the model as it is now, after `place`, where there are reviews for it.
    pub(super) fn validate(&mut self, place: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Some(report) = self.report(Subset::Valid) else {
            return Ok(());
        };
        if !report.loss.is_finite() {
            return Err(format!(
                "training diverged: the validation loss after {place} is not finite; a smaller LR may help"
            )
            .into());
        }
        say(&format!(
            "{place}: valid_loss={:.4} valid_accuracy={:.4}",
            report.loss, report.accuracy
        ));
        let line = Line {
            valid_loss: Some(report.loss),
            valid_accuracy: Some(report.accuracy),
            valid_macro_f1: Some(report.macro_f1),
            ..self.line()
        };
        self.add_line(&line)?;
        let Some(objective) = self.objective() else {
            return Ok(());
        };
        let now = Best {
            step: self.position.step,
            value: objective.value(&report),
        };
        let is_better = |best: Best| objective.is_better(now.value, best.value);
        if self.position.best.is_none_or(is_better) {
            if self.config.training.best.is_some() {
                let [(_, parameters), ..] = self.learner.state();
                self.resume.write_best(now.step, parameters)?;
            }
            self.position.best = Some(now);
            self.position.validations_since_best = 0;
        } else {
            self.position.validations_since_best += 1;
        }
        Ok(())
    }

    /// Why training stopped before its last step, if it did.
    pub(super) fn early_stop(&self) -> Option<String> {
        let (step, steps) = (self.position.step, self.steps());
        let patience = self.config.training.patience?;
        if self.position.validations_since_best < patience || step == steps {
            return None;
        }
        let (objective, best) = (self.objective()?, self.position.best?);
        Some(format!(
            "stopped after step {step} of {steps}: no validation since step {} ({} {:.4}) was better, and \
             PATIENCE={patience}",
            best.step, objective.metric, best.value
        ))
    }

    /// Has the learner's parameters be those of the best model, where that is to be kept.
    pub(super) fn restore_best(&mut self) -> Result<(), ResumeError> {
        let (Some(best), Some(objective)) = (self.best(), self.objective()) else {
            return Ok(());
        };
        say(&format!(
            "the best model is that of step {}: {} {:.4}",
            best.step, objective.metric, best.value
        ));
        if best.step != self.position.step {
            let [(_, parameters), ..] = self.learner.state();
            self.resume.read_best(best.step, parameters)?;
            self.learner.restored(best.step as u64);
        }
        Ok(())
    }

    /// The validation whose model is kept, where `BEST` says which.
    pub(super) fn best(&self) -> Option<Best> {
        self.config.training.best.and(self.position.best)
    }
}

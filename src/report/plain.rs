//! A line for each thing that happens: for logs, CI, and terminals that can't redraw.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::Reporter;
use super::printable;
use super::steps::{Steps, outcome_words};
use super::words::elapsed;
use crate::event::{Event, Outcome, StepId};

/// The longest silence: CI systems give a job up that says nothing for minutes.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Writes lines.
pub struct Plain {
    out: Box<dyn Write + Send>,
    steps: Steps,
    last: Instant,
    is_quiet: bool,
    /// The step whose lines were written last, so that its name need not be said again.
    speaking: Option<StepId>,
}

impl Plain {
    /// Writes a line for each event.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self {
            out,
            steps: Steps::default(),
            last: Instant::now(),
            is_quiet: false,
            speaking: None,
        }
    }

    /// Writes warnings and failures only.
    #[must_use]
    pub fn quiet(out: Box<dyn Write + Send>) -> Self {
        Self {
            is_quiet: true,
            ..Self::new(out)
        }
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.last = Instant::now();
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }
}

impl Reporter for Plain {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::StepStarted { step, parent, name } => {
                self.steps.start(*step, *parent, name);
                Ok(())
            }
            Event::StepLog { step, line, .. } if !self.is_quiet => {
                let indent = "  ".repeat(self.steps.depth(*step));
                if self.speaking != Some(*step) {
                    let header = format!("{indent}{}", self.steps.name(*step));
                    self.line(&header)?;
                    self.speaking = Some(*step);
                }
                self.line(&format!("{indent}  | {}", printable::line(line)))
            }
            Event::StepFinished {
                step,
                outcome,
                elapsed: time,
            } => {
                let Some(step) = self.steps.finish(*step) else {
                    return Ok(());
                };
                let is_bad = matches!(outcome, Outcome::Failed(_) | Outcome::Warned(_));
                if self.is_quiet && !is_bad {
                    return Ok(());
                }
                self.speaking = None;
                let indent = "  ".repeat(step.depth);
                let (word, why) = outcome_words(outcome);
                let why = why
                    .map(|why| format!(": {}", printable::text(why)))
                    .unwrap_or_default();
                self.line(&format!(
                    "{indent}{} {word} ({}){why}",
                    step.name,
                    elapsed(*time)
                ))
            }
            Event::Note(text) if !self.is_quiet => self.line(&printable::text(text)),
            Event::Warning(text) => self.line(&format!("warning: {}", printable::text(text))),
            Event::StepProgress { .. } | Event::StepLog { .. } | Event::Note(_) => Ok(()),
        }
    }

    fn tick(&mut self) -> io::Result<()> {
        if self.is_quiet || self.last.elapsed() < HEARTBEAT {
            return Ok(());
        }
        let newest = self.steps.under_way().last();
        let Some(line) = newest.map(|step| {
            format!(
                "{} … ({} so far)",
                step.name,
                elapsed(step.started.elapsed())
            )
        }) else {
            return Ok(());
        };
        self.line(&line)
    }
}

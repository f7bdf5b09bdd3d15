//! A line for each thing that happens: for logs, CI, and terminals that can't redraw.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::printable;
use super::steps::{Steps, outcome_words};
use super::words::elapsed;
use jiff::Timestamp;

use super::{Marks, Reporter};
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
    /// How the log is told what folds, and the step that is folded now.
    marks: Option<(Marks, Box<dyn Write + Send>)>,
    /// When that was known, by two clocks.
    since: (Timestamp, Instant),
    folded: Option<StepId>,
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
            marks: None,
            since: (Timestamp::UNIX_EPOCH, Instant::now()),
            folded: None,
        }
    }

    /// The same in a log that folds what belongs to a step. Of steps that go on at once, the first does.
    #[must_use]
    pub fn marked(
        marks: Option<(Marks, Box<dyn Write + Send>)>,
        now: Timestamp,
        out: Box<dyn Write + Send>,
    ) -> Self {
        Self {
            marks,
            since: (now, Instant::now()),
            ..Self::new(out)
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

    fn seconds(&self) -> i64 {
        let (then, instant) = self.since;
        then.as_second()
            .saturating_add_unsigned(instant.elapsed().as_secs())
    }

    /// Writes what the log folds by.
    fn mark(&mut self, mark: impl FnOnce(Marks, i64) -> String) -> io::Result<()> {
        let seconds = self.seconds();
        let Some((marks, out)) = &mut self.marks else {
            return Ok(());
        };
        self.last = Instant::now();
        writeln!(out, "{}", mark(*marks, seconds))?;
        out.flush()
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.last = Instant::now();
        // In one piece: others write to the same log.
        self.out.write_all(format!("{line}\n").as_bytes())?;
        self.out.flush()
    }
}

impl Reporter for Plain {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::StepStarted { step, parent, name } => {
                self.steps.start(*step, *parent, name);
                if parent.is_some() || self.folded.is_some() {
                    return Ok(());
                }
                self.folded = self.marks.is_some().then_some(*step);
                self.mark(|marks, seconds| marks.begin(step.0, name, seconds))
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
                let id = *step;
                let Some(step) = self.steps.finish(id) else {
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
                ))?;
                if self.folded != Some(id) {
                    return Ok(());
                }
                self.folded = None;
                self.mark(|marks, seconds| marks.end(id.0, seconds))
            }
            Event::Note(text) if !self.is_quiet => self.line(&printable::text(text)),
            Event::Warning(text) => self.line(&format!("warning: {}", printable::text(text))),
            Event::StepProgress { .. } | Event::StepLog { .. } | Event::Note(_) => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        // What was given up in the middle does not fold what comes behind it.
        match self.folded.take() {
            Some(folded) => self.mark(|marks, seconds| marks.end(folded.0, seconds)),
            None => Ok(()),
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

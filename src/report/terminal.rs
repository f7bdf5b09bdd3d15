//! Redrawn lines: what is under way, with a spinner or a bar, below what is done.

use std::collections::BTreeMap;
use std::io;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::Reporter;
use super::printable;
use super::steps::{Steps, outcome_words};
use super::words::elapsed;
use crate::event::{Event, Outcome, StepId, Unit};

/// Redraws at most this often.
const REDRAWS_PER_SECOND: u8 = 10;

/// Terminals with fewer columns get no bars.
const COLUMNS_FOR_BARS: u16 = 70;

/// Draws on a terminal.
pub struct Terminal {
    bars: MultiProgress,
    steps: Steps,
    drawn: BTreeMap<StepId, ProgressBar>,
    has_bars: bool,
}

impl Terminal {
    /// Draws on stderr.
    #[must_use]
    pub fn stderr() -> Self {
        let size = rustix::termios::tcgetwinsize(io::stderr());
        let columns = size.map_or(80, |size| size.ws_col);
        Self::on(
            ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND),
            columns,
        )
    }

    /// Draws on any terminal.
    #[must_use]
    pub fn term(term: Box<dyn TermLike>) -> Self {
        let columns = term.width();
        Self::on(
            ProgressDrawTarget::term_like_with_hz(term, REDRAWS_PER_SECOND),
            columns,
        )
    }

    fn on(target: ProgressDrawTarget, columns: u16) -> Self {
        Self {
            bars: MultiProgress::with_draw_target(target),
            steps: Steps::default(),
            drawn: BTreeMap::new(),
            has_bars: columns >= COLUMNS_FOR_BARS,
        }
    }

    fn started(&mut self, id: StepId, parent: Option<StepId>, name: &str) {
        let step = self.steps.start(id, parent, name);
        let bar = ProgressBar::new_spinner()
            .with_style(style("{prefix}{spinner} {elapsed:>3} {wide_msg}"))
            .with_prefix("  ".repeat(step.depth))
            .with_message(step.name.clone());
        self.drawn.insert(id, self.bars.add(bar));
    }

    fn progress(&mut self, id: StepId, current: u64, total: Option<u64>, unit: Unit) {
        let Some(bar) = self.drawn.get(&id) else {
            return;
        };
        let template = match (total, unit) {
            (Some(_), Unit::Bytes) if self.has_bars => {
                "{prefix}{spinner} {wide_msg} [{bar:10}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec:>11} {eta:>3}"
            }
            (Some(_), Unit::Count) if self.has_bars => {
                "{prefix}{spinner} {wide_msg} [{bar:20}] {pos}/{len} {eta:>3}"
            }
            (Some(_), Unit::Bytes) => {
                "{prefix}{spinner} {wide_msg} {percent}% of {decimal_total_bytes} {eta:>3}"
            }
            (Some(_), Unit::Count) => "{prefix}{spinner} {wide_msg} {pos}/{len} {eta:>3}",
            (None, Unit::Bytes) => "{prefix}{spinner} {wide_msg} {decimal_bytes}",
            (None, Unit::Count) => "{prefix}{spinner} {wide_msg} {pos}",
        };
        if bar.length() != total || bar.position() == 0 {
            bar.set_style(style(template));
            if let Some(total) = total {
                bar.set_length(total);
            }
        }
        // An engine may count more than it said there would be.
        bar.set_position(total.map_or(current, |total| current.min(total)));
    }

    fn finished(
        &mut self,
        id: StepId,
        outcome: &Outcome,
        time: std::time::Duration,
    ) -> io::Result<()> {
        if let Some(bar) = self.drawn.remove(&id) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        let Some(step) = self.steps.finish(id) else {
            return Ok(());
        };
        let mark = match outcome {
            Outcome::Done | Outcome::Cached => "✓",
            Outcome::Skipped(_) | Outcome::Cancelled => "-",
            Outcome::Warned(_) => "!",
            Outcome::Failed(_) => "✗",
        };
        let indent = "  ".repeat(step.depth);
        let word = match outcome_words(outcome) {
            ("ok", _) => String::new(),
            (word, None) => format!(" {word}"),
            (word, Some(why)) => format!(" {word}: {}", printable::text(why)),
        };
        self.bars.println(format!(
            "{indent}{mark} {} {}{word}",
            step.name,
            elapsed(time)
        ))
    }
}

impl Reporter for Terminal {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::StepStarted { step, parent, name } => {
                self.started(*step, *parent, name);
                Ok(())
            }
            Event::StepProgress {
                step,
                current,
                total,
                unit,
            } => {
                self.progress(*step, *current, *total, *unit);
                Ok(())
            }
            // What a step says is shown while it is under way; of one that fails, whoever started
            // it repeats the end.
            Event::StepLog { step, line, .. } => {
                if let Some(bar) = self.drawn.get(step) {
                    let line = printable::line(line);
                    bar.set_message(format!("{} │ {}", self.steps.name(*step), line.trim()));
                }
                Ok(())
            }
            Event::StepFinished {
                step,
                outcome,
                elapsed,
            } => self.finished(*step, outcome, *elapsed),
            Event::Note(text) => self.bars.println(printable::text(text)),
            Event::Warning(text) => self.bars.println(format!("! {}", printable::text(text))),
        }
    }

    fn tick(&mut self) -> io::Result<()> {
        for bar in self.drawn.values() {
            bar.tick();
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.drawn.clear();
        self.bars.clear()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates in this file are valid")
        .progress_chars("=> ")
}

//! How far things are: a bar on a terminal, lines elsewhere. People read it, so it goes to stderr.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};

use crate::log;
pub use crate::log::say;

/// Without a terminal, a line at least so often where there is news.
const EVERY: Duration = Duration::from_secs(5);

/// A piece of work whose size is known.
pub struct Progress {
    name: &'static str,
    total: usize,
    done: usize,
    /// What was done already when it began.
    before: usize,
    start: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins with `done` of `total`.
    #[must_use]
    pub fn new(name: &'static str, total: usize, done: usize) -> Self {
        let bar = (stderr().is_terminal() && !log::is_json()).then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}")
                .expect("the template is right");
            let bar = ProgressBar::new(total as u64)
                .with_style(style)
                .with_prefix(name);
            bar.set_position(done as u64);
            bar
        });
        let now = Instant::now();
        Self {
            name,
            total,
            done,
            before: done,
            start: now,
            last_line: now,
            bar,
        }
    }

    /// So many are done, those that were done already included.
    pub fn advance_to(&mut self, done: usize) {
        if done > self.done {
            self.advance(done - self.done, "");
        }
    }

    /// `count` more are done. `detail` says more of them.
    pub fn advance(&mut self, count: usize, detail: &str) {
        self.done += count;
        let seconds = self.start.elapsed().as_secs_f64();
        let rate = (self.done - self.before) as f64 / seconds.max(1e-9);
        let left = Duration::from_secs_f64((self.total - self.done) as f64 / rate.max(1e-9));
        let blank = if detail.is_empty() { "" } else { "  " };
        let message = format!(
            "{detail}{blank}{rate:.1}/s  {} left",
            FormattedDuration(left)
        );
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64);
            bar.set_message(message);
        } else if self.last_line.elapsed() >= EVERY || self.done == self.total {
            self.last_line = Instant::now();
            let Self {
                name, done, total, ..
            } = self;
            say(&format!("{name} {done}/{total}  {message}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

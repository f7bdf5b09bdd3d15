//! Events and diagnostics → text for people, or JSON. The only place that names indicatif.
//!
//! Everything here returns text or writes to a writer that it is given; [`crate::cli`] decides
//! which.

mod build;
mod chart;
mod ci;
mod copied;
mod curves;
mod diagnosis;
pub mod diagnostics;
mod done;
mod export;
mod guard;
mod images;
mod json;
mod metrics;
mod plain;
mod printable;
mod ps;
mod push;
mod record;
mod run;
mod run_plan;
mod runs;
mod schemas;
mod stamps;
mod steps;
mod table;
mod terminal;
mod trust;
mod up;
mod validation;
mod verification;
mod words;
mod yaml;

use std::io::{self, Write};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::event::{Event, EventReceiver, Received};

pub use build::{build_failure, build_human, build_json, build_plan_human, build_plan_json};
pub use chart::{Chart, Curve, PngError, draw, png, svg};
pub use ci::{Marks, build_summary, push_summary, runs_summary};
pub use copied::{copied_human, copied_json, get_failure};
pub use curves::{Plot, PlotX, charts, plot_json, plots};
pub use diagnosis::{diagnosis_human, diagnosis_json};
pub use done::{error_json, ids_json, prune_json, wait_json};
pub use export::compose_file;
pub use guard::Guard;
pub use images::{images_human, images_json, pull_human, pull_json};
pub use json::{Json, said_json};
pub use metrics::{
    history_csv, history_human, last_csv, last_human, metrics_failure, metrics_json,
};
pub use plain::Plain;
pub use printable::{
    escaped as printable_document, laid_out as printable_result, name as printable_name,
    text as printable_text,
};
pub use ps::{ps_human, ps_json};
pub use push::{push_human, push_json, push_plan_human, push_plan_json};
pub use record::{files_human, files_json, record_human, record_json};
pub use run::{outputs, run_ended, run_started};
pub use run_plan::{run_plan_human, run_plan_json};
pub use runs::{runs_human, runs_json};
pub use schemas::SCHEMAS;
pub use stamps::stamped;
pub use terminal::Terminal;
pub use trust::{host_program, revoked_json, trust_human, trust_json};
pub use up::{
    down_human, down_json, pipeline_human, pipeline_json, promoted_human, promoted_json, up_human,
    up_json,
};
pub use validation::{validation_human, validation_json};
pub use verification::{verification_human, verification_json};
pub use words::{ago, bytes, counted, elapsed, figure};

/// How progress is shown on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Redrawn lines, on a terminal.
    Terminal,
    /// A line for each thing that happens.
    Plain,
    /// An event as JSON on each line.
    Json,
    /// Only warnings and failures.
    Quiet,
}

/// Shows events as they come.
///
/// An error means that nobody sees it (the pipe is closed, the disk is full): the reporter is then
/// not called again, and the work goes on.
pub trait Reporter: Send {
    /// Shows one event.
    ///
    /// # Errors
    ///
    /// What writing it met with.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// Called every [`TICK`] when nothing happens.
    ///
    /// # Errors
    ///
    /// What writing met with.
    fn tick(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Called once, when no event will follow.
    ///
    /// # Errors
    ///
    /// What writing met with.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How often a reporter is called when nothing happens.
pub const TICK: Duration = Duration::from_millis(100);

/// The reporter for a way of showing progress. In a log that folds, each step folds: what says so is written
/// to the writer that comes with the marks, which takes it as it is.
#[must_use]
pub fn reporter(
    progress: Progress,
    marks: Option<(Marks, Box<dyn Write + Send>)>,
    now: Timestamp,
    stderr: Box<dyn Write + Send>,
) -> Box<dyn Reporter> {
    match progress {
        Progress::Terminal => Box::new(Terminal::stderr()),
        Progress::Plain => Box::new(Plain::marked(marks, now, stderr)),
        Progress::Quiet => Box::new(Plain::quiet(stderr)),
        Progress::Json => Box::new(Json::new(stderr)),
    }
}

/// Draws events until the last sender is gone, in a thread of its own: whoever reads what is drawn
/// may be slow. Join it to see the last of them drawn; it has the warnings that were.
///
/// # Errors
///
/// There is no thread for it.
pub fn spawn(
    mut reporter: Box<dyn Reporter>,
    events: EventReceiver,
) -> io::Result<JoinHandle<Vec<String>>> {
    thread::Builder::new().spawn(move || {
        let mut warnings = Vec::new();
        if let Err(error) = draw_all(&mut *reporter, &events, &mut warnings) {
            // It can't be reported: reporting is what failed.
            tracing::debug!(%error, "progress is no longer shown");
        }
        warnings
    })
}

fn draw_all(
    reporter: &mut dyn Reporter,
    events: &EventReceiver,
    warnings: &mut Vec<String>,
) -> io::Result<()> {
    let mut ticked = Instant::now();
    loop {
        match events.receive(TICK) {
            Received::Event(event) => {
                reporter.event(&event)?;
                if let Event::Warning(warning) = event {
                    warnings.push(warning);
                }
            }
            Received::Nothing => {}
            Received::Closed => return reporter.finish(),
        }
        if ticked.elapsed() >= TICK {
            reporter.tick()?;
            ticked = Instant::now();
        }
    }
}

//! Runs, listed.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::printable::line;
use super::table::columns;
use super::words::{ago, elapsed, figure};
use crate::ops::runs::Runs;
use crate::records::{Ending, State, Summary};

/// So many metrics are shown of each run.
const METRICS: usize = 3;

/// A table: newest first, and below it what can't be read.
#[must_use]
pub fn runs_human(runs: &Runs, now: Timestamp) -> String {
    let mut text = String::new();
    if runs.runs.is_empty() && runs.unread.is_empty() {
        return "no runs".to_owned();
    }
    if !runs.runs.is_empty() {
        let heads = ["RUN", "JOB", "STATE", "CREATED", "TOOK", "METRICS"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        let is_promoted = |run: &Summary| runs.promoted.contains(&run.id);
        rows.extend(runs.runs.iter().map(|run| row(run, is_promoted(run), now)));
        text.push_str(&columns(&rows));
    }
    if runs.left_out > 0 {
        let _ = writeln!(text, "… and {} more: --all", runs.left_out);
    }
    for (_, error) in &runs.unread {
        let _ = writeln!(text, "{}", line(&error.to_string()));
    }
    text
}

fn row(run: &Summary, is_promoted: bool, now: Timestamp) -> Vec<String> {
    let took = run.started.map(|started| {
        let end = run.finished.unwrap_or(now);
        elapsed(between(started, end))
    });
    let metrics = run.metrics.iter().take(METRICS);
    let metrics: Vec<_> = metrics
        .map(|(name, value)| format!("{}={}", line(name), figure(*value)))
        .collect();
    let more = if run.metrics.len() > METRICS {
        " …"
    } else {
        ""
    };
    let mut state = state_words(run.state, run.ending, run.exit_code);
    if is_promoted {
        state.push_str(", promoted");
    }
    vec![
        run.id.short(),
        line(run.job.as_deref().unwrap_or(&run.image)),
        state,
        ago(between(run.created, now)),
        took.unwrap_or_default(),
        metrics.join(" ") + more,
    ]
}

/// `running`, `finished`, `failed: exit code 3`, `failed: out of memory`.
pub(super) fn state_words(state: State, ending: Option<Ending>, exit_code: Option<u8>) -> String {
    let word = state_word(state);
    if state != State::Failed {
        return word.to_owned();
    }
    let code = exit_code.map_or_else(String::new, |code| format!("exit code {code}"));
    match ending {
        Some(Ending::Error) | None if code.is_empty() => word.to_owned(),
        Some(Ending::Error) | None => format!("{word}: {code}"),
        Some(ending) => format!("{word}: {}", ending_words(ending)),
    }
}

/// How far a run is.
pub(super) fn state_word(state: State) -> &'static str {
    match state {
        State::Created => "created",
        State::Submitted => "submitted",
        State::Running => "running",
        State::Finished => "finished",
        State::Failed => "failed",
        State::Lost => "lost",
    }
}

/// Why a run ended.
pub(super) fn ending_words(ending: Ending) -> &'static str {
    match ending {
        Ending::Success => "success",
        Ending::Error => "error",
        Ending::Oom => "out of memory",
        Ending::Timeout => "timeout",
        Ending::Stopped => "stopped",
        Ending::EngineStopped => "the engine stopped",
        Ending::NotStarted => "not started",
        Ending::Infra => "the engine failed",
        Ending::Removed => "its container was removed",
        Ending::Lost => "lost",
        Ending::OutputsLost => "outputs lost",
    }
}

/// The time from one moment to another; clocks differ, and then there is none.
pub(super) fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// `{"schema":"jobctl.runs/1","runs":[…],"left_out":…,"unread":[…]}`.
#[must_use]
pub fn runs_json(runs: &Runs) -> Value {
    let unread = runs
        .unread
        .iter()
        .map(|(id, error)| json!({ "id": id, "reason": error.to_string() }));
    let shown = runs.runs.iter().map(|run| {
        let mut told = json!(run);
        told["is_promoted"] = runs.promoted.contains(&run.id).into();
        told
    });
    json!({
        "schema": "jobctl.runs/1",
        "runs": shown.collect::<Vec<_>>(),
        "left_out": runs.left_out,
        "unread": unread.collect::<Vec<_>>(),
    })
}

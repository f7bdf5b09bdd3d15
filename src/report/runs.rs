//! Runs, listed.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::printable::{self, line};
use super::table::columns;
use super::words::{ago, elapsed, figure};
use crate::ops::runs::{Column, Own, Runs};
use crate::records::{Ending, State, Summary};

/// A value that is longer is cut.
const VALUE_LETTERS: usize = 32;

/// A table: newest first, and below it what can't be read.
#[must_use]
pub fn runs_human(runs: &Runs, now: Timestamp) -> String {
    let mut text = String::new();
    if runs.runs.is_empty() && runs.unread.is_empty() {
        return "no runs".to_owned();
    }
    if !runs.runs.is_empty() {
        let heads = runs.columns.iter().map(|column| match column {
            Column::Own(own) => own.name().to_uppercase().replace('_', " "),
            Column::Parameter(name) | Column::Metric(name) => printable::name(name),
        });
        let mut rows = vec![heads.collect::<Vec<_>>()];
        rows.extend(runs.runs.iter().map(|run| {
            let is_promoted = runs.promoted.contains(&run.id);
            let cells = runs.columns.iter();
            cells
                .map(|column| cell(run, column, is_promoted, now))
                .collect()
        }));
        text.push_str(&columns(&rows));
    }
    if !runs.more_columns.is_empty() {
        let names = runs.more_columns.iter();
        let names: Vec<_> = names.map(|name| printable::name(name)).collect();
        let _ = writeln!(text, "more columns: {} (--columns)", names.join(", "));
    }
    if runs.left_out > 0 {
        let _ = writeln!(text, "… and {} more: --all", runs.left_out);
    }
    for (_, error) in &runs.unread {
        let _ = writeln!(text, "{}", line(&error.to_string()));
    }
    text
}

fn cell(run: &Summary, column: &Column, is_promoted: bool, now: Timestamp) -> String {
    let own = match column {
        Column::Own(own) => own,
        Column::Parameter(name) => {
            return run
                .parameters
                .get(name)
                .map_or_else(String::new, |value| short(value));
        }
        Column::Metric(name) => {
            return run
                .metrics
                .get(name)
                .map_or_else(String::new, |value| figure(*value));
        }
    };
    match own {
        Own::Run => run.id.short(),
        Own::Job => line(run.job.as_deref().unwrap_or(&run.image)),
        Own::Image => line(&run.image),
        Own::State => {
            let promoted = if is_promoted { ", promoted" } else { "" };
            state_words(run.state, run.ending, run.exit_code) + promoted
        }
        Own::ExitCode => run
            .exit_code
            .map_or_else(String::new, |code| code.to_string()),
        Own::Created => ago(between(run.created, now)),
        Own::Took => run.started.map_or_else(String::new, |started| {
            elapsed(between(started, run.finished.unwrap_or(now)))
        }),
    }
}

/// A value in one line.
pub(super) fn value_line(value: &str) -> String {
    line(&value.replace('\n', "\\n"))
}

fn short(value: &str) -> String {
    let value = value_line(value);
    match value.char_indices().nth(VALUE_LETTERS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value,
    }
}

/// `running`, `finished`, `failed: exit code 3`, `failed: out of memory`.
pub(super) fn state_words(state: State, ending: Option<Ending>, exit_code: Option<u8>) -> String {
    let word = state_word(state);
    if (state, ending) == (State::Finished, Some(Ending::Stopped)) {
        return ending_words(Ending::Stopped).to_owned();
    }
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
        Ending::Infra => "the engine or jobctl failed",
        Ending::Removed => "its container was removed",
        Ending::Lost => "lost",
        Ending::OutputsLost => "outputs lost",
    }
}

/// The time from one moment to another; clocks differ, and then there is none.
pub(super) fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// `{"schema":"jobctl.runs/1","columns":[…],"runs":[…],"left_out":…,"unread":[…]}`.
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
    let columns = runs.columns.iter().map(|column| {
        let kind = match column {
            Column::Own(_) => "own",
            Column::Parameter(_) => "parameter",
            Column::Metric(_) => "metric",
        };
        json!({ "kind": kind, "name": column.name() })
    });
    json!({
        "schema": "jobctl.runs/1",
        "columns": columns.collect::<Vec<_>>(),
        "runs": shown.collect::<Vec<_>>(),
        "left_out": runs.left_out,
        "unread": unread.collect::<Vec<_>>(),
    })
}

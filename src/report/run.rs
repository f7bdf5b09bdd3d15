//! What is said of a run that is over.

use serde_json::Value;

use super::printable;
use super::words::{counted, elapsed, memory};
use crate::model::ByteSize;
use crate::records::{Attempt, Ending, Record};

/// That a run was recorded, and is about to start.
#[must_use]
pub fn run_started(record: &Record) -> String {
    format!("{}: starting", name(record))
}

/// `run 01a22cf1707d75 of train`
fn name(record: &Record) -> String {
    match &record.job {
        Some(job) => format!("run {} of {job}", record.id.short()),
        None => format!("run {}", record.id.short()),
    }
}

/// How a run ended.
#[must_use]
pub fn run_ended(record: &Record) -> String {
    let name = name(record);
    let took = match (record.started, record.finished) {
        (Some(started), Some(finished)) => {
            let took = finished.duration_since(started).unsigned_abs();
            format!(" ({})", elapsed(took))
        }
        _ => String::new(),
    };
    format!("{name}: {}{took}", ending(record))
}

/// The outputs that were collected of a run.
#[must_use]
pub fn outputs(record: &Record) -> String {
    let outputs: Vec<_> = record
        .outputs
        .iter()
        .filter(|(_, kept)| kept.file_count > 0)
        .map(|(output, kept)| format!("{output} ({})", counted(kept.file_count, "file")))
        .collect();
    format!("outputs: {}", outputs.join(", "))
}

/// The limit of memory that an attempt had, as it was written where that is what the engine went by.
pub(super) fn memory_limit(record: &Record, attempt: &Attempt) -> Option<String> {
    let limit = attempt.memory_limit?;
    let written = record.container.get("memory").and_then(Value::as_str);
    let written = written.filter(|text| {
        let size = text.parse::<ByteSize>();
        size.is_ok_and(|size| size.bytes() == limit)
    });
    Some(written.map_or_else(|| memory(limit), str::to_owned))
}

/// The same, without its name and its time.
pub(super) fn ending(record: &Record) -> String {
    let last = record.attempts.last();
    let message = last
        .and_then(|attempt| attempt.message.as_ref())
        .map(|message| format!(": {}", printable::text(message)))
        .unwrap_or_default();
    let code = record.exit_code.unwrap_or(0);
    match record.ending {
        Some(Ending::Success) => "ok".to_owned(),
        Some(Ending::Error) => match last.and_then(|attempt| attempt.signal) {
            Some(signal) => {
                format!("failed with exit code {code}, as if by signal {signal}{message}")
            }
            None => format!("failed with exit code {code}{message}"),
        },
        Some(Ending::Oom) => {
            let attempt = last.expect("it ended, so that there was one");
            let mut facts = Vec::new();
            facts.extend(memory_limit(record, attempt).map(|limit| format!("limit {limit}")));
            let peak = attempt.peak_memory;
            facts.extend(peak.map(|peak| format!("peak {}", memory(peak))));
            match facts.as_slice() {
                [] => "killed: out of memory".to_owned(),
                facts => format!("killed: out of memory ({})", facts.join(", ")),
            }
        }
        Some(Ending::Timeout) => {
            let limit = record.policy.timeout_ms.unwrap_or_default();
            let limit = elapsed(std::time::Duration::from_millis(limit));
            format!("stopped: it ran out of its time of {limit}")
        }
        Some(Ending::Stopped) => format!("stopped (exit code {code}){message}"),
        Some(Ending::OutputsLost) => {
            let lost = record.lost_outputs.iter();
            let lost: Vec<_> = lost
                .map(|(name, why)| {
                    format!(
                        "the output `{name}` could not be collected: {}",
                        printable::text(why)
                    )
                })
                .collect();
            lost.join("; ")
        }
        Some(ending) => format!("{}{message}", ending.word()),
        None => record.state.word().to_owned(),
    }
}

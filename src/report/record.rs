//! A run's record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::printable::{self, line};
use super::run::memory_limit;
use super::runs::{between, ending_words, state_words, value_line};
use super::table::columns;
use super::words::{bytes, counted, elapsed, memory};
use crate::model::number;
use crate::ops::ps::restarted;
use crate::records::{Attempt, Ending, Record, RunFolder, SourceRecord, VariableRecord, hex};

/// So many files are named that are not in the patch.
const LEFT_OUT: usize = 20;

/// Everything of a run that its readers would want to know, as one would put it into an appendix; `missing` is how
/// many files of each output are not kept any more. Only if `all` is asked for, the CPU's flags are among it.
#[must_use]
pub fn record_human(
    record: &Record,
    folder: &Path,
    missing: &BTreeMap<String, u64>,
    all: bool,
) -> String {
    let mut text = columns(&facts(record, folder, all));
    let mut section = |title: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            let _ = writeln!(text, "\n{title}");
            for row in columns(&rows).lines() {
                let _ = writeln!(text, "  {row}");
            }
        }
    };
    let metrics = record.metrics.iter();
    section(
        "metrics",
        metrics
            .map(|(name, value)| vec![printable::name(name), number::text(*value)])
            .collect(),
    );
    section(
        "environment",
        record.environment.iter().map(variable).collect(),
    );
    section("inputs", inputs(record));
    section("outputs", outputs(record, missing));
    let source = record.source.iter();
    let left_out = source.flat_map(|source| &source.left_out).take(LEFT_OUT);
    section(
        "left out of source.patch",
        left_out
            .map(|file| {
                vec![
                    line(&file.path),
                    file.reason.words().to_owned(),
                    bytes(file.bytes),
                ]
            })
            .collect(),
    );
    let lost = record.lost_outputs.iter();
    section(
        "outputs lost",
        lost.map(|(name, why)| vec![line(name), line(why)])
            .collect(),
    );
    let attempts = record.attempts.iter().enumerate();
    section(
        "attempts",
        attempts
            .map(|(number, attempt)| attempt_row(number + 1, attempt, record))
            .collect(),
    );
    let warnings = record.warnings.iter();
    section("warnings", warnings.map(|text| vec![line(text)]).collect());
    text
}

fn facts(record: &Record, folder: &Path, all: bool) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), line(&value)]);
    row("run", record.id.to_string());
    if let Some(job) = &record.job {
        row(
            "job",
            match &record.project {
                Some(project) => format!("{job} of {project}"),
                None => job.clone(),
            },
        );
    }
    let state = state_words(record.state, record.ending, record.exit_code);
    let is_told = record.exit_code.is_none() || state.contains("exit code");
    let code = match record.exit_code {
        Some(code) if !is_told => format!(", exit code {code}"),
        _ => String::new(),
    };
    row("state", state + &code);
    row("created", seconds(record.created));
    if let Some(started) = record.started {
        row("started", seconds(started));
    }
    if let Some(finished) = record.finished {
        let took = record.started.map_or_else(String::new, |started| {
            format!(" (after {})", elapsed(between(started, finished)))
        });
        row("finished", seconds(finished) + &took);
    }
    row("command", printable::command(&record.argv));
    row("image", record.image.name.clone());
    if let Some(id) = &record.image.id {
        row("image id", id.clone());
    }
    for digest in &record.image.repo_digests {
        row("image digest", digest.clone());
    }
    if let Some(source) = &record.source {
        row("source", source_words(source));
    }
    for (job, id) in &record.parents {
        row("reads from", format!("{job}, run {id}"));
    }
    machine(record, all, &mut row);
    row("jobctl", record.jobctl.clone());
    row("kept in", folder.display().to_string());
    rows
}

fn machine(record: &Record, all: bool, row: &mut impl FnMut(&str, String)) {
    if let Some(engine) = &record.engine {
        let parts = [
            Some(engine.address.clone()),
            engine
                .version
                .as_ref()
                .map(|version| format!("version {version}")),
            engine.system.clone(),
            engine
                .kernel
                .as_ref()
                .map(|kernel| format!("kernel {kernel}")),
        ];
        row(
            "engine",
            parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        );
    }
    if let Some(host) = &record.host {
        row("host", host.name.clone());
        let count = usize::try_from(host.cpus).unwrap_or(usize::MAX);
        let model = host.cpu.as_deref().unwrap_or("of an unknown model");
        row("CPU", format!("{}, {model}", counted(count, "processor")));
        match host.cpu_flags.len() {
            0 => {}
            _ if all => row("CPU flags", host.cpu_flags.join(" ")),
            count => row("CPU flags", format!("{count} (`--all` lists them)")),
        }
        for gpu in &host.gpus {
            row("GPU", gpu.clone());
        }
        if let Some(driver) = &host.nvidia_driver {
            row("NVIDIA driver", driver.clone());
        }
    }
}

/// `0123… with changes (source.patch), from https://…`
fn source_words(source: &SourceRecord) -> String {
    let mut text = source.revision.clone();
    if source.is_dirty {
        text.push_str(" with changes");
    }
    let left_out = source.left_out.len() + source.left_out_unnamed;
    let left_out = (left_out > 0).then(|| format!("{} left out", counted(left_out, "file")));
    let parts: Vec<_> = source.patch.clone().into_iter().chain(left_out).collect();
    if !parts.is_empty() {
        let _ = write!(text, " ({})", parts.join(", "));
    }
    if let Some(origin) = &source.origin {
        let _ = write!(text, ", from {origin}");
    }
    text
}

fn variable(variable: &VariableRecord) -> Vec<String> {
    let value = match (&variable.value, &variable.digest) {
        (_, Some(digest)) if variable.is_secret => format!("a secret, {}", abridged(digest)),
        _ if variable.is_secret => "a secret".to_owned(),
        (Some(value), _) => value_line(value),
        (None, Some(digest)) => format!("not recorded, {}", abridged(digest)),
        (None, None) => String::new(),
    };
    vec![line(&variable.name), line(&variable.origin), value]
}

/// As much of a keyed digest as tells two values apart.
fn abridged(digest: &str) -> String {
    /// The name, the colon, and 12 digits.
    const LETTERS: usize = "hmac-sha256:".len() + 12;

    line(digest.get(..LETTERS).unwrap_or(digest))
}

fn inputs(record: &Record) -> Vec<Vec<String>> {
    let inputs = record.inputs.iter();
    inputs
        .map(|(name, input)| {
            vec![
                line(name),
                format!("{} at {}", line(&input.source), line(&input.target)),
                bytes(input.bytes),
                format!("sha256:{}", digest(&input.sha256)),
            ]
        })
        .collect()
}

fn outputs(record: &Record, missing: &BTreeMap<String, u64>) -> Vec<Vec<String>> {
    let outputs = record.outputs.iter();
    outputs
        .map(|(name, output)| {
            let gone = match missing.get(name) {
                Some(count) if *count == output.file_count => "; its files are gone".to_owned(),
                Some(count) => format!("; {} of it missing or changed", counted(*count, "file")),
                None => String::new(),
            };
            vec![
                line(name),
                line(&output.path),
                counted(output.file_count, "file"),
                bytes(output.bytes),
                format!("sha256:{}{gone}", digest(&output.sha256)),
            ]
        })
        .collect()
}

/// The files of a run's outputs, a line each: digest, size, and path, with its output before it.
///
/// # Errors
///
/// A list of files can't be read.
pub fn files_human(record: &Record, folder: &RunFolder) -> io::Result<String> {
    let mut text = String::new();
    for (name, output) in &record.outputs {
        for file in folder.files(name, output)? {
            let file = file?;
            let (path, size) = (printable::path(&file.path), bytes(file.bytes));
            let sha256 = hex(&file.sha256);
            let _ = write!(text, "{sha256}  {size:>9}  {}/{path}", line(name));
            if let Some(link) = &file.link {
                let _ = write!(text, " -> {}", printable::path(link));
            }
            text.push('\n');
        }
    }
    Ok(text)
}

/// `{"schema":"jobctl.files/1","run":…,"outputs":{"model":[{"path":…,"sha256":…,"bytes":…}]}}`.
///
/// # Errors
///
/// A list of files can't be read.
pub fn files_json(record: &Record, folder: &RunFolder) -> io::Result<Value> {
    let mut outputs = serde_json::Map::new();
    for (name, output) in &record.outputs {
        let files: Vec<_> = folder.files(name, output)?.collect::<Result<_, _>>()?;
        outputs.insert(name.clone(), json!(files));
    }
    Ok(json!({
        "schema": "jobctl.files/1",
        "run": record.id,
        "outputs": outputs,
    }))
}

/// A digest without the name of how it was made.
fn digest(text: &str) -> String {
    line(text.strip_prefix("sha256:").unwrap_or(text))
}

fn attempt_row(number: usize, attempt: &Attempt, record: &Record) -> Vec<String> {
    let code = attempt.exit_code.map(|code| format!("exit code {code}"));
    let took = match (attempt.started, attempt.finished) {
        (Some(started), Some(finished)) => Some(elapsed(between(started, finished))),
        _ => None,
    };
    let limit = memory_limit(record, attempt);
    let memory = match (attempt.peak_memory.map(memory), limit) {
        (Some(peak), Some(limit)) => Some(format!("peak {peak} of {limit}")),
        (Some(peak), None) => Some(format!("peak {peak}")),
        (None, Some(limit)) if attempt.ending == Some(Ending::Oom) => {
            Some(format!("limit {limit}"))
        }
        (None, _) => None,
    };
    let ending = attempt.ending.map(|ending| ending_words(ending).to_owned());
    let message = attempt.message.as_deref().map(line);
    let told = [
        ending,
        code,
        restarted(attempt.restarts),
        took,
        memory,
        message,
    ];
    let told: Vec<_> = told.into_iter().flatten().collect();
    vec![
        number.to_string(),
        line(&attempt.container),
        told.join(", "),
    ]
}

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// The record as it is in its file: `{"schema":"jobctl.run/2",…}`.
#[must_use]
pub fn record_json(record: &Record) -> Value {
    json!(record)
}

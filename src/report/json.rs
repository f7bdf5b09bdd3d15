//! An event as JSON on each line (`{"schema":"jobctl.event/1", …}`), for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Reporter;
use super::printable;
use super::steps::outcome_words;
use crate::event::{Event, Stream, Unit};

/// Writes JSON lines.
pub struct Json {
    out: Box<dyn Write + Send>,
}

impl Json {
    /// Writes a JSON object on a line for each event.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out }
    }
}

impl Reporter for Json {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut line = event_json(event);
        line["schema"] = json!("jobctl.event/1");
        // In one piece: others write to the same log.
        let line = format!("{}\n", printable::escaped(&line.to_string()));
        self.out.write_all(line.as_bytes())?;
        self.out.flush()
    }
}

/// A line for what a verb itself reports: a `note`, a `warning` or an `error`.
#[must_use]
pub fn said_json(event: &str, text: &str) -> String {
    let line = json!({ "schema": "jobctl.event/1", "event": event, "text": text });
    format!("{}\n", printable::escaped(&line.to_string()))
}

fn event_json(event: &Event) -> Value {
    match event {
        Event::StepStarted { step, parent, name } => json!({
            "event": "step_started",
            "step": step.0,
            "parent": parent.map(|parent| parent.0),
            "name": name,
        }),
        Event::StepProgress {
            step,
            current,
            total,
            unit,
        } => json!({
            "event": "step_progress",
            "step": step.0,
            "current": current,
            "total": total,
            "unit": match unit {
                Unit::Bytes => "bytes",
                Unit::Count => "count",
            },
        }),
        Event::StepLog { step, stream, line } => json!({
            "event": "step_log",
            "step": step.0,
            "stream": match stream {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            },
            "line": line,
        }),
        Event::StepFinished {
            step,
            outcome,
            elapsed,
        } => {
            let (word, why) = outcome_words(outcome);
            json!({
                "event": "step_finished",
                "step": step.0,
                "outcome": word,
                "reason": why,
                "elapsed_seconds": elapsed.as_secs_f64(),
            })
        }
        Event::Note(text) => json!({ "event": "note", "text": text }),
        Event::Warning(text) => json!({ "event": "warning", "text": text }),
    }
}

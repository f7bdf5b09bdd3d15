//! The outcome of `doctor`.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::printable;
use super::words::counted;
use crate::ops::doctor::{Diagnosis, Status};

/// A line for each check, the fixes below, and a summary. Styled with ANSI escapes.
#[must_use]
pub fn diagnosis_human(diagnosis: &Diagnosis) -> String {
    use std::fmt::Write as _;

    let width = diagnosis
        .checks
        .iter()
        .map(|check| check.id.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in &diagnosis.checks {
        let (mark, color) = match check.finding.status {
            Status::Ok => ("ok  ", AnsiColor::Green),
            Status::Warning => ("warn", AnsiColor::Yellow),
            Status::Failure => ("fail", AnsiColor::Red),
            Status::Skipped => ("skip", AnsiColor::BrightBlack),
        };
        let style = Style::new().fg_color(Some(color.into()));
        let (id, detail) = (check.id, printable::text(&check.finding.detail));
        let _ = writeln!(text, "{style}{mark}{style:#} {id:width$}  {detail}");
        if let Some(fix) = &check.finding.fix {
            let fix = printable::text(fix);
            let _ = writeln!(text, "     {:width$}  → {fix}", "");
        }
    }
    let _ = write!(
        text,
        "{} ok, {}, {}, {} skipped",
        diagnosis.count(Status::Ok),
        counted(diagnosis.count(Status::Warning), "warning"),
        counted(diagnosis.count(Status::Failure), "failure"),
        diagnosis.count(Status::Skipped),
    );
    text
}

/// `{"schema":"jobctl.doctor/1","checks":[…]}`.
#[must_use]
pub fn diagnosis_json(diagnosis: &Diagnosis) -> Value {
    let checks = diagnosis.checks.iter().map(|check| {
        json!({
            "check": check.id,
            "status": match check.finding.status {
                Status::Ok => "ok",
                Status::Warning => "warning",
                Status::Failure => "failure",
                Status::Skipped => "skipped",
            },
            "detail": check.finding.detail,
            "fix": check.finding.fix,
            "elapsed_seconds": check.elapsed.as_secs_f64(),
        })
    });
    json!({
        "schema": "jobctl.doctor/1",
        "checks": checks.collect::<Vec<_>>(),
    })
}

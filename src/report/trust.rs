//! Programs of a project that run on this machine.

use std::path::Path;

use serde_json::{Value, json};

use super::printable;
use super::table::columns;
use super::words::bytes;
use crate::model::Digest;
use crate::records::{Grant, HostProgram};

/// How much of a digest is shown in a table.
const SHORT: usize = 12;

/// A program that would run, for somebody who decides whether it may.
#[must_use]
pub fn host_program(program: &HostProgram) -> String {
    let mut text = format!(
        "it would run on this machine, outside of any container: {}\n{}, {}",
        command(program),
        bytes(program.bytes),
        program.digest
    );
    if let Some(line) = program.first_line() {
        text.push_str(", begins with: ");
        text.push_str(&printable::path(line.as_ref()));
    }
    for file in &program.named {
        let what = match &file.digest {
            Some(digest) => digest.to_string(),
            None => format!("a link to {}", printable::path(&file.target)),
        };
        let path = printable::path(&file.path);
        let lines = ["\nits first line leads to ", &path, ", ", &what];
        text.extend(lines);
    }
    text
}

/// The words of its command line.
fn command(program: &HostProgram) -> String {
    let words = program.args.iter();
    let words = words.map(|arg| printable::path(arg.as_ref()));
    let program = printable::path(&program.program);
    [program]
        .into_iter()
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A line for each program that may run.
#[must_use]
pub fn trust_human(grants: &[Grant]) -> String {
    let heads = ["PROJECT", "PROGRAM", "CONTENT", "STATE"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for grant in grants {
        let program = &grant.program;
        let digest = program.digest.encoded();
        let row = [
            printable::path(&program.manifest),
            command(program),
            digest.chars().take(SHORT).collect(),
            state(grant).to_owned(),
        ];
        rows.push(row.to_vec());
    }
    columns(&rows)
}

/// `{"schema":"jobctl.trust/1","programs":[…]}`.
#[must_use]
pub fn trust_json(grants: &[Grant]) -> Value {
    json!({ "schema": "jobctl.trust/1", "programs": programs_json(grants) })
}

/// `{"schema":"jobctl.revoke/1","manifest":…,"programs":[…]}`: what was trusted so far.
#[must_use]
pub fn revoked_json(manifest: &Path, grants: &[Grant]) -> Value {
    json!({
        "schema": "jobctl.revoke/1",
        "manifest": manifest,
        "programs": programs_json(grants),
    })
}

fn programs_json(grants: &[Grant]) -> Value {
    let programs = grants.iter().map(|grant| {
        let program = &grant.program;
        json!({
            "manifest": program.manifest,
            "program": program.program,
            "args": program.args,
            "digest": program.digest.as_str(),
            "bytes": program.bytes,
            "named": program.named.iter().map(|file| json!({
                "path": file.path,
                "target": file.target,
                "digest": file.digest.as_ref().map(Digest::as_str),
            })).collect::<Vec<_>>(),
            "granted": grant.granted,
            "state": state(grant),
        })
    });
    programs.collect()
}

/// What became of a program since.
fn state(grant: &Grant) -> &'static str {
    match grant.is_current() {
        Some(true) => "unchanged",
        Some(false) => "changed",
        None => "gone",
    }
}

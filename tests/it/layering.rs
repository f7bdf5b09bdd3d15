//! Who may use whom: the rooms are in the order of the table in `src/lib.rs`, and each uses only
//! those above it. Some crates are for one room alone.

use std::path::{Path, PathBuf};

use regex::Regex;

/// Crates, and the only folder that may name each.
const CONFINED: [(&str, &str); 5] = [
    ("bollard", "engine/docker"),
    ("bollard_buildkit_proto", "engine/docker"),
    ("clap", "cli"),
    ("indicatif", "report"),
    ("serde_yaml", "manifest"),
];

/// The rooms in the order of the table.
fn rooms(map: &str) -> Vec<String> {
    let row = Regex::new(r"(?m)^//! \| \[`(\w+)`\] \|").unwrap();
    row.captures_iter(map)
        .map(|found| found[1].to_owned())
        .collect()
}

/// What is wrong with a file: its path in `src`, and its text.
fn faults(path: &Path, text: &str, rooms: &[String]) -> Vec<String> {
    let shown = path.display();
    let place = |room: &str| rooms.iter().position(|known| known == room);
    let name = path.components().next().unwrap().as_os_str();
    let room = Path::new(name).file_stem().unwrap().to_str().unwrap();
    let mut faults = Vec::new();
    let Some(own) = place(room) else {
        return match room {
            "lib" | "main" => faults,
            _ => vec![format!("{shown}: the map in lib.rs does not know `{room}`")],
        };
    };
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let used = Regex::new(r"\bcrate::(\w+)").unwrap();
    for found in used.captures_iter(&code) {
        let other = &found[1];
        if place(other).is_some_and(|other| other > own) {
            faults.push(format!("{shown}: `{room}` may not use `{other}`"));
        }
    }
    for (name, folder) in CONFINED {
        let names = Regex::new(&format!(r"(^|[^\w:]){name}::")).unwrap();
        if !path.starts_with(folder) && names.is_match(&code) {
            faults.push(format!("{shown}: only `{folder}` may name {name}"));
        }
    }
    faults
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn each_room_uses_only_those_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = rooms(&std::fs::read_to_string(source.join("lib.rs")).unwrap());
    let mut found = Vec::new();
    files(&source, &mut found);
    assert!(rooms.len() > 5 && found.len() > 50, "nothing is looked at");
    let faults: Vec<_> = found
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            faults(path.strip_prefix(&source).unwrap(), &text, &rooms)
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_room_that_uses_one_below_it_is_found() {
    let rooms = rooms("//! | [`model`] | x |\n//! | [`engine`] | x |\n//! | [`cli`] | x |\n");
    assert_eq!(rooms, ["model", "engine", "cli"]);
    let found = |path: &str, text: &str| faults(Path::new(path), text, &rooms).len();
    assert_eq!(found("model/tag.rs", "use crate::cli::Context;"), 1);
    assert_eq!(found("model/tag.rs", "fn f() { crate::engine::f() }"), 1);
    assert_eq!(
        found(
            "model/tag.rs",
            "// as crate::engine does\nuse crate::model::A;"
        ),
        0
    );
    assert_eq!(
        found("cli/run.rs", "use crate::engine::A;\nuse clap::Args;"),
        0
    );
    assert_eq!(found("engine/other.rs", "use bollard::Docker;"), 1);
    assert_eq!(found("engine/docker/client.rs", "use bollard::Docker;"), 0);
    assert_eq!(found("model.rs", "let a = clap::command!();"), 1);
    assert_eq!(found("newroom/mod.rs", ""), 1);
}

//! Who may use whom: the rooms are in the order of the table in `src/lib.rs`, and each uses only
//! those above it. Some crates are for one room alone.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// Crates, and the only folder that may name each.
const CONFINED: [(&str, &str); 5] = [
    ("bollard", "engine/docker"),
    ("bollard_buildkit_proto", "engine/docker"),
    ("clap", "cli"),
    ("indicatif", "report"),
    ("serde_yaml", "manifest"),
];

/// The same with what finds the crate's name in code.
static CONFINED_NAMES: LazyLock<Vec<(&str, &str, Regex)>> = LazyLock::new(|| {
    let names = |(name, folder)| {
        let names = Regex::new(&format!(r"(^|[^\w:]){name}(::|;| as )")).unwrap();
        (name, folder, names)
    };
    CONFINED.map(names).into()
});

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
    for other in used(&code) {
        if place(&other).is_some_and(|other| other > own) {
            faults.push(format!("{shown}: `{room}` may not use `{other}`"));
        }
    }
    for (name, folder, names) in CONFINED_NAMES.iter() {
        if !path.starts_with(folder) && names.is_match(&code) {
            faults.push(format!("{shown}: only `{folder}` may name {name}"));
        }
    }
    faults
}

/// The rooms that code names as `crate::room` or `crate::{room, …}`.
fn used(code: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
        text.chars().take_while(is_word).collect()
    };
    let mut used = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            used.push(word(rest));
            continue;
        };
        let (mut depth, mut is_start) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => is_start = true,
                _ if is_start && !c.is_whitespace() => {
                    used.push(word(&group[at..]));
                    is_start = false;
                }
                _ => {}
            }
        }
    }
    used
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
    let group = "use crate::{\n    model::{Tag, cli},\n    engine::A,\n    cli,\n};";
    assert_eq!(found("model/tag.rs", group), 2);
    assert_eq!(found("engine/other.rs", group), 1);
    assert_eq!(found("engine/other.rs", "use bollard::Docker;"), 1);
    assert_eq!(found("engine/other.rs", "use bollard as docker;"), 1);
    assert_eq!(found("engine/other.rs", "let bollard = 1;"), 0);
    assert_eq!(found("engine/docker/client.rs", "use bollard::Docker;"), 0);
    assert_eq!(found("model.rs", "let a = clap::command!();"), 1);
    assert_eq!(found("newroom/mod.rs", ""), 1);
}

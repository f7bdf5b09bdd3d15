//! What people read and copy agrees with what the program does.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use finetuning_job::config::Config;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_readme_has_the_table_of_variables() {
    let output = Command::new(env!("CARGO_BIN_EXE_finetuning-job"))
        .arg("variables")
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let readme = read("README.md");
    let header = table.lines().next().unwrap();
    let found: String = readme
        .lines()
        .skip_while(|line| *line != header)
        .take_while(|line| line.starts_with('|'))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(
        found, table,
        "make it again: finetuning-job variables, into the README"
    );
}

/// An env file as docker reads it: nothing is taken from a line but what stands there.
fn env_file(name: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for line in read(name).lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (variable, value) = line.split_once('=').unwrap();
        assert_eq!(value.trim(), value, "{name}: {line:?}");
        assert!(!value.contains(['"', '\'', '$', '#']), "{name}: {line:?}");
        let before = values.insert(variable.to_owned(), value.to_owned());
        assert_eq!(before, None, "{name}: {variable} is there twice");
    }
    values
}

#[test]
fn env_files_name_known_variables_with_values_that_are_allowed() {
    for name in ["config.env", "test.env"] {
        let values = env_file(name);
        assert!(!values.is_empty(), "{name}");
        for variable in values.keys() {
            let mut known = Config::variables().into_iter();
            assert!(
                known.any(|[name, ..]| name == *variable),
                "{name}: {variable}"
            );
        }
        Config::read(|variable| values.get(variable).cloned()).unwrap();
    }
}

/// An engine counts no failure within the start period, until a check has succeeded.
#[test]
fn a_long_training_is_not_unhealthy() {
    let dockerfile = read("Dockerfile");
    let check = dockerfile
        .lines()
        .find(|line| line.starts_with("HEALTHCHECK "))
        .unwrap();
    let option = |name: &str| {
        check
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .unwrap()
    };
    let hours: u32 = option("--start-period")
        .strip_suffix('h')
        .unwrap()
        .parse()
        .unwrap();
    assert!(hours >= 24 * 30, "{check}");
    assert!(option("--retries").parse::<u32>().unwrap() >= 3, "{check}");
}

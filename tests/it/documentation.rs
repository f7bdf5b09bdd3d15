//! What the documentation says and the code must agree.

use std::path::Path;

use jobctl::exit::Exit;
use serde_json::Value;

fn page(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_table_of_exit_codes_has_all_of_them() {
    let all = [
        Exit::Success,
        Exit::Failed,
        Exit::Usage,
        Exit::Timeout,
        Exit::Engine,
        Exit::NotExecutable,
        Exit::NotFound,
        Exit::HungUp,
        Exit::Interrupted,
        Exit::Terminated,
    ];
    for exit in all {
        // A new one does not compile here until it is added above.
        match exit {
            Exit::Success
            | Exit::Failed
            | Exit::Usage
            | Exit::Timeout
            | Exit::Engine
            | Exit::NotExecutable
            | Exit::NotFound
            | Exit::HungUp
            | Exit::Interrupted
            | Exit::Terminated
            | Exit::Job(_) => {}
        }
    }
    let page = page("docs/reference/exit-codes.md");
    let documented: Vec<u8> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next()?.parse().ok())
        .collect();
    assert_eq!(documented, all.map(Exit::code));
}

#[test]
fn every_key_of_jobs_yaml_is_explained_as_in_the_schema() {
    let page = page("docs/reference/jobs-yaml.md");
    let mut missing = Vec::new();
    rows(&jobctl::manifest::json_schema(), &mut missing);
    missing.retain(|row| !page.contains(row));
    missing.sort();
    missing.dedup();
    assert!(
        missing.is_empty(),
        "docs/reference/jobs-yaml.md lacks:\n{}",
        missing.join("\n")
    );
}

/// The beginning of a table's row for each property anywhere in a schema.
fn rows(schema: &Value, found: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (key, property) in properties {
            let description = property.get("description").and_then(Value::as_str);
            let words: Vec<_> = description.unwrap_or_default().split_whitespace().collect();
            found.push(format!("| `{key}` | {}", words.join(" ")));
        }
    }
    match schema {
        Value::Object(map) => map.values().for_each(|inner| rows(inner, found)),
        Value::Array(list) => list.iter().for_each(|inner| rows(inner, found)),
        _ => {}
    }
}

#[test]
fn every_rule_of_env_files_is_explained() {
    let page = page("docs/reference/env-files.md");
    let rules = jobctl::manifest::Rule::ALL.iter().map(|rule| rule.name());
    let missing: Vec<_> = rules
        .filter(|name| name.starts_with("env-") && !page.contains(&format!("(`{name}`)")))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let link = regex::Regex::new(r"\]\(([^)#:]+)\)").unwrap();
    let mut broken = Vec::new();
    for folder in ["", "docs/guide", "docs/reference", "docs"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for found in link.captures_iter(&text) {
                if !path.parent().unwrap().join(&found[1]).exists() {
                    broken.push(format!("{}: {}", path.display(), &found[1]));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_field_of_a_record_is_explained() {
    let source = page("src/records/record.rs") + &page("src/records/image.rs");
    let page = page("docs/reference/run-record.md");
    let field = regex::Regex::new(r"(?m)^    pub (\w+): ").unwrap();
    let fields: Vec<_> = field
        .captures_iter(&source)
        .map(|found| found[1].to_owned())
        .collect();
    assert!(fields.len() > 60, "{fields:?}");
    let missing: Vec<_> = fields
        .into_iter()
        .filter(|field| !page.contains(&format!("`{field}`")))
        .collect();
    assert_eq!(missing, [""; 0]);
}

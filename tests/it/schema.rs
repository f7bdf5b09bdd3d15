//! The JSON Schema: committed as generated, and in agreement with jobctl itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jobctl::facts::Environment;
use jobctl::manifest::{self, Rule};
use jobctl::report::SCHEMAS;
use serde_json::Value;

use crate::support::{Bench, run};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The manifests of a folder of tests, by path.
fn manifests(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/it").join(folder)).unwrap();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    paths.sort();
    paths
}

/// A manifest as an editor's YAML server sees it, if it is YAML at all.
fn document(path: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    let options = serde_yaml::options! {
        strict_booleans: true,
        non_finite_float_policy: serde_yaml::NonFiniteFloatPolicy::AsString,
    };
    serde_yaml::from_str_with_options(&text, options).ok()
}

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&manifest::json_schema()).unwrap()
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let committed = std::fs::read_to_string(root().join("schema/jobs.schema.json")).unwrap();
    assert_eq!(
        committed,
        format!("{:#}\n", manifest::json_schema()),
        "make it again: jobctl schema > schema/jobs.schema.json"
    );
}

#[test]
fn the_schema_is_itself_valid() {
    let schema = manifest::json_schema();
    let meta = jsonschema::draft7::meta::validate(&schema);
    assert!(meta.is_ok(), "{}", meta.unwrap_err());
}

#[test]
fn what_jobctl_takes_the_schema_takes() {
    let validator = validator();
    let ours = [root().join("jobs.yaml")];
    for path in manifests("valid").iter().chain(&ours) {
        let document = document(path).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&document)
            .map(|error| format!("{}: {error}", error.instance_path))
            .collect();
        assert_eq!(errors, [""; 0], "{}", path.display());
    }
}

#[test]
fn what_jobctl_refuses_the_schema_refuses_or_can_not_know() {
    // What no schema can say, or what editors see before any schema does.
    let beyond = [
        Rule::NotUtf8,
        Rule::YamlSyntax,
        Rule::MultipleDocuments,
        Rule::TooComplex,
        Rule::KeyNotText,
        Rule::DuplicateKey,
        Rule::UnsetVariable,
        Rule::VariableSyntax,
        Rule::UnknownJob,
        Rule::UnknownImage,
        Rule::UnknownSecret,
        Rule::UnknownOutput,
        Rule::JobCycle,
        Rule::ImageCycle,
        Rule::NoImage,
        Rule::TwoImages,
        Rule::ImageSource,
        Rule::SecretSource,
        Rule::LiteralSecret,
        Rule::ExposedSecret,
        Rule::UnusedSecret,
        Rule::NotAService,
        Rule::ServiceKey,
        Rule::PathConflict,
        Rule::NoMetrics,
        Rule::UnknownMetric,
        Rule::UnusedStep,
        Rule::PortConflict,
        Rule::UnreachablePort,
        Rule::MissingFile,
        Rule::Unreadable,
        Rule::EnvSyntax,
        Rule::EnvQuote,
        Rule::EnvBlank,
        Rule::EnvComment,
        Rule::EnvLineEnd,
        Rule::EnvDuplicate,
    ];
    // Values whose grammar is more than a regular expression.
    let beyond_patterns = [
        "invalid-value-command",
        "invalid-value-gate",
        "invalid-value-gpus-both",
        "invalid-value-healthcheck",
        "invalid-value-image",
        "invalid-value-image-prefix",
        "invalid-value-image-version-long",
        "invalid-value-interpolated",
        "invalid-value-job-name",
        "invalid-value-port",
    ];
    let validator = validator();
    let mut taken = Vec::new();
    for path in manifests("invalid") {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let environment = Environment::new([("CANARY", "x")], "/");
        let found = match manifest::load(&path, &path, &environment) {
            Ok(manifest) => manifest.warnings,
            Err(diagnostics) => diagnostics,
        };
        let is_beyond = found
            .iter()
            .all(|diagnostic| beyond.iter().any(|rule| rule.name() == diagnostic.rule));
        if is_beyond || beyond_patterns.contains(&stem) {
            continue;
        }
        let document = document(&path).unwrap_or_else(|| panic!("{stem} is YAML"));
        if validator.is_valid(&document) {
            taken.push(stem.to_owned());
        }
    }
    assert_eq!(taken, [""; 0]);
}

#[test]
fn each_result_has_a_schema_that_is_printed() {
    let mut named = BTreeSet::new();
    sources(&root().join("src"), &mut |text| {
        let pattern = regex::Regex::new(r#""jobctl\.([a-z.-]+)/\d""#).unwrap();
        named.extend(pattern.captures_iter(text).map(|found| found[1].to_owned()));
    });
    // What is kept, and never printed.
    named.retain(|name| !["promoted", "route", "runs.index"].contains(&name.as_str()));
    let known: BTreeSet<_> = SCHEMAS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(named, known);
    for name in known {
        let ended = run(Bench::new().jobctl().args(["schema", &name]));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let schema: Value = serde_json::from_str(&ended.stdout).unwrap();
        let meta = jsonschema::draft7::meta::validate(&schema);
        assert!(meta.is_ok(), "{name}: {}", meta.unwrap_err());
        let constant = match name.as_str() {
            // What an earlier version kept is shown, too.
            "run" => serde_json::json!({ "enum": ["jobctl.run/1", "jobctl.run/2"] }),
            name => serde_json::json!({ "const": format!("jobctl.{name}/1") }),
        };
        let kinds = schema["oneOf"].as_array().cloned();
        for kind in kinds.unwrap_or_else(|| vec![schema]) {
            assert_eq!(kind["properties"]["schema"], constant);
        }
    }
}

/// Reads all of a folder's sources.
fn sources(folder: &Path, read: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, read);
        } else {
            read(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

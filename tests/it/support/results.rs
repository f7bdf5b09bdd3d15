//! What `--format json` prints is what its schema says, whichever test has it printed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use jobctl::report::SCHEMAS;
use jsonschema::Validator;
use serde_json::Value;

/// Sees to it that a result of jobctl's has all that its schema says, and nothing else.
pub(crate) fn assert_documented(printed: &str) {
    static VALIDATORS: OnceLock<BTreeMap<String, Validator>> = OnceLock::new();

    let Ok(result) = serde_json::from_str::<Value>(printed) else {
        return;
    };
    let Some(name) = result["schema"].as_str() else {
        return;
    };
    let validators = VALIDATORS.get_or_init(|| {
        let schemas = SCHEMAS.iter().flat_map(|(name, text)| {
            let mut schema = serde_json::from_str(text).unwrap();
            close(&mut schema);
            let versions = match &schema["properties"]["schema"]["enum"] {
                Value::Array(versions) => versions
                    .iter()
                    .map(|version| version.as_str().unwrap().to_owned())
                    .collect(),
                _ => vec![format!("jobctl.{name}/1")],
            };
            versions.into_iter().map(move |version| {
                let validator = jsonschema::validator_for(&schema).unwrap();
                (version, validator)
            })
        });
        schemas.collect()
    });
    let Some(validator) = validators.get(name) else {
        panic!("`{name}` has no schema: {printed}");
    };
    let errors = validator.iter_errors(&result);
    let errors: Vec<_> = errors
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}: {printed}");
}

/// Has objects have no fields but those that are named. Readers must let others pass: there may be more in
/// a later version.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            if keys.contains_key("properties") && keys.get("type").is_some_and(is_object) {
                keys.insert("additionalProperties".to_owned(), false.into());
            }
            keys.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}

fn is_object(kind: &Value) -> bool {
    match kind {
        Value::Array(kinds) => kinds.iter().any(is_object),
        kind => kind == "object",
    }
}

//! The outcome of `validate`.

use serde_json::{Value, json};

use super::diagnostics;
use super::words::counted;
use crate::ops::validate::{Defined, Validation};

/// One line: `jobs.yaml is valid: 3 jobs, 2 images`.
#[must_use]
pub fn validation_human(validation: &Validation) -> String {
    let path = match &validation.path {
        Some(path) => path.display().to_string(),
        None => "the manifest".to_owned(),
    };
    let tally = diagnostics::tally(&validation.diagnostics);
    match validation.defined {
        Some(Defined { jobs, images }) => {
            let defined = format!("{}, {}", counted(jobs, "job"), counted(images, "image"));
            if validation.diagnostics.is_empty() {
                format!("{path} is valid: {defined}")
            } else {
                format!("{path} is valid, with {tally}: {defined}")
            }
        }
        None => format!("{path} is not valid: {tally}"),
    }
}

/// `{"schema":"jobctl.validate/1","file":…,"valid":…,"diagnostics":[…]}`.
#[must_use]
pub fn validation_json(validation: &Validation) -> Value {
    json!({
        "schema": "jobctl.validate/1",
        "file": validation.path,
        "valid": validation.defined.is_some(),
        "diagnostics": diagnostics::json(&validation.diagnostics),
    })
}

//! The integration tests: one binary, one module per subject.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests read their own environment"
)]

mod build_verify;
mod building;
mod building_faults;
mod ci;
mod differential;
mod dockerfiles;
mod doctor;
mod documentation;
mod documents;
mod endless;
mod engine_connection;
mod engine_run;
mod engines;
mod env_file;
mod exit_codes;
mod exporting;
mod git;
mod grammar;
mod help;
mod hostile;
mod layering;
mod manifest;
mod metrics;
mod ownership;
mod parameters;
mod properties;
mod pushing;
mod readme;
mod records;
mod reference_job;
mod reporters;
mod run_parity;
mod run_plans;
mod running;
mod schema;
mod secrets;
mod source_patch;
mod standard_output;
mod support;
mod trusting;
mod typos;
mod upping;

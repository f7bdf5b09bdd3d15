//! jobctl turns a directory with a Dockerfile into a job that anyone can build, version, ship, run on
//! a GPU, run again in a year, and prove to be the same.
//!
//! # The map of the house
//!
//! Decide, then do: the command line, `jobs.yaml` and facts about the machine become a *plan*
//! (plain data); an *engine* does it, telling *events*; reporters draw them. Data goes one way.
//! Each room may use the rooms above it in this table and none below; a test
//! (`tests/it/layering.rs`) reads the `use` lines and says so when one does not.
//!
//! | room | what lives there |
//! |---|---|
//! | [`diagnostic`] | errors that point into a file: severity, rule, spans, help |
//! | [`exit`] | the exit codes, one enum |
//! | [`event`] | the vocabulary that engines and reporters share |
//! | [`model`] | pure values: image references, tags, versions, durations, sizes, GPU requests |
//! | [`facts`] | what decisions may know of the world, captured once: environment, host |
//! | [`manifest`] | `jobs.yaml` and env files: text → spanned tree → checks → [`manifest::Manifest`] |
//! | [`context`] | the build context: `.dockerignore`, walking, deterministic tar, digest and its cache |
//! | [`engine`] | where an engine is and how to talk to it; [`engine::docker`] alone names bollard |
//! | [`records`] | run records on disk: written before the engine is asked, read by whoever comes next |
//! | [`plan`] | pure decisions: manifest, flags and facts → what is built and what it is called |
//! | [`ops`] | one file per operation: what a verb does, with no clap, no bollard, no printing |
//! | [`report`] | events and diagnostics → text for people or JSON; alone names indicatif |
//! | [`cli`] | one file per verb: its arguments and `exec`; alone knows clap, stdout and the environment |
//!
//! # Where a new thing goes
//!
//! * **A verb** is a file in [`cli`] (arguments and `exec`, no decisions) over a file in [`ops`].
//! * **An engine** is a directory in [`engine`] beside [`engine::docker`].
//! * **A key of `jobs.yaml`** is a field of a type in [`manifest::schema`]; its doc comment becomes
//!   the description in the JSON Schema. A rule about it is a variant of [`manifest::Rule`] with a
//!   file under `tests/it/invalid/`.
//! * **A kind of value** (a port, a size) is a file in [`model`] that implements [`model::Scalar`].
//! * **A check of the machine** is a function in [`ops::doctor`].
//! * **A program that `jobs.yaml` runs on this machine** is a [`records::HostProgram`], and runs only when
//!   [`records::Trust`] allows it.
//!
//! `CONTRIBUTING.md` has these as step-by-step recipes.

pub mod cli;
pub mod context;
pub mod diagnostic;
pub mod engine;
pub mod event;
pub mod exit;
pub mod facts;
pub mod manifest;
pub mod model;
pub mod ops;
pub mod plan;
pub mod records;
pub mod report;

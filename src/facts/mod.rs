//! What decisions may know of the world, captured once and passed as values.

mod address;
mod dockerfile;
mod engine;
mod environment;
mod exposure;
mod git;
pub mod host;
mod repository;
mod small_file;

pub use address::shown_address;
pub use dockerfile::dockerfile;
pub use engine::EngineFacts;
pub use environment::Environment;
pub use exposure::exposure;
pub use git::{EmptySubmodule, GitFacts, MissingTags, NoGit, default_branch, git, refusal};
pub use repository::{Blob, Edit, Repository, Tracked};
pub use small_file::{is_given_pipe, read_small};

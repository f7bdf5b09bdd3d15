//! The build context: which files of a folder belong to it, in which order, with which digest.
//!
//! The rules are Docker's: patterns as moby's `patternmatcher` reads them, the walk as `fsutil`
//! does it for BuildKit. Nothing here talks to an engine.
//!
//! | file | what it knows |
//! |---|---|
//! | `pattern` | the lines of a `.dockerignore` file and what they match |
//! | `glob`, `name_pattern` | one pattern: its syntax and its translation into a regular expression |
//! | `ignore` | which ignore file holds |
//! | `walk`, `follow` | the entries of a folder that a filter lets through |
//! | `attributes` | a file's extended attributes |
//! | `read` | a file's bytes, or an error if it changes meanwhile |
//! | `secret` | files that are hardly meant for an image |
//! | `tar` | the context as a stream for the classic builder |
//! | `digest`, `cache` | the context's digest, and what makes it fast the second time |

mod attributes;
mod cache;
mod digest;
mod entry;
mod error;
mod follow;
mod glob;
mod ignore;
mod name_pattern;
mod path;
mod pattern;
mod read;
mod secret;
mod tar;
#[cfg(test)]
mod tree;
mod walk;

pub use attributes::attributes;
pub use cache::StatCache;
pub use digest::{ContextDigest, ReadEntry, contents, digest, file_content};
pub use entry::{Entry, Kind, Skip, Stamp};
pub use error::ContextError;
pub use ignore::{IgnoreFile, build_files, ignore_file};
pub use pattern::{Inherited, PatternError, PatternProblem, Patterns};
pub use read::open;
pub use secret::holds_secrets;
pub use tar::{TarTimes, file_header, padding, write_file, write_tar};
pub use walk::{Filter, walk};

/// The largest Dockerfile or ignore file that is read, in bytes.
pub const LARGEST_BUILD_FILE: u64 = 16 << 20;

/// The pattern that keeps jobctl's own state folder (its runs and caches) out of a context, at any
/// level. Callers add it to the excludes.
pub const STATE_EXCLUDE: &str = "**/.jobctl";

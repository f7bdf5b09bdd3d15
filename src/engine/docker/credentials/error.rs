//! Why credentials can't be had, and how to fix it.

use std::io;
use std::path::PathBuf;

use super::VARIABLE;
use crate::engine::docker::config::ConfigError;

/// Why credentials can't be had. No secret is in it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// docker's configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The variable with credentials is not what docker reads.
    #[error("{VARIABLE} is not valid JSON of `{{\"auths\": {{…}}}}`")]
    Variable,
    /// What is in the configuration for a registry is no credentials.
    #[error("the credentials for {registry} in {origin} can't be read")]
    Malformed {
        /// The registry.
        registry: String,
        /// Where they stand.
        origin: String,
    },
    /// A helper is not there.
    #[error("the credential helper `{program}` for {registry} is not in PATH")]
    NoHelper {
        /// Its program.
        program: String,
        /// The registry.
        registry: String,
    },
    /// A helper failed.
    #[error("the credential helper `{program}` for {registry} {reason}")]
    Helper {
        /// Its program.
        program: String,
        /// The registry.
        registry: String,
        /// What it did.
        reason: String,
    },
    /// The configuration can't be written.
    #[error("can't write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CredentialsError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Config(error) => Some(error.help()),
            Self::Variable => Some(format!("unset {VARIABLE}, or fix it")),
            Self::Malformed { registry, .. } => Some(format!("`jobctl login {registry}`")),
            Self::NoHelper { program, .. } => Some(format!(
                "install `{program}`, or take it out of `credHelpers` and `credsStore` of docker's \
                 config.json"
            )),
            Self::Helper { program, .. } => Some(format!(
                "try it by hand: `echo REGISTRY | {program} get`, or log in anew: `jobctl login`"
            )),
            Self::Write { .. } => None,
        }
    }
}

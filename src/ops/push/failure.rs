//! Why images are not pushed, and how to fix it.

use super::record::NoRecord;
use crate::engine::docker::EngineError;
use crate::engine::docker::credentials::CredentialsError;
use crate::engine::registry::{AUTHORITIES, RegistryError, Right};
use crate::model::{Digest, ImageRef, Version};

/// Why it is not known whether a name moves backwards.
pub(super) const UNLISTED: &str =
    "its registry does not list its tags, and may have a newer release";

/// Why images are not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushFailure {
    /// The engine can't be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Credentials can't be had.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The registry says no.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A record can't be attached without asking the registry.
    #[error("no record can be attached to `{name}`: its registry can't be asked from here")]
    OutOfReach {
        /// The name.
        name: ImageRef,
    },
    /// There is no record that could be attached.
    #[error(transparent)]
    NoRecord(#[from] NoRecord),
    /// The engine has no such image.
    #[error("the engine has no image `{name}`")]
    NotThere {
        /// The name.
        name: String,
    },
    /// The engine has an image with a job's labels, which jobctl has neither built nor pulled.
    #[error(
        "`{name}` has the labels of a job's image, but jobctl has neither built nor pulled it here"
    )]
    Unknown {
        /// A name of it.
        name: ImageRef,
    },
    /// The name was given to another image while the push was under way.
    #[error("`{name}` means another image by now, which was not checked: it is not pushed")]
    Renamed {
        /// The name.
        name: ImageRef,
    },
    /// Another image was released under the name.
    #[error("`{name}` is released already, as {found}")]
    Released {
        /// The name.
        name: ImageRef,
        /// What stands there.
        found: Digest,
        /// Whether its version is what git says.
        is_of_git: bool,
    },
    /// All that was to be pushed would move a name backwards.
    #[error("`{name}` stays with {newer}: {version} is older")]
    Older {
        /// The name.
        name: ImageRef,
        /// The image's version.
        version: Version,
        /// The newest release that has the name.
        newer: Version,
    },
    /// All that was to be pushed may move a name backwards.
    #[error("`{name}` stays as it is: {}", UNLISTED)]
    Unlisted {
        /// The name.
        name: ImageRef,
    },
    /// Another image may be released under the name.
    #[error("whether `{name}` is released already can't be read: {error}")]
    Unreadable {
        /// The name.
        name: ImageRef,
        /// What the registry says.
        error: RegistryError,
    },
    /// Nobody says what the registry has.
    #[error("`{name}` was pushed, and neither the engine nor the registry says as what: {error}")]
    Unread {
        /// The name.
        name: ImageRef,
        /// What the registry says.
        error: RegistryError,
    },
    /// The registry does not let the user in.
    #[error("the registry of `{name}` does not let {user} in: {message}")]
    Unauthorized {
        /// The name.
        name: ImageRef,
        /// Who was tried.
        user: String,
        /// The engine's words.
        message: String,
    },
    /// The registry does not take it.
    #[error("`{name}` can't be pushed: {message}")]
    Refused {
        /// The name.
        name: ImageRef,
        /// The engine's words.
        message: String,
    },
    /// It failed again and again.
    #[error("`{name}` can't be pushed after {tries} tries: {message}")]
    GivenUp {
        /// The name.
        name: ImageRef,
        /// How often it was tried.
        tries: u32,
        /// What was wrong at last.
        message: String,
    },
    /// Somebody moved a name that was not pushed, since it was the image's.
    #[error("`{name}` existed already, as {digest}, and was moved while others were pushed")]
    Moved {
        /// The name.
        name: ImageRef,
        /// What it was.
        digest: Digest,
    },
    /// The registry has something else than what was pushed.
    #[error("`{name}` was pushed as {pushed}, and the registry has {found}")]
    Mismatch {
        /// The name.
        name: ImageRef,
        /// What the engine says that it pushed.
        pushed: String,
        /// What stands there.
        found: String,
    },
}

impl PushFailure {
    /// Whether a release that is there, or may be, is in its way, which `push --force` alone replaces.
    #[must_use]
    pub fn is_of_release(&self) -> bool {
        matches!(self, Self::Released { .. } | Self::Unreadable { .. })
    }

    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Engine(error) => Some(error.help()),
            Self::Credentials(error) => error.help(),
            Self::Registry(RegistryError::Unauthorized { registry, .. })
            | Self::Unreadable {
                error: RegistryError::Unauthorized { registry, .. },
                ..
            } => {
                Some(format!("`jobctl login {registry}`"))
            }
            Self::Unauthorized { name, .. } => {
                let registry = name.canonical().domain().map(str::to_owned);
                Some(format!("`jobctl login {}`", registry.unwrap_or_default()))
            }
            Self::Registry(RegistryError::Denied {
                right: Right::Pull, ..
            })
            | Self::Unread { .. } => Some("ask for the right to pull from there".to_owned()),
            Self::Registry(RegistryError::Denied { .. }) => {
                Some("ask for the right to push there, or give another `--image-prefix`".to_owned())
            }
            Self::Registry(RegistryError::UntrustedServer { server, .. }) => Some(format!(
                "have it serve TLS with a certificate that this machine trusts: put its authority at \
                 `{AUTHORITIES}/{}/ca.crt`",
                server.split_once("://").map_or(server.as_str(), |(_, host)| host)
            )),
            Self::Registry(RegistryError::Busy { .. }) | Self::GivenUp { .. } => Some(
                "try again later: layers that are there are not sent again, and `latest` was not moved"
                    .to_owned(),
            ),
            Self::Refused { name, message } if message.contains("x509: ") => {
                let canonical = name.canonical();
                let registry = canonical.domain().unwrap_or_default();
                Some(format!(
                    "put the certificate of its authority, where the engine runs, at \
                     `{AUTHORITIES}/{registry}/ca.crt`"
                ))
            }
            Self::Refused { message, .. } if message.contains("immutable") => Some(
                "raise the version: `jobctl build --bump patch`, or `git tag v…` where git says it; tags of \
                 this registry are immutable"
                    .to_owned(),
            ),
            Self::Registry(_) | Self::Refused { .. } => None,
            Self::OutOfReach { .. } | Self::NoRecord(NoRecord::Unreadable(_)) => None,
            Self::NoRecord(NoRecord::NoRun { .. }) => {
                Some("run it first: `jobctl run`".to_owned())
            }
            Self::NotThere { .. } => Some("build it first: `jobctl build`".to_owned()),
            Self::Unknown { name } => Some(format!(
                "it may be made from the job's image, which hands its labels down: build the job, `jobctl build`, or \
                 push the image by its name, `jobctl push {name}`"
            )),
            Self::Renamed { .. } => {
                Some("push again; by `--version` it is that release, whatever was built since".to_owned())
            }
            Self::Released {
                is_of_git: true, ..
            } => Some(
                "tag the commit with a newer version: `git tag v…`; `--force` replaces what was released"
                    .to_owned(),
            ),
            Self::Released { .. } => Some(
                "raise the version: `jobctl build --bump patch`; `--force` replaces what was released"
                    .to_owned(),
            ),
            Self::Older { .. } | Self::Unlisted { .. } => {
                Some("`jobctl push --force` moves it all the same".to_owned())
            }
            Self::Unreadable { .. } => Some(
                "ask for the right to pull from there; for what was never pushed there before, `jobctl push --force`"
                    .to_owned(),
            ),
            Self::Mismatch { .. } | Self::Moved { .. } => {
                Some("somebody else may push the same name: look what stands there".to_owned())
            }
        }
    }
}

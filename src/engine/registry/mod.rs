//! A registry, asked directly (OCI distribution specification 1.1): whether it takes what is pushed, and
//! what it has.
//!
//! Images are pushed by the engine. But an engine asks for minutes before it says that it may not push,
//! never says what stands in a registry already, and sends a whole layer again when the link breaks.

mod challenge;
mod http;
mod redirect;
mod referrers;
mod tags;
mod token;
mod trust;
mod upload;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};
use serde::Deserialize;

use self::challenge::Challenge;
use self::http::{Answer, Ask, Site};
pub(crate) use self::referrers::{Artifact, ArtifactFile};
pub use self::trust::{AUTHORITIES, Trust, Trusted};
pub(crate) use self::upload::Upload;
use self::upload::pushing;
use crate::model::{Digest, ImageRef, Secret};

/// The kinds of manifests: of one image, and of one for several platforms.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";
/// The largest manifest that registries take.
const MOST_BYTES: usize = 4 << 20;
/// The longest time that a registry may ask for before the next try.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Who one is for a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user; nothing for an identity token.
    pub user: Option<String>,
    /// The password, or the identity token.
    pub secret: Secret,
    /// Where they come from, in words: `auths of /root/.docker/config.json`.
    pub origin: String,
}

impl Credentials {
    /// User and password as a header has them (RFC 7617).
    #[must_use]
    pub fn basic(&self) -> Secret {
        let user = self.user.as_deref().unwrap_or_default();
        let pair = format!("{user}:{}", self.secret.expose());
        Secret::new(format!("Basic {}", STANDARD.encode(pair)))
    }
}

/// What goes wrong with a registry, by what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It can't be reached from here.
    #[error("the registry {registry} can't be reached: {reason}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// Why.
        reason: String,
    },
    /// It does not know who asks.
    #[error("the registry {registry} does not let {} in", of(user.as_ref()))]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The user that was tried, and where the credentials come from.
        user: Option<String>,
    },
    /// It knows who asks, and does not let them.
    #[error("{} has no right to {} {repository}", of(user.as_ref()), right.words())]
    Denied {
        /// What they may not do.
        right: Right,
        /// The repository.
        repository: String,
        /// The user that was tried, and where the credentials come from.
        user: Option<String>,
    },
    /// It wants the password to be given to a server that can't be trusted with it.
    #[error("the registry {registry} wants the password to be sent to {server}, and {reason}")]
    UntrustedServer {
        /// The registry.
        registry: String,
        /// The server that gives tokens.
        server: String,
        /// Why it is not.
        reason: String,
    },
    /// It can't just now.
    #[error("the registry {registry} can't just now ({status})")]
    Busy {
        /// The registry.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
    },
    /// It refuses.
    #[error("the registry {registry} refuses ({status}): {message}")]
    Refused {
        /// The registry.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

/// What one may do with a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read what it has.
    Pull,
    /// Add to it.
    Push,
}

impl Right {
    fn words(self) -> &'static str {
        match self {
            Self::Pull => "pull from",
            Self::Push => "push to",
        }
    }
}

fn of(user: Option<&String>) -> String {
    match user {
        Some(user) => user.clone(),
        None => "anybody without credentials".to_owned(),
    }
}

/// What stands under a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// The digest of the image's configuration, which is the image's id on engines with the classic
    /// store; nothing for one for several platforms.
    pub config: Option<Digest>,
    /// Its media type.
    pub kind: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Manifest {
    /// Whether it is an image that an engine has under this id.
    #[must_use]
    pub fn is(&self, image: &Digest) -> bool {
        self.digest == *image || self.config.as_ref() == Some(image)
    }
}

/// A registry.
#[derive(Debug)]
pub struct Registry {
    name: String,
    /// The ways to it, in the order in which they are tried; the one that has answered is kept to.
    sites: Vec<Site>,
    answers: OnceLock<usize>,
    trusted: Trusted,
    credentials: Option<Credentials>,
    /// What stands in the header of requests, once the registry has asked for it; by scope.
    authorization: Mutex<Vec<(String, Secret)>>,
}

impl Registry {
    /// The registry of an image.
    #[must_use]
    pub fn of(image: &ImageRef, trusted: &Trusted, credentials: Option<Credentials>) -> Self {
        let canonical = image.canonical();
        let domain = canonical.domain().unwrap_or("docker.io").to_owned();
        let address = match domain.as_str() {
            // Docker Hub's images are named otherwise than its registry.
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        Self {
            sites: Site::of(address, &trusted.of(&domain)),
            answers: OnceLock::new(),
            trusted: trusted.clone(),
            name: domain,
            credentials,
            authorization: Mutex::default(),
        }
    }

    /// What stands under the image's tag; nothing where there is none.
    ///
    /// # Errors
    ///
    /// The registry can't be reached, or does not answer the question.
    pub async fn manifest(&self, image: &ImageRef) -> Result<Option<Manifest>, RegistryError> {
        let repository = path(image);
        let tag = image.tag().map_or("latest", |tag| tag.as_str());
        let ask = Ask::new(Method::GET, format!("/v2/{repository}/manifests/{tag}"))
            .header(ACCEPT, HeaderValue::from_static(MANIFESTS));
        let answer = self.read(ask, image).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = self.accepted(answer, image, Right::Pull)?;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let config = body["config"]["digest"].as_str();
        Ok(Some(Manifest {
            digest: Digest::of(&answer.body),
            config: config.and_then(|digest| digest.parse().ok()),
            kind: answer.header(&CONTENT_TYPE).unwrap_or_default().to_owned(),
            size: answer.body.len() as u64,
        }))
    }

    /// What is wrong if a name stands for nothing that should.
    pub(crate) fn has_none(&self, image: &ImageRef) -> RegistryError {
        RegistryError::Refused {
            registry: self.name.clone(),
            status: StatusCode::NOT_FOUND.as_u16(),
            message: format!("`{image}` is not there any more"),
        }
    }

    /// Whether the registry takes layers for the image's repository: begins an upload, and gives it up.
    ///
    /// # Errors
    ///
    /// It does not; why.
    pub async fn check_push(&self, image: &ImageRef) -> Result<(), RegistryError> {
        let upload = self.begin(image).await?;
        self.abandon(image, &upload).await;
        Ok(())
    }

    /// Whether the registry has taken a token: what it refuses then is not for want of a password.
    pub(crate) fn has_token(&self) -> bool {
        self.authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|(_, shown)| is_token(shown))
    }

    /// Asks what a repository has. Some registries let only those look who may push, if the repository does not
    /// exist yet.
    async fn read(&self, ask: Ask, image: &ImageRef) -> Result<Answer, RegistryError> {
        let scope = format!("repository:{}:pull", path(image));
        let first = self.ask(ask.clone(), &scope, image).await;
        let is_hidden = match &first {
            Ok(answer) => {
                let has_token = self.shown(&scope).as_ref().is_some_and(is_token);
                has_token
                    && [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status)
            }
            Err(error) => matches!(error, RegistryError::Denied { .. }),
        };
        if is_hidden {
            return self.ask(ask, &pushing(image), image).await;
        }
        first
    }

    /// Asks, with what the registry wants to see first.
    async fn ask(&self, ask: Ask, scope: &str, image: &ImageRef) -> Result<Answer, RegistryError> {
        let shown = self.shown(scope);
        let had_shown = shown.is_some();
        let first = self.send(ask.clone(), shown).await?;
        if first.status != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let shown = match (Challenge::of(&first), &self.credentials) {
            (Some(Challenge::Basic), Some(credentials)) if !had_shown => credentials.basic(),
            (Some(Challenge::Bearer { realm, service }), _) => {
                self.token(&realm, service.as_deref(), scope, image).await?
            }
            _ => return Ok(first),
        };
        self.authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((scope.to_owned(), shown.clone()));
        self.send(ask, Some(shown)).await
    }

    fn shown(&self, scope: &str) -> Option<Secret> {
        let known = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let newest = known.iter().rev().find(|(known, _)| known == scope);
        newest.map(|(_, shown)| shown.clone())
    }

    async fn send(&self, ask: Ask, shown: Option<Secret>) -> Result<Answer, RegistryError> {
        let ask = match shown {
            Some(shown) => ask.secret_header(AUTHORIZATION, shown),
            None => ask,
        };
        let mut reason = String::new();
        for (at, site) in self.sites.iter().enumerate() {
            if self.answers.get().is_some_and(|answers| *answers != at) {
                continue;
            }
            match site.send(ask.clone(), MOST_BYTES).await {
                Ok(answer) => {
                    let _ = self.answers.set(at);
                    return self.follow(ask, site.clone(), answer).await;
                }
                Err(error) => reason = error,
            }
        }
        Err(RegistryError::Unreachable {
            registry: self.name.clone(),
            reason,
        })
    }

    /// The answer, unless it says no.
    fn accepted(
        &self,
        answer: Answer,
        image: &ImageRef,
        right: Right,
    ) -> Result<Answer, RegistryError> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let registry = self.name.clone();
        let user = self.credentials.as_ref().map(|credentials| {
            let user = credentials.user.as_deref().unwrap_or("an identity token");
            format!("`{user}` ({})", credentials.origin)
        });
        let status = answer.status.as_u16();
        Err(match status {
            401 => RegistryError::Unauthorized { registry, user },
            403 => RegistryError::Denied {
                right,
                repository: image.repository(),
                user,
            },
            429 | 500 | 502..=504 => RegistryError::Busy {
                registry,
                status,
                wait: answer.header(&RETRY_AFTER).and_then(wait),
            },
            _ => RegistryError::Refused {
                registry,
                status,
                message: message(&answer),
            },
        })
    }
}

/// Whether it is a token, rather than a password.
fn is_token(shown: &Secret) -> bool {
    shown.expose().starts_with("Bearer ")
}

/// How long to wait, in seconds. A date is seldom sent, and not needed.
fn wait(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// The repository's path in its registry.
fn path(image: &ImageRef) -> String {
    image.canonical().path().to_owned()
}

/// What a registry says of an error.
fn message(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        message: Option<String>,
        code: String,
    }
    let is_json = answer
        .header(&CONTENT_TYPE)
        .is_some_and(|kind| kind.contains("json"));
    let body: Option<Body> = serde_json::from_slice(&answer.body).ok();
    match body {
        Some(body) if is_json => {
            let said = body.errors.into_iter();
            let said = said.map(|entry| entry.message.unwrap_or(entry.code));
            said.collect::<Vec<_>>().join("; ")
        }
        _ => answer
            .status
            .canonical_reason()
            .unwrap_or("no reason is given")
            .to_owned(),
    }
}

//! Pushes images: what is there already is not sent again, what was released is not replaced, and what
//! fails for a while is tried again.

mod record;
mod relay;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::engine::docker::credentials::{CredentialsError, Keyring};
use crate::engine::docker::{DockerEngine, EngineError, PUSH_SILENCE};
use crate::engine::registry::{Credentials, Manifest, Registry, RegistryError, Trust};
use crate::event::{Event, Events, Outcome, Step};
use crate::model::{Digest, ImageRef, RunId};
use crate::plan::push::{Remedy, Wanted, is_release, pause, remedy};
pub use record::{AttachedRun, NoRecord, runs_of};
pub use relay::forget_relays;

/// How often is tried what fails for a while, and how long.
const TRIES: u32 = 5;
const TIME: Duration = Duration::from_mins(2);
/// Where docker's engine has the authorities of registries.
const AUTHORITIES: &str = "/etc/docker/certs.d";

/// A name that stands for its image in the registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The name.
    pub name: ImageRef,
    /// The digest that the registry has it under.
    pub digest: Digest,
    /// Whether it stood for it before.
    pub was_there: bool,
    /// The run whose record is attached to it, and the digest of that.
    pub run: Option<(RunId, Digest)>,
}

/// What is pushed, and how.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The names, in their order.
    pub wanted: &'a [Wanted],
    /// Whether what was released is replaced.
    pub is_forced: bool,
    /// The runs whose records are attached, by the id of their image.
    pub runs: &'a BTreeMap<Digest, AttachedRun>,
}

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
    /// Another image was released under the name.
    #[error("`{name}` is released already, as {found}")]
    Released {
        /// The name.
        name: ImageRef,
        /// What stands there.
        found: Digest,
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
    /// How to mend it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Engine(error) => Some(error.help()),
            Self::Credentials(error) => error.help(),
            Self::Registry(RegistryError::Unauthorized { registry, .. }) => {
                Some(format!("`jobctl login {registry}`"))
            }
            Self::Unauthorized { name, .. } => {
                let registry = name.canonical().domain().map(str::to_owned);
                Some(format!("`jobctl login {}`", registry.unwrap_or_default()))
            }
            Self::Registry(RegistryError::Denied { .. }) => {
                Some("ask for the right to push there, or give another `--image-prefix`".to_owned())
            }
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
                "raise the version: `jobctl build --bump patch`; tags of this registry stand for one \
                 image for ever"
                    .to_owned(),
            ),
            Self::Registry(_) | Self::Refused { .. } => None,
            Self::OutOfReach { .. } | Self::NoRecord(NoRecord::Unreadable(_)) => None,
            Self::NoRecord(NoRecord::NoRun { .. }) => {
                Some("run it first: `jobctl run`".to_owned())
            }
            Self::NotThere { .. } => Some("build it first: `jobctl build`".to_owned()),
            Self::Released { .. } => Some(
                "raise the version: `jobctl build --bump patch`; `--force` replaces what was released"
                    .to_owned(),
            ),
            Self::Mismatch { .. } => {
                Some("somebody else may push the same name: look what stands there".to_owned())
            }
        }
    }
}

/// Pushes names in their order. Those of one repository are pushed by the same credentials.
///
/// The registry is asked first what it has and whether it takes anything, where it can be reached from
/// here: an engine needs minutes to say no. Nothing is pushed if a release would be replaced, unless that
/// is forced.
///
/// # Errors
///
/// See [`PushFailure`]: the first thing that went wrong. What was pushed before it stays.
pub async fn push(
    engine: &DockerEngine,
    keyring: &Keyring<'_>,
    asked: &Asked<'_>,
    events: &Events,
) -> Result<Vec<Pushed>, PushFailure> {
    let insecure = if engine.is_local() {
        engine.insecure_registries().await?
    } else {
        Vec::new()
    };
    let mut places: Vec<Place> = Vec::new();
    // Nothing is pushed before all is known to be well.
    let mut looked = Vec::new();
    for wanted in asked.wanted {
        let repository = wanted.name.repository();
        let known = places
            .iter()
            .position(|place| place.repository == repository);
        let at = match known {
            Some(at) => at,
            None => {
                let is_local = engine.is_local();
                places.push(Place::of(&wanted.name, is_local, keyring, &insecure).await?);
                places.len() - 1
            }
        };
        let found = places[at].look(wanted, asked.is_forced, events).await?;
        looked.push((wanted, at, found));
    }
    for (wanted, at, found) in &looked {
        if !is_there(found.as_ref(), wanted) {
            places[*at].check(&wanted.name, events).await?;
        }
    }
    let mut pushed = Vec::new();
    for (wanted, at, found) in looked {
        let name = wanted.name.clone();
        let step = events.step(None, format!("push {name}"));
        let place = &mut places[at];
        let found = found.filter(|found| is_there(Some(found), wanted));
        let was_there = found.is_some();
        let digest = async {
            if let Some(found) = found {
                return Ok(found.digest);
            }
            place.send_layers(engine, wanted, &step, events).await?;
            place.push(engine, &name, &step, events).await
        };
        let digest = digest.await;
        step.finish(match &digest {
            Ok(_) if was_there => Outcome::Cached,
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Failed(String::new()),
        });
        let digest = digest?;
        let run = match asked.runs.get(&wanted.id) {
            Some(run) => Some((run.id, place.attach(&name, run, events).await?)),
            None => None,
        };
        pushed.push(Pushed {
            name,
            digest,
            was_there,
            run,
        });
    }
    Ok(pushed)
}

fn is_there(found: Option<&Manifest>, wanted: &Wanted) -> bool {
    found.is_some_and(|found| found.is(&wanted.id))
}

/// A repository, and how one gets there.
struct Place {
    repository: String,
    registry: Registry,
    credentials: Option<Credentials>,
    reach: Reach,
    /// The images whose layers are there.
    sent: Vec<Digest>,
    /// The runs whose records are there, and what they are attached as.
    attached: Vec<(RunId, Digest)>,
}

/// Whether a registry can be asked from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// It was not tried yet.
    Unknown,
    /// It has answered: if it does not the next time, it will again.
    Known,
    /// It can't: the engine may get there by ways of its own.
    None,
}

impl Place {
    async fn of(
        name: &ImageRef,
        is_local: bool,
        keyring: &Keyring<'_>,
        insecure: &[String],
    ) -> Result<Self, PushFailure> {
        let canonical = name.canonical();
        let domain = canonical.domain().unwrap_or("docker.io");
        let credentials = keyring.find(domain).await?;
        let trust = Trust::of_engine(domain, insecure, Path::new(AUTHORITIES));
        Ok(Self {
            repository: name.repository(),
            registry: Registry::of(name, &trust, credentials.clone()),
            credentials,
            reach: if is_local {
                Reach::Unknown
            } else {
                Reach::None
            },
            sent: Vec::new(),
            attached: Vec::new(),
        })
    }

    /// What stands under the name. What was released is not replaced.
    async fn look(
        &mut self,
        wanted: &Wanted,
        is_forced: bool,
        events: &Events,
    ) -> Result<Option<Manifest>, PushFailure> {
        if self.reach == Reach::None {
            return Ok(None);
        }
        let name = &wanted.name;
        let found = match self
            .again(name, events, || self.registry.manifest(name))
            .await
        {
            Err(RegistryError::Unreachable { reason, .. }) if self.reach == Reach::Unknown => {
                tracing::info!("the registry of {name} is not asked: {reason}");
                self.reach = Reach::None;
                return Ok(None);
            }
            // Some let nobody see what is not there.
            Err(RegistryError::Denied { .. }) => None,
            found => found?,
        };
        self.reach = Reach::Known;
        if let Some(found) = &found
            && is_release(name)
            && !is_forced
            && !found.is(&wanted.id)
        {
            return Err(PushFailure::Released {
                name: name.clone(),
                found: found.digest.clone(),
            });
        }
        Ok(found)
    }

    /// Sees to it that the registry takes what is pushed.
    async fn check(&self, name: &ImageRef, events: &Events) -> Result<(), PushFailure> {
        if self.reach != Reach::None {
            self.again(name, events, || self.registry.check_push(name))
                .await?;
        }
        Ok(())
    }

    /// Sends an image's layers, where the registry can be reached from here.
    async fn send_layers(
        &mut self,
        engine: &DockerEngine,
        wanted: &Wanted,
        step: &Step,
        events: &Events,
    ) -> Result<(), PushFailure> {
        if self.reach == Reach::Known && !self.sent.contains(&wanted.id) {
            relay::send_layers(engine, self, wanted, step, events).await?;
            self.sent.push(wanted.id.clone());
        }
        Ok(())
    }

    /// Attaches a run's record to what a name stands for. As what.
    async fn attach(
        &mut self,
        name: &ImageRef,
        run: &AttachedRun,
        events: &Events,
    ) -> Result<Digest, PushFailure> {
        if let Some((_, digest)) = self.attached.iter().find(|(known, _)| *known == run.id) {
            return Ok(digest.clone());
        }
        if self.reach == Reach::None {
            return Err(PushFailure::OutOfReach { name: name.clone() });
        }
        let step = events.step(None, format!("attach run {}", run.id));
        let attaching = self.again(name, events, async || {
            let subject = self.registry.manifest(name).await?;
            let subject = subject.ok_or_else(|| self.registry.has_none(name))?;
            self.registry.attach(name, &subject, &run.artifact).await
        });
        let digest = attaching.await;
        step.finish(match &digest {
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Failed(String::new()),
        });
        let digest = digest?;
        self.attached.push((run.id, digest.clone()));
        Ok(digest)
    }

    /// Has the engine push, again and again if need be, and reads back what stands there then.
    async fn push(
        &self,
        engine: &DockerEngine,
        name: &ImageRef,
        step: &Step,
        events: &Events,
    ) -> Result<Digest, PushFailure> {
        let start = Instant::now();
        let mut tries = 1;
        let pushed = loop {
            let credentials = self.credentials.as_ref();
            let pushing = engine.push(name, credentials, Some(PUSH_SILENCE), step);
            let error = match pushing.await {
                Ok(pushed) => break pushed,
                Err(error) => error,
            };
            let message = match &error {
                EngineError::Failed { message } | EngineError::Refused { message, .. } => {
                    message.clone()
                }
                _ => return Err(error.into()),
            };
            let name = name.clone();
            match remedy(&error) {
                Remedy::TryAgain if tries < TRIES && start.elapsed() < TIME => {}
                Remedy::TryAgain => {
                    return Err(PushFailure::GivenUp {
                        name,
                        tries,
                        message,
                    });
                }
                Remedy::LogIn => {
                    let user = self.user();
                    return Err(PushFailure::Unauthorized {
                        name,
                        user,
                        message,
                    });
                }
                Remedy::AskForRights | Remedy::GiveUp => {
                    return Err(PushFailure::Refused { name, message });
                }
            }
            let wait = pause(tries);
            tell(events, &name, &message, wait, tries);
            sleep(wait).await;
            // It may say how long it wants to be left alone, which an engine does not tell.
            self.check(&name, events).await?;
            tries += 1;
        };
        let name = name.clone();
        if self.reach == Reach::None {
            let message = "the engine does not say as what it was pushed".to_owned();
            return pushed.ok_or(PushFailure::Refused { name, message });
        }
        let reading = self.again(&name, events, || self.registry.manifest(&name));
        let found = reading.await?.map(|found| found.digest);
        match (pushed, found) {
            (None, Some(found)) => Ok(found),
            (Some(pushed), Some(found)) if pushed == found => Ok(pushed),
            (pushed, found) => Err(PushFailure::Mismatch {
                name,
                pushed: pushed.map_or_else(|| "something".to_owned(), |digest| digest.to_string()),
                found: found.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string()),
            }),
        }
    }

    /// Asks the registry again and again while it can't just now.
    async fn again<T>(
        &self,
        name: &ImageRef,
        events: &Events,
        mut ask: impl AsyncFnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let start = Instant::now();
        let mut tries = 1;
        loop {
            let error = match ask().await {
                Err(error @ RegistryError::Busy { .. }) => error,
                Err(error @ RegistryError::Unreachable { .. }) if self.reach == Reach::Known => {
                    error
                }
                answer => return answer,
            };
            if tries >= TRIES || start.elapsed() >= TIME {
                return Err(error);
            }
            let wait = match &error {
                RegistryError::Busy {
                    wait: Some(wait), ..
                } => *wait,
                _ => pause(tries),
            };
            tell(events, name, &error.to_string(), wait, tries);
            sleep(wait).await;
            tries += 1;
        }
    }

    /// Who pushes, in words.
    fn user(&self) -> String {
        match &self.credentials {
            None => "anybody without credentials".to_owned(),
            Some(Credentials {
                user: Some(user),
                origin,
                ..
            }) => format!("`{user}` ({origin})"),
            Some(Credentials { origin, .. }) => format!("an identity token ({origin})"),
        }
    }
}

/// Tells of a try that failed: one line, also in CI.
fn tell(events: &Events, name: &ImageRef, why: &str, wait: Duration, tries: u32) {
    events.send(Event::Note(format!(
        "push {name}: {why}; try {} of {TRIES} in {} s",
        tries + 1,
        wait.as_secs()
    )));
}

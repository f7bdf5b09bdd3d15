//! A repository in its registry: looked at, checked and pushed to, again and again where it can't just now.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::failure::PushFailure;
use super::record::AttachedRun;
use super::relay;
use crate::engine::docker::credentials::Keyring;
use crate::engine::docker::{DockerEngine, EngineError, PUSH_SILENCE};
use crate::engine::registry::{Credentials, Manifest, Registry, RegistryError, Trusted};
use crate::event::{Event, Events, Outcome, Step};
use crate::model::{Digest, ImageRef, RunId, Version};
use crate::plan::push::{Remedy, Wanted, is_release, pause, remedy, version};

/// How often is tried what fails for a while, and how long.
const TRIES: u32 = 5;
const TIME: Duration = Duration::from_mins(2);

/// A repository, and how one gets there.
pub(super) struct Place {
    pub(super) repository: String,
    pub(super) registry: Registry,
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
    pub(super) async fn of(
        name: &ImageRef,
        is_local: bool,
        keyring: &Keyring<'_>,
        insecure: &[String],
    ) -> Result<Self, PushFailure> {
        let canonical = name.canonical();
        let domain = canonical.domain().unwrap_or("docker.io");
        let credentials = keyring.find(domain).await?;
        let trusted = Trusted::of_engine(insecure.to_owned());
        Ok(Self {
            repository: name.repository(),
            registry: Registry::of(name, &trusted, credentials.clone()),
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
    pub(super) async fn look(
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
                events.send(Event::Warning(format!(
                    "the registry of `{name}` can't be asked from here what it has; only the engine \
                     reaches it: {reason}"
                )));
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
                is_of_git: wanted.is_of_git,
            });
        }
        Ok(found)
    }

    /// Whether the registry can be asked from here.
    pub(super) fn is_known(&self) -> bool {
        self.reach == Reach::Known
    }

    /// The releases that the registry has; nothing if it does not list them.
    pub(super) async fn releases(
        &self,
        name: &ImageRef,
        events: &Events,
    ) -> Result<Option<BTreeSet<Version>>, RegistryError> {
        let listing = self.again(name, events, || self.registry.tags(name));
        let tags = match listing.await {
            Err(error @ (RegistryError::Denied { .. } | RegistryError::Unauthorized { .. })) => {
                return Ok(unlisted(&error));
            }
            Err(error @ RegistryError::Refused { status, .. }) if status >= 400 => {
                return Ok(unlisted(&error));
            }
            tags => tags?,
        };
        let Some(tags) = tags else {
            return Ok(None);
        };
        let repository = name.repository();
        let names = tags.iter().map(|tag| format!("{repository}:{tag}").parse());
        let names = names.filter_map(Result::ok).filter(is_release);
        Ok(Some(names.filter_map(|name| version(&name)).collect()))
    }

    /// Sees to it that the registry takes what is pushed.
    pub(super) async fn check(&self, name: &ImageRef, events: &Events) -> Result<(), PushFailure> {
        if self.reach != Reach::None {
            self.again(name, events, || self.registry.check_push(name))
                .await?;
        }
        Ok(())
    }

    /// Sends an image's layers, where the registry can be reached from here.
    pub(super) async fn send_layers(
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
    pub(super) async fn attach(
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
    pub(super) async fn push(
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
    pub(super) async fn again<T>(
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

/// Some registries let nobody see all of their tags.
fn unlisted<T>(error: &RegistryError) -> Option<T> {
    tracing::info!("tags are not listed: {error}");
    None
}

/// Tells of a try that failed: one line, also in CI.
fn tell(events: &Events, name: &ImageRef, why: &str, wait: Duration, tries: u32) {
    events.send(Event::Note(format!(
        "push {name}: {why}; try {} of {TRIES} in {} s",
        tries + 1,
        wait.as_secs()
    )));
}

//! A repository in its registry: looked at, checked and pushed to, again and again where it can't just now.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::failure::PushFailure;
use super::record::AttachedRun;
use super::relay;
use super::tries::{MOST, TIME};
use crate::engine::docker::credentials::Keyring;
use crate::engine::docker::{DockerEngine, EngineError, PUSH_SILENCE};
use crate::engine::registry::{Credentials, Manifest, Registry, RegistryError, Trusted};
use crate::event::{Event, Events, Outcome, Step};
use crate::model::{Digest, ImageRef, RunId, Version};
use crate::plan::push::{Wanted, is_release, pause, version};

/// What takes longer than that to fail is not waited for again: many names may be to be pushed.
const SLOW: Duration = Duration::from_secs(1);
/// How long it is asked again then, where nothing depends on the answer.
const SHORT: Duration = Duration::from_secs(2);

/// How long a registry that was slow not to answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until it is known that it does not answer.
    Full,
    /// For a moment.
    Short,
}

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
    /// It has not answered, be it quickly or not. The engine may get there by ways of its own; or it will answer
    /// the next time.
    Lost { is_slow: bool },
    /// It is not asked: the engine is on another machine, where its name may mean something else.
    Elsewhere,
}

/// What a registry has under a name.
#[derive(Debug)]
pub(super) enum Standing {
    /// Nothing.
    Absent,
    /// An image.
    Is(Manifest),
    /// It does not let the user see.
    Hidden(RegistryError),
    /// It can't be asked.
    Unasked,
}

impl Standing {
    /// The image, if it is the one that is wanted there.
    pub(super) fn has(&self, wanted: &Wanted) -> Option<&Manifest> {
        match self {
            Self::Is(found) if found.is(&wanted.id) => Some(found),
            _ => None,
        }
    }
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
                Reach::Elsewhere
            },
            sent: Vec::new(),
            attached: Vec::new(),
        })
    }

    /// What is under the name. A registry that could not be asked before is asked again.
    pub(super) async fn look(
        &mut self,
        name: &ImageRef,
        patience: Patience,
        events: &Events,
    ) -> Result<Standing, PushFailure> {
        let start = Instant::now();
        let asking = self.registry.manifest(name);
        let mut answer = match self.reach {
            Reach::Elsewhere => return Ok(Standing::Unasked),
            Reach::Lost { is_slow: true } if patience == Patience::Short => {
                match timeout(SHORT, asking).await {
                    Ok(answer) => answer,
                    Err(_) => return Ok(Standing::Unasked),
                }
            }
            Reach::Lost { .. } => asking.await,
            Reach::Unknown | Reach::Known => {
                self.again(name, events, || self.registry.manifest(name))
                    .await
            }
        };
        if let (Err(RegistryError::Busy { .. }), Reach::Lost { .. }) = (&answer, self.reach) {
            self.reach = Reach::Known;
            answer = self
                .again(name, events, || self.registry.manifest(name))
                .await;
        }
        match answer {
            Err(RegistryError::Unreachable { .. }) if matches!(self.reach, Reach::Lost { .. }) => {
                return Ok(Standing::Unasked);
            }
            Err(RegistryError::Unreachable { reason, .. }) if self.reach == Reach::Unknown => {
                events.send(Event::Warning(format!(
                    "the registry of `{name}` can't be asked from here what it has; only the engine \
                     reaches it: {reason}"
                )));
                let is_slow = start.elapsed() > SLOW;
                self.reach = Reach::Lost { is_slow };
                return Ok(Standing::Unasked);
            }
            _ => self.reach = Reach::Known,
        }
        match answer {
            Ok(Some(found)) => Ok(Standing::Is(found)),
            Ok(None) => Ok(Standing::Absent),
            Err(error) if self.is_hiding(&error) => Ok(Standing::Hidden(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a registry answers so to one whom it does not let see what it has, or that there is nothing: it may
    /// let them push all the same.
    fn is_hiding(&self, error: &RegistryError) -> bool {
        match error {
            RegistryError::Denied { .. } => true,
            RegistryError::Unauthorized { .. } => self.registry.has_token(),
            _ => false,
        }
    }

    /// Whether the registry can be asked from here.
    pub(super) fn is_known(&self) -> bool {
        self.reach == Reach::Known
    }

    /// Whether it took the registry long not to answer.
    pub(super) fn is_slow(&self) -> bool {
        self.reach == Reach::Lost { is_slow: true }
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
        if self.is_known() {
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
        if !self.is_known() {
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

    /// Has the engine push. The digest, if it says as what.
    pub(super) async fn push(
        &self,
        engine: &DockerEngine,
        name: &ImageRef,
        step: &Step,
    ) -> Result<Option<Digest>, EngineError> {
        let credentials = self.credentials.as_ref();
        engine
            .push(name, credentials, Some(PUSH_SILENCE), step)
            .await
    }

    /// Reads back what the registry has under a name that was pushed.
    pub(super) async fn read_back(
        &self,
        name: &ImageRef,
        pushed: Option<Digest>,
        events: &Events,
    ) -> Result<Digest, PushFailure> {
        let name = name.clone();
        if !self.is_known() {
            let message = "the engine does not say as what it was pushed".to_owned();
            return pushed.ok_or(PushFailure::Refused { name, message });
        }
        let reading = self.again(&name, events, || self.registry.manifest(&name));
        let found = match reading.await {
            Err(error) if self.is_hiding(&error) => {
                let Some(pushed) = pushed else {
                    return Err(PushFailure::Unread { name, error });
                };
                events.send(Event::Warning(format!(
                    "`{name}` was pushed, and can't be read back: {error}"
                )));
                return Ok(pushed);
            }
            found => found?.map(|found| found.digest),
        };
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
            if tries >= MOST || start.elapsed() >= TIME {
                return Err(error);
            }
            let wait = match &error {
                RegistryError::Busy {
                    wait: Some(wait), ..
                } => *wait,
                _ => pause(tries),
            };
            note_try(events, name, &error.to_string(), wait, tries);
            sleep(wait).await;
            tries += 1;
        }
    }

    /// Who pushes, in words.
    pub(super) fn user(&self) -> String {
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

/// Says that a try failed: one line, also in CI.
pub(super) fn note_try(events: &Events, name: &ImageRef, why: &str, wait: Duration, tries: u32) {
    events.send(Event::Note(format!(
        "push {name}: {why}; try {} of {MOST} in {} s",
        tries + 1,
        wait.as_secs()
    )));
}

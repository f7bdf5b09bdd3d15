//! How often an engine is had push what fails for a while.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::PushFailure;
use super::place::{Place, note_try};
use crate::engine::docker::EngineError;
use crate::event::Events;
use crate::model::ImageRef;
use crate::plan::push::{Remedy, pause, remedy};

/// How often is tried what fails for a while, and how long.
pub(super) const MOST: u32 = 5;
pub(super) const TIME: Duration = Duration::from_mins(2);

/// The tries of one name.
pub(super) struct Tries {
    start: Instant,
    count: u32,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            count: 1,
        }
    }

    /// Waits until it may be tried again.
    ///
    /// # Errors
    ///
    /// There is no use in that, or it was tried often enough.
    pub(super) async fn wait(
        &mut self,
        place: &Place,
        name: &ImageRef,
        error: EngineError,
        events: &Events,
    ) -> Result<(), PushFailure> {
        let message = match &error {
            EngineError::Failed { message } | EngineError::Refused { message, .. } => {
                message.clone()
            }
            _ => return Err(error.into()),
        };
        let name = name.clone();
        match remedy(&error) {
            Remedy::TryAgain if self.count < MOST && self.start.elapsed() < TIME => {}
            Remedy::TryAgain => {
                return Err(PushFailure::GivenUp {
                    name,
                    tries: self.count,
                    message,
                });
            }
            Remedy::LogIn => {
                return Err(PushFailure::Unauthorized {
                    name,
                    user: place.user(),
                    message,
                });
            }
            Remedy::AskForRights | Remedy::GiveUp => {
                return Err(PushFailure::Refused { name, message });
            }
        }
        let wait = pause(self.count);
        note_try(events, &name, &message, wait, self.count);
        sleep(wait).await;
        // It may say how long it wants to be left alone, which an engine does not tell.
        place.check(&name, events).await?;
        self.count += 1;
        Ok(())
    }
}

//! What is noted of a container that has ended.

use std::time::Duration;

use tokio::time::sleep;

use super::RunFailure;
use super::attempt::{Work, latest};
use super::control::Orders;
use super::follow::Followed;
use super::outcome::{note_end, note_removal};
use crate::engine::run::{Container, Status};
use crate::records::{Ending, Record};

/// How long is waited for what an engine notices late, and how often: where nothing hints at it, and
/// where something does.
const LATE: Duration = Duration::from_millis(100);
const LATE_LOOKS: [u32; 2] = [2, 20];
/// How long after an end an engine tells of it at the latest.
const TOLD: Duration = Duration::from_secs(5);
/// How long it takes until a container that somebody removes by force is seen to be removed.
const REMOVAL: Duration = Duration::from_millis(300);

impl Work<'_> {
    /// Notes how a container ended that has; the engine may have been lost sight of meanwhile.
    pub(super) async fn settle(
        &self,
        record: &mut Record,
        orders: Orders,
        was_lost: bool,
    ) -> Result<Followed, RunFailure> {
        let id = latest(record).container_id.clone().unwrap_or_default();
        let (asked, image) = tokio::join!(
            self.patiently(|| self.engine.container(&id)),
            self.engine.image_details(&record.image.name),
        );
        let (container, was_gone) = asked?;
        let Some(mut container) = container else {
            note_removal(latest(record));
            return Ok(Followed::Over);
        };
        self.look_for_oom(&mut container, record.policy.fails_on_oom)
            .await;
        let orders = Orders {
            is_stopped: orders.is_stopped || self.folder.is_stop_wanted(),
            ..orders
        };
        note_end(latest(record), &container, orders);
        let is_killed = matches!(latest(record).exit_code, Some(137 | 143));
        let is_error = latest(record).ending == Some(Ending::Error);
        if is_error && is_killed && (was_gone || was_lost || !self.engine.is_listening().await) {
            // An engine that is shut down ends its containers, tells of their end, and goes itself; one
            // that was killed ends what it finds when it comes back.
            latest(record).ending = Some(Ending::EngineStopped);
        } else if is_error && latest(record).exit_code == Some(137) {
            // Somebody may have killed it to remove it.
            sleep(REMOVAL).await;
            let found = self.engine.container(&id).await;
            if matches!(&found, Ok(None))
                || matches!(&found, Ok(Some(found)) if found.status == Status::Removing)
            {
                note_removal(latest(record));
            }
        }
        self.mark_lost(record).await;
        // Unless the name was given to another image meanwhile.
        match image {
            Ok(Some(image)) if image.id.as_str() == container.image => {
                record.image.content = Some(image.content.to_string());
                record.image.repo_digests = image.repo_digests;
                record.image.layers = image.layers;
                record.image.labels = image.labels;
            }
            _ => {}
        }
        record.image.id = Some(container.image);
        Ok(Followed::Over)
    }

    /// Looks whether the kernel killed a process because memory was full. The engine hears of it by
    /// another way than of the end, and so later at times; it then corrects what it says of the container,
    /// or has it among its events alone.
    async fn look_for_oom(&self, container: &mut Container, is_wanted: bool) {
        let (Some(_), Some(started), Some(finished)) = (
            container.memory_limit,
            container.started,
            container.finished,
        ) else {
            return;
        };
        let is_likely = is_wanted || container.exit_code == Some(137);
        let mut until = finished;
        for _ in 0..LATE_LOOKS[usize::from(is_likely)] {
            if container.is_oom_killed {
                return;
            }
            sleep(LATE).await;
            // By the engine's clock, on which at least as much has passed.
            until = until.checked_add(LATE).unwrap_or(until);
            let (again, seen) = tokio::join!(
                self.engine.container(&container.id),
                self.engine.saw("oom", &container.id, started, until),
            );
            container.is_oom_killed =
                matches!(again, Ok(Some(again)) if again.is_oom_killed) || seen.unwrap_or(false);
        }
    }

    /// What ended with 255, and was not seen to end, went down with its machine: the engine found it
    /// dead when it came back, and guessed.
    async fn mark_lost(&self, record: &mut Record) {
        let attempt = latest(record);
        let (Some(255), Some(id), Some(started), Some(finished)) = (
            attempt.exit_code,
            &attempt.container_id,
            attempt.started,
            attempt.finished,
        ) else {
            return;
        };
        // By the engine's clock alone: ours may be another, and up to an hour that is to come the engine
        // would wait for it.
        let until = finished.checked_add(TOLD).unwrap_or(finished);
        if let Ok(false) = self.engine.saw("die", id, started, until).await {
            attempt.ending = Some(Ending::Lost);
            attempt.message =
                Some("its machine went down while it ran: nobody knows how it ended".to_owned());
        }
    }
}

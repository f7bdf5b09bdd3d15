//! The slots for connections, and which connection loses its own when all are taken: a semaphore, or tower's limit, could
//! only have the next one wait.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

const IDLE: u8 = 0;
const SENDING: u8 = 1;
const ASKED: u8 = 2;
const ANSWERED: u8 = 3;

/// So long a connection has to ask, and a spare one to be answered, before another may take its slot.
const TIME_TO_ASK: Duration = Duration::from_millis(100);

/// Whether a client waits for something on a connection.
#[derive(Debug, Default)]
pub(crate) struct ConnState(AtomicU8);

impl ConnState {
    /// A request's head is there, and its body is still to come.
    pub(crate) fn sending(&self) {
        self.0.store(SENDING, Ordering::Relaxed);
    }

    /// A request is there as a whole.
    pub(crate) fn asked(&self) {
        self.0.store(ASKED, Ordering::Relaxed);
    }

    /// The answer is to be sent next.
    pub(crate) fn answered(&self) {
        self.0.store(ANSWERED, Ordering::Relaxed);
    }

    /// Everything that was to be sent is.
    pub(crate) fn flushed(&self) {
        let _ = self
            .0
            .compare_exchange(ANSWERED, IDLE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether no request has begun.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed) == IDLE
    }

    /// Whether the server waits for the client, not the client for the server.
    fn waits_for_client(&self) -> bool {
        matches!(self.0.load(Ordering::Relaxed), IDLE | SENDING)
    }
}

/// Why a connection has no slot of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// All slots are taken.
    OfServer,
    /// The client has as many as one client may have.
    OfClient,
}

/// A connection that has a slot.
struct Open {
    /// None: one that may have any number.
    client: Option<IpAddr>,
    task: AbortHandle,
    state: Arc<ConnState>,
    since: Instant,
}

/// So many slots for connections.
pub(crate) struct ConnectionSlots {
    limit: usize,
    per_client: usize,
    /// The oldest first. Some may have ended.
    open: VecDeque<Open>,
    /// So many connections beyond the limit, on which only probes are answered.
    spare_limit: usize,
    /// These connections, and since when they are there; the oldest first.
    spare: VecDeque<(AbortHandle, Instant)>,
}

impl ConnectionSlots {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            per_client: limit.div_ceil(2),
            open: VecDeque::new(),
            spare_limit: (limit / 8).clamp(32, 256),
            spare: VecDeque::new(),
        }
    }

    /// Makes room for a client's next connection. Where there is none, the oldest connection on which no whole
    /// request waits for its answer is ended, and of a client that has its share, the oldest such one of its own: a client
    /// that opens many, and asks nothing, keeps no other out.
    ///
    /// # Errors
    /// There is no such one.
    pub(crate) fn make_room(&mut self, client: Option<IpAddr>) -> Result<(), Shortage> {
        let held = |open: &VecDeque<Open>| {
            open.iter()
                .filter(|open| client.is_some() && open.client == client)
                .count()
        };
        if self.open.len() >= self.limit || held(&self.open) >= self.per_client {
            self.open.retain(|open| !open.task.is_finished());
        }
        if held(&self.open) >= self.per_client {
            self.end_waiting(|open| open.client == client)
                .ok_or(Shortage::OfClient)
        } else if self.open.len() >= self.limit {
            self.end_waiting(|_| true).ok_or(Shortage::OfServer)
        } else {
            Ok(())
        }
    }

    /// Gives a slot to a connection.
    pub(crate) fn take(
        &mut self,
        client: Option<IpAddr>,
        task: AbortHandle,
        state: Arc<ConnState>,
    ) {
        self.open.push_back(Open {
            client,
            task,
            state,
            since: Instant::now(),
        });
    }

    /// Gives a spare slot to a connection.
    pub(crate) fn take_spare(&mut self, task: AbortHandle) {
        self.spare.push_back((task, Instant::now()));
    }

    /// Sees to it that there is a spare slot for the next connection: the oldest loses its own. If that one has
    /// just come, this is how long no connection is to be accepted, so that those that are there are answered.
    pub(crate) fn wait_for_spare(&mut self) -> Option<Duration> {
        if self.spare.len() < self.spare_limit {
            return None;
        }
        self.spare.retain(|(task, _)| !task.is_finished());
        if self.spare.len() < self.spare_limit {
            return None;
        }
        let (_, since) = self.spare.front()?;
        let left = TIME_TO_ASK.checked_sub(since.elapsed());
        if left.is_none()
            && let Some((oldest, _)) = self.spare.pop_front()
        {
            oldest.abort();
        }
        left
    }

    fn end_waiting(&mut self, may_end: impl Fn(&Open) -> bool) -> Option<()> {
        let index = self.open.iter().position(|open| {
            open.state.waits_for_client() && open.since.elapsed() >= TIME_TO_ASK && may_end(open)
        })?;
        self.open.remove(index)?.task.abort();
        Some(())
    }
}

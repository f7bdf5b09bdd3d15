//! How to serve.

use std::thread::Builder;
use std::time::Duration;

use ipnet::IpNet;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The program's version, as `/info`, `/metrics` and `/openapi.json` give it.
    pub version: &'static str,
    /// The threads that compute.
    pub compute: Compute,
    /// How much is taken; more is refused.
    pub limits: Limits,
    /// How long the server waits for what.
    pub timeouts: Timeouts,
    /// Proxies whose `X-Forwarded-For` names the client.
    pub trusted_proxies: Vec<IpNet>,
}

impl ServerConfig {
    /// With the limits and timeouts of their defaults, and no proxies.
    #[must_use]
    pub fn new(version: &'static str, compute: Compute) -> Self {
        Self {
            version,
            compute,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            trusted_proxies: Vec::new(),
        }
    }
}

/// How much is taken; more is refused at once. Each is 1 at least.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tokens of a batch, and so of a text.
    pub batch_tokens: usize,
    /// Texts that wait for the model, of all clients.
    pub queue_texts: usize,
    /// Bytes of a text.
    pub text_bytes: usize,
    /// Connections at a time, of all clients. [`max_connections`] says how many there can be.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_tokens: 4096,
            queue_texts: 512,
            text_bytes: 1 << 16,
            connections: max_connections(1024),
        }
    }
}

impl Limits {
    /// Texts of one client that may wait, and texts of one request: half of the queue.
    pub(crate) fn client_texts(self) -> usize {
        self.queue_texts.div_ceil(2)
    }

    /// Bytes of a request's body. The longest text fits in, even if each of its bytes is written as `\u0000`.
    pub(crate) fn body_bytes(self) -> usize {
        const AT_LEAST: usize = 1 << 20;
        self.text_bytes
            .saturating_mul(6)
            .saturating_add(1024)
            .max(AT_LEAST)
    }
}

/// So many connections, or as many as leave a fifth of the files that the process may open.
#[must_use]
pub fn max_connections(wanted: usize) -> usize {
    open_files_limit().map_or(wanted, |files| wanted.min((files / 5 * 4).max(1)))
}

/// How many files this process may have open, where Linux says so.
fn open_files_limit() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How long the server waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a request's head, from the connection's start or the last answer. It ends idle connections, too.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    /// For the client to read an answer.
    pub write: Duration,
    /// For the client of a closed connection to stop sending.
    pub linger: Duration,
    /// For the requests in flight, when the server stops.
    pub grace: Duration,
    /// For a batch. One that takes longer is never ready, as the model hangs: `/livez` fails.
    pub batch: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            grace: Duration::from_secs(30),
            batch: Duration::from_secs(60),
        }
    }
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// So many threads. A text that comes alone gets all; while more wait, each computes its own.
    Cpu {
        /// Threads, 1 at least.
        threads: usize,
    },
    /// A GPU, which a single thread keeps busy.
    Gpu,
}

/// What computes, and how. The functions are those of the library that the model computes with, so that its
/// threads and the server's are the same ones.
#[derive(Debug, Clone, Copy)]
pub struct Compute {
    /// What computes.
    pub processor: Processor,
    /// Sets how many threads the thread that calls it computes with.
    pub set_threads: fn(usize),
    /// Calls a function with 0, 1, … on so many threads at once, and waits for them; 0 is the calling thread.
    pub on_each_thread: fn(usize, &(dyn Fn(usize) + Sync)),
}

impl Compute {
    /// For a model that computes on the thread that calls it, and shares nothing out: threads of the standard
    /// library, started when more than one text waits.
    #[must_use]
    pub fn on_std_threads(threads: usize) -> Self {
        Self {
            processor: Processor::Cpu { threads },
            set_threads: |_| {},
            on_each_thread: |threads, body| {
                std::thread::scope(|scope| {
                    for thread in 1..threads {
                        // What a thread that the system refuses would compute, the others do.
                        let _ = Builder::new().spawn_scoped(scope, move || body(thread));
                    }
                    body(0);
                });
            },
        }
    }
}

/// Tokens that a processor's core computes together. Twice as many are 4 % faster, and have whoever comes
/// meanwhile wait twice as long.
const CPU_BATCH_TOKENS: usize = 256;

/// How much nicer threads that compute on a CPU are than those that answer. Without it, where all
/// cores compute, even a refusal or a probe would wait until the scheduler takes a core from one of them.
const NICENESS: i32 = 10;

impl Processor {
    /// Threads that compute, of which each may have a batch of its own.
    pub(crate) fn threads(self) -> usize {
        match self {
            Self::Cpu { threads } => threads.max(1),
            Self::Gpu => 1,
        }
    }

    pub(crate) fn batch_tokens(self) -> usize {
        match self {
            Self::Cpu { .. } => CPU_BATCH_TOKENS,
            Self::Gpu => usize::MAX,
        }
    }

    /// The thread of a GPU has little to do, and the GPU waits for it.
    pub(crate) fn niceness(self) -> i32 {
        match self {
            Self::Cpu { .. } => NICENESS,
            Self::Gpu => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn fewer_connections_than_files() {
        let files = open_files_limit().unwrap();
        assert!(max_connections(usize::MAX) < files);
        assert_eq!(max_connections(7), 7);
    }

    #[test]
    fn the_first_of_all_threads_is_the_calling_one() {
        let called = Mutex::new(BTreeSet::new());
        let caller = std::thread::current().id();
        (Compute::on_std_threads(3).on_each_thread)(3, &|thread| {
            assert_eq!(thread == 0, std::thread::current().id() == caller);
            called.lock().unwrap().insert(thread);
        });
        assert_eq!(called.into_inner().unwrap(), BTreeSet::from([0, 1, 2]));
    }
}

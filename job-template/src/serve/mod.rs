//! Serves a model over HTTP.
//!
//! ```text
//! connections → api → request ─→ tokenizer ─→ batcher ⇄ workers (the model)
//!                  ← answer or error ←──────────────────┘
//! ```
//!
//! A request waits in one place only, the batcher's queue, and that is bounded: what it can't take is
//! refused at once. Whoever leaves is dropped from it.

mod answer;
mod api;
mod app;
mod batcher;
mod connections;
mod error;
mod info;
mod metrics;
mod openapi;
mod page;
mod proxies;
mod request;
mod request_id;
mod signals;
mod slots;
mod stream;
mod workers;

use std::error::Error;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use self::app::{App, Model};
use self::batcher::Limits;
use self::connections::Acceptor;
pub use self::connections::ConnectionLimits;
pub use self::info::ModelInfo;
use self::proxies::TrustedProxies;
use self::request::RequestLimits;
pub use self::signals::signals;
use self::workers::Pool;
pub use self::workers::{Compute, Processor};
use crate::classify::Classify;
use crate::config::ServingConfig;
use crate::log::say;
use crate::process;
use crate::tokenize::Tokenizer;

/// A model that can be served.
pub struct Loaded<C> {
    /// Tells how likely each label is.
    pub classifier: C,
    /// The model's own.
    pub tokenizer: Tokenizer,
    /// What is known of it.
    pub info: ModelInfo,
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// What the job's variables say.
    pub serving: ServingConfig,
    /// What computes, and how.
    pub compute: Compute,
    /// How many connections there may be, and how patient the server is with each.
    pub connections: ConnectionLimits,
}

/// Serving can't begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another program has the port, or there is no such address here.
    #[error("can't listen on {host}:{port}: {source}\nhelp: set HOST or PORT to what is free here")]
    Bind {
        /// The address that was asked for.
        host: String,
        /// The port that was asked for.
        port: u16,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system lets fewer threads start than there have to be.
    #[error(
        "serving with {threads} threads that compute takes {needed} threads more, and only {available} can be \
         started\nhelp: lower OMP_NUM_THREADS, or raise the limit (docker's --pids-limit, ulimit -u)"
    )]
    TooFewThreads {
        /// Threads that compute.
        threads: usize,
        /// Threads in all, beside the first.
        needed: usize,
        /// How many there can be.
        available: usize,
    },
    /// The model can't be loaded.
    #[error("can't load the model: {0}")]
    Load(#[source] Box<dyn Error + Send + Sync>),
    /// A thread can't be started.
    #[error("can't start a thread: {0}")]
    Threads(#[source] std::io::Error),
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All that was asked is answered.
    Graceful,
    /// It was cut short, for this reason. Something may still compute.
    Forced(&'static str),
}

/// Threads that answer requests, or cut their texts to tokens; so many of each, beside those that compute.
#[must_use]
pub fn server_threads(threads: usize) -> usize {
    (threads / 4).clamp(2, 8)
}

/// What serves beside so many threads that compute. All of its threads are started here: one that the system
/// refuses later would end a request, or all of them.
///
/// # Errors
/// The system lets fewer threads start, or says why there can't be a server.
pub fn runtime(threads: usize) -> Result<Runtime, ServeError> {
    let each = server_threads(threads);
    // These, and the model's own.
    let needed = 2 * each + threads;
    let available = process::available_threads(needed);
    if available < needed {
        return Err(ServeError::TooFewThreads {
            threads,
            needed,
            available,
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(each)
        .max_blocking_threads(each)
        // Not to be started again.
        .thread_keep_alive(Duration::from_secs(u64::from(u32::MAX)))
        .enable_all()
        .build()
        .map_err(ServeError::Threads)?;
    let started = Arc::new(Barrier::new(each + 1));
    for _ in 0..each {
        let started = Arc::clone(&started);
        runtime.spawn_blocking(move || started.wait());
    }
    started.wait();
    Ok(runtime)
}

/// What HOST and PORT mean here.
///
/// # Errors
/// The system doesn't know the host.
pub fn addresses(serving: &ServingConfig) -> io::Result<Vec<SocketAddr>> {
    // An IPv6 address is written in brackets in a URL, and without here.
    let host = serving.host.trim_start_matches('[').trim_end_matches(']');
    Ok((host, serving.port).to_socket_addrs()?.collect())
}

/// Takes the port, before the model is loaded: if another program has it, that is reported at once.
///
/// # Errors
/// [`ServeError::Bind`].
pub async fn bind(serving: &ServingConfig) -> Result<TcpListener, ServeError> {
    let bind = async || TcpListener::bind(&*addresses(serving)?).await;
    bind().await.map_err(|source| ServeError::Bind {
        host: serving.host.clone(),
        port: serving.port,
        source,
    })
}

/// Serves what `load` brings, until `stop` has a message. Then nobody new is let in, and what was asked is
/// answered within the grace time; a second message ends it at once.
///
/// `load` runs on the thread that computes. Until it's done, `/livez` is fine and `/readyz` isn't.
///
/// # Errors
/// The model can't be loaded, or its thread can't be started.
pub async fn serve<C: Classify>(
    listener: TcpListener,
    options: ServeOptions,
    load: impl FnOnce() -> Result<Loaded<C>, Box<dyn Error + Send + Sync>> + Send + 'static,
    mut stop: mpsc::Receiver<()>,
) -> Result<End, ServeError> {
    // A client may fill half of the queue.
    let per_client = options.serving.max_queue.div_ceil(2);
    let limits = RequestLimits {
        text_bytes: options.serving.max_text_bytes,
        texts: per_client,
        body_time: options.connections.body_time,
    };
    let app = Arc::new(App::new(limits, &options));
    let ServeOptions {
        serving,
        compute,
        connections,
    } = options;
    let limits = Limits {
        batch_tokens: serving.max_batch_tokens,
        queue: serving.max_queue,
        per_client,
    };
    let proxies = TrustedProxies::new(serving.trusted_proxies);
    let mut acceptor = Acceptor::new(
        listener,
        api::router(Arc::clone(&app)),
        connections,
        proxies,
    );
    let (pool, mut loading) = Pool::start(load, limits, compute, Arc::clone(&app.metrics))
        .map_err(ServeError::Threads)?;
    let loaded = tokio::select! {
        loaded = &mut loading => loaded
            .expect("the thread sends what comes of it")
            .map_err(ServeError::Load)?,
        Some(()) = stop.recv() => return Ok(End::Forced("the model was still loading")),
        never = acceptor.accept() => match never {},
    };
    app.loaded(Model {
        pool,
        tokenizer: loaded.tokenizer,
        info: loaded.info,
    });
    say("ready");
    tokio::select! {
        Some(()) = stop.recv() => {}
        never = acceptor.accept() => match never {},
    }
    app.drain();
    let answered = acceptor.close();
    tokio::select! {
        biased;
        () = answered => Ok(End::Graceful),
        Some(()) = stop.recv() => Ok(End::Forced("a second signal came")),
        // Clients that stall don't keep it from ending well.
        () = tokio::time::sleep(serving.grace) => Ok(match app.unanswered() {
            0 => End::Graceful,
            _ => End::Forced("GRACE_SECONDS are over"),
        }),
        never = acceptor.accept() => match never {},
    }
}

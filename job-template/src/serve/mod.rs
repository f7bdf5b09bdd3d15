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
mod metrics;
mod openapi;
mod page;
mod places;
mod request;
mod signals;
mod stream;
mod workers;

use std::error::Error;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use self::app::{App, Model};
use self::batcher::Limits;
pub use self::connections::ConnectionLimits;
use self::connections::Door;
use self::request::RequestLimits;
pub use self::signals::signals;
use self::workers::Pool;
pub use self::workers::{Compute, Processor};
use crate::classify::Classify;
use crate::config::ServingConfig;
use crate::tokenize::Tokenizer;

/// A model that can be served.
pub struct Loaded<C> {
    /// Tells how likely each label is.
    pub classifier: C,
    /// The model's own.
    pub tokenizer: Tokenizer,
    /// The labels, in the order of the logits.
    pub labels: Vec<String>,
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

/// Serving can't begin, or didn't end well.
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
    /// The model can't be loaded.
    #[error("can't load the model: {0}")]
    Load(#[source] Box<dyn Error + Send + Sync>),
    /// Threads can't be started.
    #[error("can't start the model's threads: {0}")]
    Threads(#[source] std::io::Error),
    /// A second signal came before all was answered.
    #[error("stopped before all requests were answered")]
    Interrupted,
}

/// Takes the port, before the model is loaded: if another program has it, that is told at once.
///
/// # Errors
/// [`ServeError::Bind`].
pub async fn bind(serving: &ServingConfig) -> Result<TcpListener, ServeError> {
    let (host, port) = (&serving.host, serving.port);
    // An IPv6 address is written in brackets in a URL, and without here.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    TcpListener::bind((bare, port))
        .await
        .map_err(|source| ServeError::Bind {
            host: host.clone(),
            port,
            source,
        })
}

/// Serves what `load` brings, until `stop` has a message. Then, nobody new is let in, what is asked
/// is answered within the grace time, and it's over; a second message ends it at once.
///
/// `load` runs on a thread of its own. Until it's done, `/livez` is fine and `/readyz` isn't.
///
/// # Errors
/// The model can't be loaded, its threads can't be started, or there was a second message.
pub async fn serve<C: Classify>(
    listener: TcpListener,
    options: ServeOptions,
    load: impl FnOnce() -> Result<Loaded<C>, Box<dyn Error + Send + Sync>> + Send + 'static,
    mut stop: mpsc::Receiver<()>,
) -> Result<(), ServeError> {
    let ServeOptions {
        serving,
        compute,
        connections,
    } = options;
    // A client may fill half of the queue.
    let per_client = serving.max_queue.div_ceil(2);
    let app = Arc::new(App::new(RequestLimits {
        text_bytes: serving.max_text_bytes,
        texts: per_client,
        body_time: connections.body_time,
    }));
    let limits = Limits {
        batch_tokens: serving.max_batch_tokens,
        queue: serving.max_queue,
        per_client,
    };
    let mut door = Door::new(listener, api::router(Arc::clone(&app)), connections);
    let mut loading = on_thread(load)?;
    let mut is_loading = true;
    loop {
        tokio::select! {
            loaded = &mut loading, if is_loading => {
                let Loaded { classifier, tokenizer, labels } = loaded
                    .map_err(|_| ServeError::Load("loading it panicked".into()))?
                    .map_err(ServeError::Load)?;
                let metrics = Arc::clone(&app.metrics);
                let pool = Pool::start(classifier, limits, compute, metrics)
                    .map_err(ServeError::Threads)?;
                app.loaded(Model { pool, tokenizer, labels });
                is_loading = false;
            }
            Some(()) = stop.recv() => break,
            never = door.admit() => match never {},
        }
    }
    app.drain();
    let answered = door.close();
    tokio::select! {
        () = answered => Ok(()),
        // Clients that stall don't keep it from ending well.
        () = tokio::time::sleep(serving.grace) => Ok(()),
        Some(()) = stop.recv() => Err(ServeError::Interrupted),
        never = door.admit() => match never {},
    }
}

/// Runs `load` on a thread of its own. The channel is closed if it panics.
fn on_thread<T: Send + 'static>(
    load: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, ServeError> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("loader".to_owned())
        // Who stopped meanwhile doesn't want it.
        .spawn(move || drop(sender.send(load())))
        .map_err(ServeError::Threads)?;
    Ok(receiver)
}

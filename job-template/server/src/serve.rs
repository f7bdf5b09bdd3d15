//! A server from its start to its end.

use std::io;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::app::{App, Model};
use crate::config::ServerConfig;
use crate::connections::Acceptor;
use crate::model::{Classify, Failure, Loaded};
use crate::pool::Pool;
use crate::routes;

/// Serving can't begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The model can't be loaded.
    #[error("can't load the model: {0}")]
    Load(#[source] Failure),
    /// The thread of the model can't be started.
    #[error("can't start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every request in flight was answered.
    Graceful,
    /// It was cut short. Something may still compute, so end the process without waiting for it.
    Forced(ForcedEnd),
}

/// Why serving was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForcedEnd {
    /// It was stopped while the model was being loaded.
    Loading,
    /// It was stopped a second time.
    StoppedTwice,
    /// [`crate::Timeouts::grace`] was over, and a request still had no answer.
    GraceOver,
}

/// Threads that answer requests, or tokenize their texts; so many of each.
fn threads_of_each(threads: usize) -> usize {
    (threads / 4).clamp(2, 8)
}

/// All threads of a server that computes with `threads`, beside the one that calls [`runtime`]: these, and those
/// that read and answer requests and tokenize texts.
#[must_use]
pub fn threads(threads: usize) -> usize {
    threads.max(1) + 2 * threads_of_each(threads)
}

/// The runtime of a server that computes with so many threads. All of its own threads are started here: one that
/// the system refuses later would end a request, or all of them.
///
/// # Errors
/// The system can't do what an event loop needs.
///
/// # Panics
/// The system refuses a thread. Where there is a limit, compare it with [`threads`] first.
pub fn runtime(threads: usize) -> io::Result<Runtime> {
    let each = threads_of_each(threads);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(each)
        .max_blocking_threads(each)
        // Not to be started again.
        .thread_keep_alive(Duration::from_secs(u64::from(u32::MAX)))
        .enable_all()
        .build()?;
    let started = Arc::new(Barrier::new(each + 1));
    for _ in 0..each {
        let started = Arc::clone(&started);
        runtime.spawn_blocking(move || started.wait());
    }
    started.wait();
    Ok(runtime)
}

/// Serves what `load` returns, until `stop` has a message. Then no new request is accepted, and those in flight are
/// answered within the grace time; a second message ends it at once. To drop the sender doesn't stop it.
///
/// `load` runs on the thread that computes. Until it is done, `/livez` is 200 and `/readyz` 503.
///
/// # Errors
/// The model can't be loaded, or its thread can't be started.
pub async fn serve<C: Classify>(
    listener: TcpListener,
    config: ServerConfig,
    load: impl FnOnce() -> Result<Loaded<C>, Failure> + Send + 'static,
    mut stop: mpsc::Receiver<()>,
) -> Result<End, ServeError> {
    let app = Arc::new(App::new(config));
    let config = &app.config;
    let mut acceptor = Acceptor::new(listener, routes::router(Arc::clone(&app)), config);
    let (pool, mut loading) =
        Pool::start(load, config, Arc::clone(&app.metrics)).map_err(ServeError::Thread)?;
    let loaded = tokio::select! {
        loaded = &mut loading => loaded
            .expect("the thread sends what comes of it")
            .map_err(ServeError::Load)?,
        Some(()) = stop.recv() => return Ok(End::Forced(ForcedEnd::Loading)),
        never = acceptor.accept() => match never {},
    };
    app.loaded(Model {
        pool,
        tokenize: loaded.tokenize,
        info: loaded.info,
    });
    tracing::info!("ready");
    tokio::select! {
        Some(()) = stop.recv() => {}
        never = acceptor.accept() => match never {},
    }
    app.drain();
    let answered = acceptor.close();
    tokio::select! {
        biased;
        () = answered => Ok(End::Graceful),
        Some(()) = stop.recv() => Ok(End::Forced(ForcedEnd::StoppedTwice)),
        // Clients that stall don't keep it from ending well.
        () = tokio::time::sleep(config.timeouts.grace) => Ok(match app.unanswered() {
            0 => End::Graceful,
            _ => End::Forced(ForcedEnd::GraceOver),
        }),
        never = acceptor.accept() => match never {},
    }
}

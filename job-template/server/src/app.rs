//! What all requests share: the configuration, the metrics, and the model once it is loaded.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::info::{ComputeInfo, Info, LimitsInfo, ServedModel};
use crate::metrics::Metrics;
use crate::model::{ModelInfo, Tokenize};
use crate::pool::Pool;
use crate::slots::Shortage;

/// A model that answers.
pub(crate) struct Model {
    pub(crate) pool: Pool,
    pub(crate) tokenize: Box<Tokenize>,
    pub(crate) info: ModelInfo,
}

/// What all requests share.
pub(crate) struct App {
    pub(crate) config: ServerConfig,
    pub(crate) metrics: Arc<Metrics>,
    model: OnceLock<Model>,
    /// Held by each request that was read whole and has no answer yet.
    answering: Arc<()>,
    is_draining: AtomicBool,
}

/// The client of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// Whether it connected when the server was already stopping.
    pub(crate) is_late: bool,
    /// Why only probes are answered.
    pub(crate) shortage: Option<Shortage>,
}

impl App {
    pub(crate) fn new(config: ServerConfig) -> Self {
        Self {
            metrics: Arc::new(Metrics::new(config.version)),
            config,
            model: OnceLock::new(),
            answering: Arc::default(),
            is_draining: AtomicBool::new(false),
        }
    }

    /// From now on, requests are answered.
    pub(crate) fn loaded(&self, model: Model) {
        assert!(self.model.set(model).is_ok(), "a model is loaded once");
    }

    /// From now on, no new client is welcome.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Counts a request as unanswered until the result is dropped.
    pub(crate) fn answering(&self) -> Arc<()> {
        Arc::clone(&self.answering)
    }

    /// Requests that were read whole, and have no answer yet.
    pub(crate) fn unanswered(&self) -> usize {
        Arc::strong_count(&self.answering) - 1
    }

    /// Texts that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.model.get().map_or(0, |model| model.pool.waiting())
    }

    /// Fine, or why only a new start helps.
    pub(crate) fn life(&self) -> Result<(), ApiError> {
        match self.model.get() {
            Some(model) if model.pool.is_broken() => Err(broken()),
            Some(model) if model.pool.is_hanging() => Err(ApiError::unavailable(
                "model_hangs",
                "the model doesn't answer any more",
            )),
            _ => Ok(()),
        }
    }

    /// Which model answers, on what, and how much it takes.
    pub(crate) fn info(&self) -> Result<Info, ApiError> {
        let info = &self.model()?.info;
        let limits = self.config.limits;
        Ok(Info {
            version: self.config.version,
            model: ServedModel {
                sha256: info.sha256.clone(),
                labels: info.labels.clone(),
            },
            compute: ComputeInfo {
                device: info.device.clone(),
                precision: info.precision,
                threads: self.config.compute.processor.threads(),
            },
            limits: LimitsInfo {
                text_bytes: limits.text_bytes,
                text_tokens: info.text_tokens,
                request_texts: limits.client_texts(),
                request_bytes: limits.body_bytes(),
                queue_texts: limits.queue_texts,
                client_texts: limits.client_texts(),
                connections: limits.connections,
            },
        })
    }

    /// The labels, once they are known.
    pub(crate) fn labels(&self) -> &[String] {
        self.model
            .get()
            .map_or(&[], |model| model.info.labels.as_slice())
    }

    /// The model, if it can answer.
    pub(crate) fn model(&self) -> Result<&Model, ApiError> {
        match self.model.get() {
            Some(model) if model.pool.is_broken() => Err(broken()),
            Some(model) => Ok(model),
            None => Err(ApiError::unavailable(
                "loading",
                "the model is still being loaded",
            )),
        }
    }
}

fn broken() -> ApiError {
    ApiError::unavailable("model_broken", "the model fails with every text")
}

/// The error of a server that is stopping.
pub(crate) fn draining() -> ApiError {
    ApiError::unavailable("draining", "the server is ending")
}

//! What `GET /info` answers.

use serde::Serialize;
use utoipa::ToSchema;

/// Which model answers, on what, and how much it takes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Info {
    /// The program's version.
    #[schema(example = "0.1.0")]
    pub(crate) version: &'static str,
    pub(crate) model: ServedModel,
    pub(crate) compute: ComputeInfo,
    pub(crate) limits: LimitsInfo,
}

/// The model that answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServedModel {
    /// SHA-256 of its weights' file.
    pub(crate) sha256: String,
    /// The labels that an answer has.
    #[schema(example = json!(["negative", "positive"]))]
    pub(crate) labels: Vec<String>,
}

/// What it computes on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ComputeInfo {
    #[schema(example = "cpu")]
    pub(crate) device: String,
    #[schema(example = "fp32")]
    pub(crate) precision: &'static str,
    /// Threads that compute.
    pub(crate) threads: usize,
}

/// How much is taken. What is more is refused, but for tokens: a longer text is cut, and marked so.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct LimitsInfo {
    /// Bytes of a text.
    pub(crate) text_bytes: usize,
    /// Tokens of a text that are read.
    pub(crate) text_tokens: usize,
    /// Texts of a request.
    pub(crate) request_texts: usize,
    /// Bytes of a request's body.
    pub(crate) request_bytes: usize,
    /// Texts that may wait, of all clients.
    pub(crate) queue_texts: usize,
    /// Texts of one client that may wait.
    pub(crate) client_texts: usize,
    /// Connections at a time, of all clients.
    pub(crate) connections: usize,
}

//! Every error that a client can get, in one JSON form: axum's and hyper's own are plain text, or empty.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::batcher::Refusal;
use crate::request_id;
use crate::slots::Shortage;

/// What every error looks like.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorDetail {
    /// A word for programs; it doesn't change.
    #[schema(example = "empty_text")]
    code: &'static str,
    /// A sentence for people.
    #[schema(example = "the text is empty")]
    message: String,
    /// The part of the request that is wrong, if it is one.
    #[schema(example = "texts[3]")]
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The request's id, by which the server's log has it, if the server is at fault.
    #[schema(example = "5f0c2a7be1d94c38")]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// A request that gets no answer but this.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    detail: ErrorDetail,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            detail: ErrorDetail {
                code,
                message: message.into(),
                field: None,
                id: None,
            },
        }
    }

    /// Says which part of the request is wrong.
    pub(crate) fn of(mut self, field: impl Into<String>) -> Self {
        self.detail.field = Some(field.into());
        self
    }

    /// The request can be read, and means nothing.
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// The error of a connection that has no slot of its own.
    pub(crate) fn shortage(shortage: Shortage) -> Self {
        let (status, message) = match shortage {
            Shortage::OfServer => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too many connections are open",
            ),
            Shortage::OfClient => (
                StatusCode::TOO_MANY_REQUESTS,
                "too many of your connections are open",
            ),
        };
        Self::new(status, "too_many_connections", message)
    }

    /// The error of an answer that has none: of its status alone.
    pub(crate) fn of_status(status: StatusCode, message: impl Into<String>) -> Self {
        let code = match status {
            StatusCode::NOT_FOUND => "unknown_path",
            StatusCode::METHOD_NOT_ALLOWED => "wrong_method",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "head_too_large",
            status if status.is_client_error() => "bad_request",
            _ => "server_error",
        };
        Self::new(status, code, message)
    }

    /// The error that hyper answers with when it can't read a request's head: `answer` has a status, and no
    /// body. None if it is another answer.
    pub(crate) fn of_head(answer: &[u8]) -> Option<Self> {
        let digits = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
        let status = StatusCode::from_bytes(digits).ok()?;
        let message = match status {
            StatusCode::BAD_REQUEST => {
                "the request's first line or one of its headers is not HTTP/1.1"
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                "the request's head has more than 64 KiB, or more than 100 headers"
            }
            _ => return None,
        };
        Some(Self::of_status(status, message))
    }

    /// The whole answer, where there is no request that it could be the response of.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = serde_json::json!({ "error": self.detail }).to_string();
        format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            self.status,
            body.len()
        )
        .into_bytes()
    }

    /// The server is temporarily unavailable.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// The model failed. The log says so, too, by the same id.
    pub(crate) fn model(message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "model_error", message);
        let id = request_id::current();
        tracing::error!(request_id = id, "{}", error.detail.message);
        error.detail.id = Some(id);
        error
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match refusal {
            Refusal::TooMany { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_texts"),
            Refusal::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "text_too_long"),
            Refusal::Full => (StatusCode::SERVICE_UNAVAILABLE, "queue_full"),
            Refusal::OverShare => (StatusCode::TOO_MANY_REQUESTS, "over_your_share"),
        };
        Self::new(status, code, refusal.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.detail })).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // The rest of the body isn't read, so nothing can follow it.
            StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

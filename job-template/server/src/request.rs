//! From a request to the texts that it asks about, with everything that can be wrong. An extractor with a derived
//! type would name neither the field nor the list's index.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{Query, Request};
use axum::http::{StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

use crate::config::{Limits, ServerConfig};
use crate::error::ApiError;
use crate::slots::ConnState;

/// What a request asks about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Texts {
    /// One text, to be answered by an object.
    One(String),
    /// Texts, to be answered by a list.
    Many(Vec<String>),
}

/// The body of `POST /inference`: `{"text": …}` or `{"texts": […]}`.
pub(crate) async fn read_body(request: Request, config: &ServerConfig) -> Result<Texts, ApiError> {
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding != "identity") {
        let message = "the body must not be compressed";
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "encoded_body",
            message,
        ));
    }
    let (limits, body_time) = (config.limits, config.timeouts.body);
    let most = limits.body_bytes();
    let too_large = || {
        let message = format!("the body is larger than {most} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let state = request.extensions().get::<Arc<ConnState>>().cloned();
    let body = request.into_body();
    // What says that it's too large isn't even begun.
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let read = tokio::time::timeout(body_time, Limited::new(body, most).collect());
    let bytes = match read.await {
        Ok(Ok(collected)) => {
            if let Some(state) = state {
                state.asked();
            }
            collected.to_bytes()
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(error)) => {
            let message = format!("the body can't be read: {error}");
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "unreadable_body",
                message,
            ));
        }
        Err(_) => {
            let message = format!("the body didn't come within {body_time:?}");
            return Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timeout",
                message,
            ));
        }
    };
    parse(&bytes, limits)
}

/// The `sentence` of `GET /predict?sentence=…`.
pub(crate) fn read_query(uri: &Uri, limits: Limits) -> Result<String, ApiError> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, "bad_query", error.body_text()))?;
    let mut sentences = pairs.into_iter().filter(|(name, _)| name == "sentence");
    match (sentences.next(), sentences.next()) {
        (Some((_, sentence)), None) => checked(sentence, "sentence", limits),
        (None, _) => {
            Err(ApiError::invalid("missing_field", "`sentence` is missing").of("sentence"))
        }
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("wrong_type", "`sentence` is given twice").of("sentence"))
        }
    }
}

fn parse(bytes: &[u8], limits: Limits) -> Result<Texts, ApiError> {
    // serde_json's error has the line and the column.
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "bad_json",
            format!("not JSON: {error}"),
        )
    })?;
    let Value::Object(mut fields) = value else {
        return Err(ApiError::invalid("wrong_type", "the body is not an object"));
    };
    let (text, texts) = (fields.remove("text"), fields.remove("texts"));
    refuse_unknown(&fields)?;
    match (text, texts) {
        (Some(text), None) => string(text, "text", limits).map(Texts::One),
        (None, Some(Value::Array(texts))) => {
            if texts.is_empty() {
                return Err(ApiError::invalid("empty_list", "`texts` is empty").of("texts"));
            }
            if texts.len() > limits.client_texts() {
                let message = format!(
                    "{} texts are more than {}",
                    texts.len(),
                    limits.client_texts()
                );
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                return Err(ApiError::new(status, "too_many_texts", message).of("texts"));
            }
            let texts = texts.into_iter().enumerate();
            texts
                .map(|(index, text)| string(text, &format!("texts[{index}]"), limits))
                .collect::<Result<_, _>>()
                .map(Texts::Many)
        }
        (None, Some(_)) => {
            Err(ApiError::invalid("wrong_type", "`texts` is not a list").of("texts"))
        }
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("wrong_type", "give `text` or `texts`, not both").of("texts"))
        }
        (None, None) => {
            Err(ApiError::invalid("missing_field", "`text` or `texts` is missing").of("text"))
        }
    }
}

fn refuse_unknown(rest: &Map<String, Value>) -> Result<(), ApiError> {
    match rest.keys().next() {
        Some(field) => {
            let message = format!("`{field}` is not known; give `text` or `texts`");
            Err(ApiError::invalid("unknown_field", message).of(field))
        }
        None => Ok(()),
    }
}

fn string(value: Value, field: &str, limits: Limits) -> Result<String, ApiError> {
    match value {
        Value::String(text) => checked(text, field, limits),
        _ => Err(ApiError::invalid("wrong_type", format!("`{field}` is not a string")).of(field)),
    }
}

fn checked(text: String, field: &str, limits: Limits) -> Result<String, ApiError> {
    if text.len() > limits.text_bytes {
        let message = format!(
            "`{field}` has {} bytes, and a text at most {}",
            text.len(),
            limits.text_bytes
        );
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        return Err(ApiError::new(status, "text_too_long", message).of(field));
    }
    if text.trim().is_empty() {
        return Err(ApiError::invalid("empty_text", format!("`{field}` is empty")).of(field));
    }
    Ok(text)
}

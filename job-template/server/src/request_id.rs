//! The id of a request, by which a client and the log name it.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use tower_http::request_id::{MakeRequestId, RequestId};

/// The header that has it, in a request and in its answer.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an id that a client may give.
const MOST_CHARACTERS: usize = 128;

tokio::task_local! {
    static CURRENT: String;
}

/// Makes ids for requests that have none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewId;

impl MakeRequestId for NewId {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        HeaderValue::from_str(&new()).ok().map(RequestId::new)
    }
}

/// An id that no other request has.
pub(crate) fn new() -> String {
    // A hasher's keys are random, and others for each.
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Forgets an id that isn't fit for a log.
pub(crate) async fn drop_unfit(mut request: Request) -> Request {
    let is_fit = |id: &HeaderValue| {
        let id = id.as_bytes();
        (1..=MOST_CHARACTERS).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
    };
    if !request.headers().get(HEADER).is_none_or(is_fit) {
        request.headers_mut().remove(HEADER);
    }
    request
}

/// The id of a request that has one.
pub(crate) fn of(request: &Request) -> String {
    let id = request.headers().get(HEADER);
    id.and_then(|id| id.to_str().ok())
        .map_or_else(new, str::to_owned)
}

/// Answers a request, which has this id as the current one meanwhile.
pub(crate) async fn scope<T>(id: String, answer: impl Future<Output = T>) -> T {
    CURRENT.scope(id, answer).await
}

/// The id of the request that is being answered.
pub(crate) fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_else(|_| new())
}

//! The routes.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde::Serialize;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::answer::{Answer, Answers, Predicted, Prediction};
use crate::app::{App, Peer, draining};
use crate::error::{ApiError, ErrorBody};
use crate::info::Info;
use crate::model::Tokens;
use crate::openapi::{self, InferenceBody};
use crate::page;
use crate::request::{Texts, read_body, read_query};
use crate::request_id::{self, NewId};

/// The target of the `tracing` event of each request but successful probes, so that a program can leave it out.
pub const REQUEST_LOG: &str = "text_server::request";

/// Bytes of a path that are logged.
const LOGGED_PATH: usize = 256;

/// What is answered whatever the load.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Everything that can be asked for.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (routes, document) = documented(app.config.version);
    routes
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(refuse_surplus))
        .layer(middleware::map_response(give_form))
        .layer(PropagateRequestIdLayer::new(request_id::HEADER))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), measure))
        .layer(SetRequestIdLayer::new(request_id::HEADER, NewId))
        .layer(middleware::map_request(request_id::drop_unfit))
        .with_state(app)
}

/// The routes, and the document that describes them: a route that isn't described can't be added.
fn documented(version: &str) -> (Router<Arc<App>>, OpenApi) {
    OpenApiRouter::with_openapi(openapi::document(version))
        .routes(routes!(page::page))
        .routes(routes!(inference))
        .routes(routes!(predict))
        .routes(routes!(info))
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .split_for_parts()
}

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    #[schema(example = "ready")]
    status: &'static str,
}

/// How likely each label is, for a text or for several.
#[utoipa::path(
    post,
    path = "/inference",
    tag = "model",
    request_body = InferenceBody,
    responses(
        (status = 200, description = "An answer, or a list of answers for a list", body = Answers),
        (status = 400, description = "Not JSON", body = ErrorBody),
        (status = 408, description = "The body comes too slowly", body = ErrorBody),
        (status = 413, description = "More or longer texts than are taken", body = ErrorBody),
        (status = 415, description = "The body is compressed", body = ErrorBody),
        (status = 422, description = "JSON that means nothing; the field is named", body = ErrorBody),
        (status = 429, description = "Too many of your texts wait", body = ErrorBody),
        (status = 500, description = "The model failed", body = ErrorBody),
        (status = 503, description = "Full, loading, or ending", body = ErrorBody),
    )
)]
async fn inference(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Json<Answers>, ApiError> {
    let answers = match read_body(request, &app.config).await? {
        Texts::One(text) => {
            let mut answers = classify(&app, peer, vec![text], "text").await?;
            Answers::One(answers.pop().expect("a text has an answer"))
        }
        Texts::Many(texts) => Answers::Many(classify(&app, peer, texts, "texts").await?),
    };
    Ok(Json(answers))
}

/// How likely each label is, for the sentence of an address.
#[utoipa::path(
    get,
    path = "/predict",
    tag = "model",
    params((
        "sentence" = String,
        Query,
        description = "The text",
        min_length = 1,
        pattern = r"\S",
        example = "What a film!",
    )),
    responses(
        (status = 200, description = "The answer", body = Prediction),
        (status = 400, description = "The query can't be read", body = ErrorBody),
        (status = 413, description = "The sentence is too long", body = ErrorBody),
        (status = 422, description = "There is no sentence", body = ErrorBody),
        (status = 429, description = "Too many of your texts wait", body = ErrorBody),
        (status = 500, description = "The model failed", body = ErrorBody),
        (status = 503, description = "Full, loading, or ending", body = ErrorBody),
    )
)]
async fn predict(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
) -> Result<Json<Prediction>, ApiError> {
    let began = Instant::now();
    let sentence = read_query(&uri, app.config.limits)?;
    let mut answers = classify(&app, peer, vec![sentence.clone()], "sentence").await?;
    let answer = answers.pop().expect("a text has an answer");
    let time_taken = began.elapsed().as_secs_f64();
    Ok(Json(Prediction {
        response: Predicted {
            answer,
            sentence,
            time_taken,
        },
    }))
}

/// Which model answers, on what, and how much it takes.
#[utoipa::path(
    get,
    path = "/info",
    tag = "model",
    responses(
        (status = 200, description = "The model and the limits", body = Info),
        (status = 503, description = "The model is still being loaded, or broken", body = ErrorBody),
    )
)]
async fn info(State(app): State<Arc<App>>) -> Result<Json<Info>, ApiError> {
    Ok(Json(app.info()?))
}

/// Whether the program is alive. Not so if its model fails again and again, or hangs.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "health",
    responses(
        (status = 200, description = "Alive", body = Health),
        (status = 503, description = "Only a new start helps", body = ErrorBody),
    )
)]
async fn livez(State(app): State<Arc<App>>) -> Result<Json<Health>, ApiError> {
    app.life()?;
    Ok(Json(Health { status: "live" }))
}

/// Whether requests are welcome.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, description = "Ready", body = Health),
        (status = 503, description = "Loading, ending, or only a new start helps", body = ErrorBody),
    )
)]
async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Health>, ApiError> {
    if app.is_draining() {
        return Err(draining());
    }
    app.life()?;
    app.model()?;
    Ok(Json(Health { status: "ready" }))
}

/// What the server counted, in Prometheus's text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((status = 200, description = "The counts", body = String, content_type = "text/plain"))
)]
async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, app.metrics.render(app.waiting()))
}

/// The answers to texts, which are the request's `field`.
async fn classify(
    app: &Arc<App>,
    peer: Peer,
    texts: Vec<String>,
    field: &str,
) -> Result<Vec<Answer>, ApiError> {
    let began = Instant::now();
    let _answering = app.answering();
    if peer.is_late {
        return Err(draining());
    }
    // What has to be refused is refused before the work of tokenizing.
    app.model()?.pool.check(peer.address, texts.len())?;
    let tokens = tokenize(Arc::clone(app), texts).await?;
    if let Some(index) = tokens.iter().position(|tokens| tokens.ids.is_empty()) {
        let field = match field {
            "texts" => format!("texts[{index}]"),
            _ => field.to_owned(),
        };
        let message =
            format!("`{field}` has nothing that the model reads: the tokenizer finds no token");
        return Err(ApiError::invalid("no_tokens", message).of(field));
    }
    let model = app.model()?;
    let (ids, cuts): (Vec<_>, Vec<_>) = tokens
        .into_iter()
        .map(|tokens| (tokens.ids, tokens.is_truncated))
        .unzip();
    let outcomes = model.pool.submit(peer.address, ids)?;
    let mut answers = Vec::with_capacity(outcomes.len());
    for (outcome, is_truncated) in outcomes.into_iter().zip(cuts) {
        let probabilities = outcome
            .await
            .map_err(|_| ApiError::model("the model failed to compute this text"))?
            .map_err(|_| ApiError::model("the model's answer is not a number"))?;
        let labels = model
            .info
            .labels
            .iter()
            .cloned()
            .zip(probabilities)
            .collect();
        answers.push(Answer {
            labels,
            is_truncated,
        });
    }
    app.metrics.inferred(began.elapsed());
    Ok(answers)
}

/// Tokenizes texts on a thread where that holds up no other request.
async fn tokenize(app: Arc<App>, texts: Vec<String>) -> Result<Vec<Tokens>, ApiError> {
    tokio::task::spawn_blocking(move || {
        let tokenize = &app.model()?.tokenize;
        texts
            .iter()
            .map(|text| tokenize(text))
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::model(format!("the tokenizer failed: {error}")))
    })
    .await
    .map_err(|_| ApiError::model("the tokenizer panicked"))?
}

/// Answers nothing but probes on a connection beyond the limit.
async fn refuse_surplus(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    match peer.and_then(|peer| peer.shortage) {
        Some(shortage) if !PROBES.contains(&request.uri().path()) => {
            ApiError::shortage(shortage).into_response()
        }
        _ => next.run(request).await,
    }
}

/// Gives the form of every error to one that hasn't got it: the documentation has its own.
async fn give_form(uri: Uri, response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !is_error || kind.is_some_and(|kind| kind == "application/json") {
        return response;
    }
    let message = match status {
        StatusCode::NOT_FOUND => return unknown_path(uri).await.into_response(),
        _ => status.canonical_reason().unwrap_or("the request failed"),
    };
    ApiError::of_status(status, message).into_response()
}

async fn unknown_path(uri: Uri) -> ApiError {
    let message = format!("there is no {}; /docs tells what there is", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "unknown_path", message)
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} can't be asked with {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
}

/// Counts a request, also one whose client leaves, and logs it: its path, but not its query, which holds a text.
async fn measure(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let _in_flight = app.metrics.in_flight();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().copied();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let id = request_id::of(&request);
    let response = request_id::scope(id.clone(), next.run(request)).await;
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let (status, took) = (response.status(), began.elapsed());
    app.metrics.answered(route, status.as_u16(), took);
    // Successful probes come all the time, and say nothing.
    if !(PROBES.contains(&route) && status.is_success()) {
        tracing::info!(
            target: REQUEST_LOG,
            request_id = id,
            client = peer.map(|peer| peer.address.to_string()),
            method = method.as_str(),
            path = path.get(..LOGGED_PATH).unwrap_or(&path),
            status = status.as_u16(),
            milliseconds = took.as_secs_f64() * 1e3,
            "request"
        );
    }
    response
}

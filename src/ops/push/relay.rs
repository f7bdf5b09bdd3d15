//! Sends an image's layers in the engine's stead.
//!
//! An engine sends a layer in one piece, and sends all of it again when the link breaks. So it is given a
//! registry on this machine that takes its layers, as it packs them, and passes them on in chunks: what
//! was accepted stays accepted. Nothing gets a name by that. The engine's own push, which comes
//! afterwards, finds the layers there, and is what it always was, with the same digest.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION, RANGE, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::failure::PushFailure;
use super::place::Place;
use crate::engine::docker::{DockerEngine, EngineError};
use crate::engine::registry::{Credentials, RegistryError, Upload};
use crate::event::{Event, Events, Step};
use crate::model::{Digest, ImageRef, Secret};
use crate::plan::push::{Wanted, chunk};

/// The one repository of the registry that the engine is given.
const REPOSITORY: &str = "jobctl-push";
/// The largest manifest that is read, in bytes.
const MOST_BYTES: usize = 4 << 20;
/// How many other repositories a layer is looked for in: as many as an engine tries.
const SIBLINGS: usize = 4;
/// What docker calls a digest, in headers.
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Sends the layers of an image that its registry does not have. Where that can't be done in this way,
/// nothing is done.
///
/// # Errors
///
/// The registry does not take them.
pub(super) async fn send_layers(
    engine: &DockerEngine,
    place: &Place,
    wanted: &Wanted,
    step: &Step,
    events: &Events,
) -> Result<(), PushFailure> {
    match relayed(engine, place, wanted, step, events).await {
        Ok(()) => Ok(()),
        Err(Stop::Failed(error)) => Err(error.into()),
        Err(Stop::Refused(error)) => {
            let name = &wanted.name;
            let note = format!("push {name}: {error}; the engine pushes without chunks");
            events.send(Event::Note(note));
            Ok(())
        }
        Err(Stop::Unfit(why)) => {
            tracing::info!("the engine alone pushes {}: {why}", wanted.name);
            Ok(())
        }
    }
}

/// Takes the names from images that stand for an engine's registry which is no more.
///
/// # Errors
///
/// The engine can't be used.
pub async fn forget_relays(engine: &DockerEngine) -> Result<(), EngineError> {
    let pattern = format!("127.0.0.1:*/{REPOSITORY}");
    for image in engine.images_named(vec![pattern]).await? {
        for name in image.tags {
            let port = name
                .strip_prefix("127.0.0.1:")
                .and_then(|rest| rest.split_once(&format!("/{REPOSITORY}:")))
                .and_then(|(port, _)| port.parse::<u16>().ok());
            let Some(port) = port else { continue };
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            if connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                engine.remove_image(&name).await?;
            }
        }
    }
    Ok(())
}

/// Why layers are not sent.
enum Stop {
    /// The engine can't be had push in this way.
    Unfit(String),
    /// The registry does not take them in this way.
    Refused(RegistryError),
    /// The registry does not take them.
    Failed(RegistryError),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Unfit(error.to_string())
    }
}

impl From<RegistryError> for Stop {
    fn from(error: RegistryError) -> Self {
        match error {
            // Some take no chunks, and say so in many ways.
            RegistryError::Refused { .. } | RegistryError::Busy { .. } => Self::Refused(error),
            error => Self::Failed(error),
        }
    }
}

async fn relayed(
    engine: &DockerEngine,
    place: &Place,
    wanted: &Wanted,
    step: &Step,
    events: &Events,
) -> Result<(), Stop> {
    let unfit = |error: std::io::Error| Stop::Unfit(error.to_string());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(unfit)?;
    let port = listener.local_addr().map_err(unfit)?.port();
    let tag = wanted.name.tag().map_or("latest", |tag| tag.as_str());
    let name: ImageRef = format!("127.0.0.1:{port}/{REPOSITORY}:{tag}")
        .parse()
        .map_err(|_| Stop::Unfit("its tag can't be kept".to_owned()))?;
    // Nobody else on this machine may push with the user's rights.
    let credentials = Credentials {
        user: Some("jobctl".to_owned()),
        secret: Secret::new(Uuid::new_v4().to_string()),
        origin: "the push itself".to_owned(),
    };
    let relay = Relay {
        place,
        image: &wanted.name,
        siblings: siblings(engine, &wanted.name).await?,
        events,
        authorization: credentials.basic(),
        uploads: Mutex::default(),
        begun: AtomicU64::new(0),
    };
    engine.tag(&wanted.id, &name).await?;
    let pushed = tokio::select! {
        pushed = engine.push(&name, Some(&credentials), None, step) => pushed.map_err(Stop::from),
        stop = relay.serve(&listener) => Err(stop),
    };
    drop(listener);
    forget_relays(engine).await?;
    pushed.map(|_| ())
}

/// The other repositories of the same registry that the engine knows: a registry need not be sent what it
/// has in one of them.
async fn siblings(engine: &DockerEngine, image: &ImageRef) -> Result<Vec<ImageRef>, EngineError> {
    let canonical = image.canonical();
    let mut siblings: Vec<ImageRef> = Vec::new();
    let known = engine.images().await?;
    for text in known.iter().flat_map(|image| &image.repo_digests) {
        let Ok(known) = text.parse::<ImageRef>() else {
            continue;
        };
        let known = known.canonical();
        let is_other = known.domain() == canonical.domain() && known.path() != canonical.path();
        if is_other && siblings.iter().all(|other| other.path() != known.path()) {
            siblings.push(known);
        }
    }
    siblings.truncate(SIBLINGS);
    Ok(siblings)
}

/// A registry for one push of one engine.
struct Relay<'a> {
    place: &'a Place,
    image: &'a ImageRef,
    siblings: Vec<ImageRef>,
    events: &'a Events,
    /// What the engine shows.
    authorization: Secret,
    /// The layers that are not all there, by what they are called here.
    uploads: Mutex<HashMap<String, Upload>>,
    begun: AtomicU64,
}

/// What keeps a question from its answer.
enum Trouble {
    /// The layer has to be sent from its beginning.
    Lost,
    /// The engine stopped sending.
    Gone,
    /// There is no such thing, as far as the engine is concerned.
    Unknown,
    /// The registry does not take it.
    Registry(RegistryError),
}

impl From<RegistryError> for Trouble {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

type Answer = Response<Full<Bytes>>;

impl Relay<'_> {
    /// Serves until the registry does not take what is sent.
    async fn serve(&self, listener: &TcpListener) -> Stop {
        let (stop, mut stopped) = mpsc::unbounded_channel();
        let service = service_fn(|request| {
            let stop = stop.clone();
            async move { Ok::<_, Infallible>(self.answer(request, &stop).await) }
        });
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let stream = TokioIo::new(stream);
                        connections.push(http1::Builder::new().serve_connection(stream, &service));
                    }
                    Err(error) => return Stop::Unfit(error.to_string()),
                },
                // The engine tells of a connection that broke.
                Some(_) = connections.next() => {}
                Some(error) = stopped.recv() => return Stop::from(error),
            }
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        stop: &mpsc::UnboundedSender<RegistryError>,
    ) -> Answer {
        let shown = request.headers().get(AUTHORIZATION);
        if shown.is_none_or(|shown| shown.as_bytes() != self.authorization.expose().as_bytes()) {
            let mut answer = refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
            let basic = "Basic realm=\"jobctl\"".parse();
            let basic = basic.expect("a constant is fit for headers");
            answer.headers_mut().insert(WWW_AUTHENTICATE, basic);
            return answer;
        }
        match self.asked(request).await {
            Ok(answer) => answer,
            Err(Trouble::Unknown) => refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            // An engine takes this for a reason to send the layer again.
            Err(Trouble::Lost | Trouble::Gone) => {
                refusal(StatusCode::NOT_FOUND, "BLOB_UPLOAD_INVALID")
            }
            Err(Trouble::Registry(error)) => {
                // The one who waits for it stops the engine.
                let _ = stop.send(error);
                refusal(StatusCode::FORBIDDEN, "DENIED")
            }
        }
    }

    /// What an engine asks of a registry while it pushes.
    async fn asked(&self, request: Request<Incoming>) -> Result<Answer, Trouble> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        if path.trim_end_matches('/') == "/v2" {
            return Ok(answer(StatusCode::OK, &[]));
        }
        let inner = path.strip_prefix("/v2/").and_then(|path| {
            let path = path.strip_prefix(REPOSITORY)?;
            path.strip_prefix('/')
        });
        let inner = inner.ok_or(Trouble::Unknown)?;
        let (kind, what) = inner.split_once('/').ok_or(Trouble::Unknown)?;
        let digest = head.uri.query().and_then(digest);
        match (kind, &head.method, what.strip_prefix("uploads/")) {
            ("blobs", &Method::POST, Some("")) => self.begin().await,
            ("blobs", &Method::PATCH, Some(id)) => {
                let upload = self.take(id)?;
                let upload = self.receive(upload, body).await?;
                let accepted = upload.accepted();
                self.keep(id, upload);
                Ok(goes_on(id, accepted))
            }
            ("blobs", &Method::PUT, Some(id)) => {
                let upload = self.take(id)?;
                let upload = self.receive(upload, body).await?;
                self.finish(&upload, &digest.ok_or(Trouble::Unknown)?).await
            }
            ("blobs", &Method::HEAD, None) => self.blob(what).await,
            ("manifests", &Method::PUT, None) => manifest(body).await,
            _ => Err(Trouble::Unknown),
        }
    }

    /// Whether the registry has a layer, in this repository or in another.
    async fn blob(&self, digest: &str) -> Result<Answer, Trouble> {
        let mut size = self.size_of(digest).await?;
        for sibling in &self.siblings {
            if size.is_some() {
                break;
            }
            let mounting = self.place.registry.mount(self.image, digest, sibling);
            // Some let one see less of the others.
            if mounting.await.unwrap_or(false) {
                size = self.size_of(digest).await?;
            }
        }
        let size = size.ok_or(Trouble::Unknown)?;
        let headers = [
            (CONTENT_LENGTH, size.to_string()),
            (DIGEST, digest.to_owned()),
        ];
        Ok(answer(StatusCode::OK, &headers))
    }

    async fn size_of(&self, digest: &str) -> Result<Option<u64>, RegistryError> {
        let ask = async || self.place.registry.blob(self.image, digest).await;
        self.place.again(self.image, self.events, ask).await
    }

    async fn begin(&self) -> Result<Answer, Trouble> {
        let ask = async || self.place.registry.begin(self.image).await;
        let upload = self.place.again(self.image, self.events, ask).await?;
        let id = self.begun.fetch_add(1, Ordering::Relaxed).to_string();
        self.keep(&id, upload);
        Ok(goes_on(&id, 0))
    }

    /// Passes on what the engine sends of a layer.
    async fn receive(&self, mut upload: Upload, mut body: Incoming) -> Result<Upload, Trouble> {
        let mut pending = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                self.place.registry.abandon(self.image, &upload).await;
                return Err(Trouble::Gone);
            };
            if let Ok(part) = frame.into_data() {
                pending.extend_from_slice(&part);
            }
            loop {
                let length = chunk(upload.accepted(), upload.least_chunk());
                if pending.len() < length {
                    break;
                }
                let part = pending.split_to(length).freeze();
                self.send(&mut upload, part).await?;
            }
        }
        if !pending.is_empty() {
            self.send(&mut upload, pending.freeze()).await?;
        }
        Ok(upload)
    }

    /// Sends a chunk, from where the registry has it when the link breaks.
    async fn send(&self, upload: &mut Upload, chunk: Bytes) -> Result<(), Trouble> {
        let registry = &self.place.registry;
        let begin = upload.accepted();
        let end = begin + chunk.len() as u64;
        let (mut is_broken, mut was_broken) = (false, false);
        while upload.accepted() != end {
            let ask = async || {
                if is_broken {
                    was_broken = true;
                    registry.look_up(self.image, upload).await?;
                }
                is_broken = true;
                let known = upload.accepted().checked_sub(begin);
                let known = known.and_then(|known| usize::try_from(known).ok());
                match known.filter(|known| *known < chunk.len()) {
                    Some(known) => {
                        let rest = chunk.slice(known..);
                        registry.append(self.image, upload, rest).await?;
                        is_broken = false;
                        Ok(())
                    }
                    None => Ok(()),
                }
            };
            match self.place.again(self.image, self.events, ask).await {
                Ok(()) if (begin..=end).contains(&upload.accepted()) => {}
                Err(error) if !(was_broken && matches!(error, RegistryError::Refused { .. })) => {
                    return Err(error.into());
                }
                Ok(()) | Err(_) => {
                    self.events.send(Event::Note(format!(
                        "push {}: the registry has dropped a layer when the link broke: it is sent again",
                        self.image
                    )));
                    return Err(Trouble::Lost);
                }
            }
        }
        Ok(())
    }

    async fn finish(&self, upload: &Upload, digest: &str) -> Result<Answer, Trouble> {
        let registry = &self.place.registry;
        let ask = async || registry.finish(self.image, upload, digest).await;
        let finished = self.place.again(self.image, self.events, ask).await;
        if let Err(error) = finished {
            // It may have been told, and only its answer lost.
            let is_refused = matches!(error, RegistryError::Refused { .. });
            if !is_refused || registry.blob(self.image, digest).await?.is_none() {
                return Err(error.into());
            }
        }
        let place = format!("/v2/{REPOSITORY}/blobs/{digest}");
        let headers = [(LOCATION, place), (DIGEST, digest.to_owned())];
        Ok(answer(StatusCode::CREATED, &headers))
    }

    fn take(&self, id: &str) -> Result<Upload, Trouble> {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.remove(id).ok_or(Trouble::Unknown)
    }

    fn keep(&self, id: &str, upload: Upload) {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.insert(id.to_owned(), upload);
    }
}

/// Takes a manifest, which nobody needs: the engine pushes it by itself.
async fn manifest(body: Incoming) -> Result<Answer, Trouble> {
    let body = Limited::new(body, MOST_BYTES).collect().await;
    let body = body.map_err(|_| Trouble::Gone)?.to_bytes();
    let digest = Digest::of(&body).to_string();
    let place = format!("/v2/{REPOSITORY}/manifests/{digest}");
    let headers = [(LOCATION, place), (DIGEST, digest)];
    Ok(answer(StatusCode::CREATED, &headers))
}

/// The digest that a query gives.
fn digest(query: &str) -> Option<String> {
    let value = query
        .split('&')
        .find_map(|field| field.strip_prefix("digest="))?;
    let value = percent_encoding::percent_decode_str(value);
    value.decode_utf8().ok().map(Into::into)
}

fn goes_on(id: &str, accepted: u64) -> Answer {
    let place = format!("/v2/{REPOSITORY}/blobs/uploads/{id}");
    let range = format!("0-{}", accepted.saturating_sub(1));
    answer(StatusCode::ACCEPTED, &[(LOCATION, place), (RANGE, range)])
}

fn answer(status: StatusCode, headers: &[(HeaderName, String)]) -> Answer {
    let version = HeaderName::from_static("docker-distribution-api-version");
    let mut answer = Response::builder()
        .status(status)
        .header(version, "registry/2.0");
    for (name, value) in headers {
        answer = answer.header(name, value);
    }
    let answer = answer.body(Full::default());
    answer.unwrap_or_else(|_| refusal(StatusCode::BAD_REQUEST, "UNSUPPORTED"))
}

fn refusal(status: StatusCode, code: &str) -> Answer {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": "" }] });
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = status;
    let json = "application/json".parse();
    let json = json.expect("a constant is fit for headers");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

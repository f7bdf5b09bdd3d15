//! Pushing and pulling images, with the credentials that a registry wants.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde::Deserialize;
use serde_json::json;

use super::client::DockerEngine;
use super::credentials::{CredentialsError, Keyring};
use super::error::EngineError;
use super::request::{Request, escaped, send};
use crate::engine::registry::{Credentials, Registry, RegistryError, Trusted};
use crate::event::{Step, Unit};
use crate::model::{Digest, ImageRef, Platform};

/// How long an engine may say nothing of a push to a registry: a link is stuck then.
pub(crate) const PUSH_SILENCE: Duration = Duration::from_secs(60);
/// How long an engine may try to reach a registry before it says anything.
const REACH: Duration = Duration::from_mins(5);
/// The most bytes of a line that an engine tells progress with.
const LONGEST_LINE: usize = 1 << 20;

/// An image does not have more layers; what an engine tells of more is not shown.
const MOST_LAYERS: usize = 10_000;

/// A line of an engine's progress.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    status: String,
    id: String,
    progress_detail: Detail,
    error: String,
    aux: Option<Aux>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: Option<u64>,
    total: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Aux {
    digest: Option<String>,
}

/// What an engine calls what it does with a layer: while it travels, and when it is there.
const PUSHING: (&str, &str) = ("Pushing", "Pushed");
const PULLING: (&str, &str) = ("Downloading", "Download complete");

/// How much of each layer has travelled.
#[derive(Debug)]
struct Layers {
    words: (&'static str, &'static str),
    known: BTreeMap<String, (u64, u64)>,
}

impl Layers {
    fn new(words: (&'static str, &'static str)) -> Self {
        Self {
            words,
            known: BTreeMap::new(),
        }
    }

    /// Notes what an engine tells; how much has travelled, of how much.
    fn note(&mut self, told: &Told) -> Option<(u64, u64)> {
        let (travels, is_there) = self.words;
        let (current, total) = if told.status == travels {
            let current = told.progress_detail.current?;
            // An engine does not know beforehand how small a layer gets.
            (current, told.progress_detail.total?.max(current))
        } else if told.status == is_there {
            let total = self.known.get(&told.id)?.1;
            (total, total)
        } else {
            return None;
        };
        if self.known.len() < MOST_LAYERS || self.known.contains_key(&told.id) {
            self.known.insert(told.id.clone(), (current, total));
        }
        let sums = self.known.values().fold((0, 0), |(current, total), layer| {
            (current + layer.0, total + layer.1)
        });
        Some(sums)
    }
}

/// The digest that an engine names in words: `latest: digest: sha256:… size: 529` and, from Engine 28 with
/// containerd's image store, `digest: sha256:…` of a push, `Digest: sha256:…` of a pull.
fn digest_in_words(status: &str) -> Option<Digest> {
    let (before, rest) = status
        .split_once("igest: ")
        .filter(|(before, _)| before.ends_with(['d', 'D']))?;
    let is_alone = before.len() == 1 || before[..before.len() - 1].ends_with(": ");
    let word = rest.split_whitespace().next()?;
    is_alone.then(|| word.parse().ok()).flatten()
}

impl DockerEngine {
    /// Pushes an image under its name. The digest that the engine says it has there; `step` is told how
    /// far it is.
    ///
    /// It may say nothing for `silence`. It tries layers again that a registry does not take. When it is
    /// told to stop, by dropping the future, it stops.
    ///
    /// # Errors
    ///
    /// The registry did not take it, in the engine's words ([`EngineError::Failed`]); or the engine can't
    /// be used.
    pub async fn push(
        &self,
        image: &ImageRef,
        credentials: Option<&Credentials>,
        silence: Option<Duration>,
        step: &Step,
    ) -> Result<Option<Digest>, EngineError> {
        let tag = image.tag().map_or("latest", |tag| tag.as_str());
        let name = image.repository();
        let request = Request::post(format!("/images/{}/push", escaped(&name)))
            .query("tag", tag)
            .header("X-Registry-Auth", &header(image, credentials));
        self.transfer(request, Layers::new(PUSHING), silence, step)
            .await
    }

    /// Pulls an image. `step` shows how far it is; whoever began it ends it. The digest that the engine
    /// says the name has in the registry; Podman does not say.
    ///
    /// Where credentials are known for the registry, they are shown to it; where they can't be had, it
    /// is tried without them.
    ///
    /// # Errors
    ///
    /// The registry does not have it, does not let one in, or can't be reached, in the engine's words
    /// ([`EngineError::Failed`], [`EngineError::Refused`]); or the engine can't be used.
    pub async fn pull(
        &self,
        image: &ImageRef,
        platform: Option<&str>,
        step: &Step,
    ) -> Result<Option<Digest>, EngineError> {
        let tag = match (image.digest(), image.tag()) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag.as_str(),
            (None, None) => "latest",
        };
        let (mut credentials, mut missing) = match self.credentials(image).await {
            Ok(credentials) => (credentials, None),
            Err(error) => (None, Some(error.to_string())),
        };
        if credentials.is_some()
            && let Err(error) = self.check_tokens(image).await?
        {
            (credentials, missing) = (None, Some(error.to_string()));
        }
        let request = Request::post("/images/create")
            .query("fromImage", &image.repository())
            .query("tag", tag)
            .query("platform", platform.unwrap_or_default())
            .header("X-Registry-Auth", &header(image, credentials.as_ref()));
        let pulled = self.transfer(request, Layers::new(PULLING), None, step);
        match (pulled.await, missing) {
            (Ok(digest), _) => Ok(digest),
            (Err(EngineError::Failed { message }), Some(missing)) => Err(EngineError::Failed {
                message: format!("{message}; {missing}"),
            }),
            (Err(EngineError::Refused { status, message }), Some(missing)) => {
                let message = format!("{message}; {missing}");
                Err(EngineError::Refused { status, message })
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The platforms that a registry has an image for, as the engine sees it. Nothing where it can't say.
    pub async fn platforms_in_registry(&self, image: &ImageRef) -> Option<Vec<Platform>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Distribution {
            platforms: Vec<Described>,
        }
        #[derive(Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        struct Described {
            os: String,
            architecture: String,
            variant: String,
        }
        let credentials = self.credentials(image).await.ok()?;
        let name = image.canonical().to_string();
        let request = Request::get(format!("/distribution/{name}/json"))
            .header("X-Registry-Auth", &header(image, credentials.as_ref()));
        let address = &self.endpoint().address;
        let answer = send(&self.connector, request, self.deadlines.call).await;
        let text = answer
            .ok()?
            .accepted(address)
            .await
            .ok()?
            .whole(address)
            .await;
        let found: Distribution = serde_json::from_slice(&text.ok()?).ok()?;
        let platforms = found.platforms.into_iter().filter_map(|described| {
            let mut words = vec![described.os, described.architecture];
            words.extend(Some(described.variant).filter(|variant| !variant.is_empty()));
            words.join("/").parse().ok()
        });
        Some(platforms.collect())
    }

    /// Whether the registry of an image has its tokens from where a password may be sent to; see
    /// `Registry::check_tokens`. What an engine on another machine trusts is not known here.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn check_tokens(
        &self,
        image: &ImageRef,
    ) -> Result<Result<(), RegistryError>, EngineError> {
        if !self.is_local() {
            return Ok(Ok(()));
        }
        let trusted = Trusted::of_engine(self.insecure_registries().await?);
        Ok(Registry::of(image, &trusted, None).check_tokens().await)
    }

    /// What is known for the registry of an image.
    async fn credentials(&self, image: &ImageRef) -> Result<Option<Credentials>, CredentialsError> {
        let Some(environment) = self.environment.as_deref() else {
            return Ok(None);
        };
        let canonical = image.canonical();
        let domain = canonical.domain().unwrap_or("docker.io");
        Keyring::open(environment)?.find(domain).await
    }

    /// Has the engine send or fetch layers, and reads what it tells. The digest that it names at the end.
    async fn transfer(
        &self,
        request: Request,
        mut layers: Layers,
        silence: Option<Duration>,
        step: &Step,
    ) -> Result<Option<Digest>, EngineError> {
        let address = &self.endpoint().address;
        let answer = send(&self.connector, request, REACH).await?;
        let mut answer = answer.accepted(address).await?;
        let mut digest = None;
        let mut line = Vec::new();
        loop {
            let part = answer.part(address);
            let part = match silence {
                None => part.await?,
                Some(silence) => match tokio::time::timeout(silence, part).await {
                    Ok(part) => part?,
                    Err(_) => {
                        let seconds = silence.as_secs();
                        let message = format!("i/o timeout: nothing was sent for {seconds} s");
                        return Err(EngineError::Failed { message });
                    }
                },
            };
            let Some(part) = part else {
                return Ok(digest);
            };
            for byte in part {
                if byte != b'\n' && line.len() < LONGEST_LINE {
                    line.push(byte);
                    continue;
                }
                let told: Told = serde_json::from_slice(&line).unwrap_or_default();
                line.clear();
                if !told.error.is_empty() {
                    let message = told.error;
                    return Err(EngineError::Failed { message });
                }
                if let Some((current, total)) = layers.note(&told) {
                    step.progress(current, Some(total), Unit::Bytes);
                }
                let said = told.aux.and_then(|aux| aux.digest);
                let said = said.and_then(|said| said.parse().ok());
                digest = said.or_else(|| digest_in_words(&told.status)).or(digest);
            }
        }
    }

    /// Asks a registry, through the engine, whether it lets a user in. The identity token that stands for
    /// the password from then on, if the registry gives one.
    ///
    /// # Errors
    ///
    /// It does not ([`EngineError::Refused`]); or the engine can't be used.
    pub async fn log_in(
        &self,
        registry: &str,
        credentials: &Credentials,
    ) -> Result<Option<String>, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body {
            identity_token: Option<String>,
        }
        let request = Request::post("/auth").json(&json!({
            "username": credentials.user,
            "password": credentials.secret.expose(),
            "serveraddress": registry,
        }));
        let address = &self.endpoint().address;
        let answer = send(&self.connector, request, self.deadlines.call).await?;
        let text = answer.accepted(address).await?.whole(address).await?;
        let body: Option<Body> = serde_json::from_slice(&text).ok();
        let token = body.and_then(|body| body.identity_token);
        Ok(token.filter(|token| !token.is_empty()))
    }

    /// The registries that may be without TLS, or with anybody's certificate: hosts and networks.
    ///
    /// # Errors
    ///
    /// The engine can't be used.
    pub async fn insecure_registries(&self) -> Result<Vec<String>, EngineError> {
        let info = self.call(self.docker.info()).await?;
        let Some(config) = info.registry_config else {
            return Ok(Vec::new());
        };
        let mut insecure = config.insecure_registry_cidrs.unwrap_or_default();
        let indexes = config.index_configs.unwrap_or_default();
        let indexes = indexes.into_iter();
        insecure.extend(
            indexes.filter_map(|(host, index)| (index.secure == Some(false)).then_some(host)),
        );
        Ok(insecure)
    }
}

/// Credentials as the engine's API has them: JSON in base64's alphabet for URLs. An engine that can't
/// read them takes them for none, and says nothing.
fn header(image: &ImageRef, credentials: Option<&Credentials>) -> String {
    let server = image.canonical().domain().map(str::to_owned);
    let fields = match credentials {
        None => json!({}),
        Some(Credentials {
            user: None, secret, ..
        }) => json!({ "identitytoken": secret.expose(), "serveraddress": server }),
        Some(Credentials { user, secret, .. }) => json!({
            "username": user,
            "password": secret.expose(),
            "serveraddress": server,
        }),
    };
    URL_SAFE.encode(fields.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    #[test]
    fn credentials_are_written_in_the_alphabet_for_urls() {
        let credentials = Credentials {
            user: Some("me".to_owned()),
            secret: Secret::new("s3cret?~>pw ÿ"),
            origin: String::new(),
        };
        let image = "reg.example:5000/a:1".parse().unwrap();
        let header = header(&image, Some(&credentials));
        assert!(!header.contains(['+', '/']), "{header}");
        let read: serde_json::Value =
            serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap();
        assert_eq!(
            read,
            json!({
                "username": "me",
                "password": "s3cret?~>pw ÿ",
                "serveraddress": "reg.example:5000",
            })
        );
    }

    #[test]
    fn a_digest_is_found_in_an_engines_words() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (words, found) in [
            (format!("latest: digest: {digest} size: 529"), true),
            (format!("digest: {digest} size: 529"), true),
            (format!("digest: {digest}"), true),
            (format!("Digest: {digest}"), true),
            (format!("a tag's indigest: {digest}"), false),
            ("Digest: none".to_owned(), false),
            (
                "Status: Image is up to date for app:latest".to_owned(),
                false,
            ),
            (format!("Mounted from {digest}"), false),
        ] {
            let expected = found.then(|| digest.parse().unwrap());
            assert_eq!(digest_in_words(&words), expected, "{words}");
        }
    }

    #[test]
    fn layers_add_up() {
        let mut layers = Layers::new(PUSHING);
        let mut note = |line: &str| layers.note(&serde_json::from_str(line).unwrap());
        assert_eq!(
            note(r#"{"status":"Preparing","progressDetail":{},"id":"a"}"#),
            None
        );
        let pushing = r#"{"status":"Pushing","progressDetail":{"current":5,"total":10},"id":"a"}"#;
        assert_eq!(note(pushing), Some((5, 10)));
        let other = r#"{"status":"Pushing","progressDetail":{"current":7,"total":6},"id":"b"}"#;
        assert_eq!(note(other), Some((12, 17)));
        assert_eq!(
            note(r#"{"status":"Pushed","progressDetail":{},"id":"a"}"#),
            Some((17, 17))
        );
        assert_eq!(note(r#"{"status":"Layer already exists","id":"c"}"#), None);
    }
}

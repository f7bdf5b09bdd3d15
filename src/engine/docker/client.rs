//! Talking to the engine.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;

use super::bounded::{Held, refusal};
use super::endpoint::{Address, Endpoint};
use super::error::EngineError;
use super::sight::Sight;
use super::transport::Connector;
use super::upgrade;
use crate::facts::{EngineFacts, Environment};

/// The oldest API that jobctl speaks: Docker Engine 20.10's.
const MINIMUM_API: (usize, usize) = (1, 41);
/// The same as a text.
const MINIMUM_API_TEXT: &str = "1.41";

/// What requests name as their host; the connector knows better.
const HOST: &str = "http://docker";

/// What Go's server for TLS answers in clear text (`net/http`).
const WANTS_TLS: &str = "Client sent an HTTP request to an HTTPS server";

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// To open a connection.
    pub connect: Duration,
    /// From a request to its whole answer, where the answer is short.
    pub call: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(30),
        }
    }
}

/// What an engine's first answer says.
struct Greeting {
    /// The newest API that it speaks.
    api: ClientVersion,
    is_podman: bool,
    /// What it calls itself.
    server: Option<String>,
}

/// The request whose answer costs the engine least: for `/version` it would run programs to ask
/// them for theirs.
fn ping() -> BollardRequest {
    Request::get(format!("{HOST}/_ping"))
        .body(bollard::body_full(Bytes::new()))
        .expect("the address is a fixed one")
}

impl Greeting {
    async fn read(
        answer: impl Future<Output = Result<Response<Incoming>, legacy::Error>>,
        address: &Address,
    ) -> Result<Self, EngineError> {
        let answer =
            answer
                .await
                .map_err(|error| match EngineError::of_chain(&error, address) {
                    EngineError::Gone { address, reason } => {
                        EngineError::NotAnEngine { address, reason }
                    }
                    error => error,
                })?;
        let header = |name| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let api = header("Api-Version").and_then(|api| {
            let (major, minor) = api.split_once('.')?;
            Some(ClientVersion {
                major_version: major.parse().ok()?,
                minor_version: minor.parse().ok()?,
            })
        });
        let is_podman = answer.headers().contains_key("Libpod-Api-Version");
        let server = header("Server").map(str::to_owned);
        let status = answer.status();
        if !status.is_success() {
            let message = refusal(answer.into_body()).await;
            let message = message.map_err(|error| EngineError::of_chain(&error, address))?;
            if status == StatusCode::BAD_REQUEST && message.contains(WANTS_TLS) {
                return Err(EngineError::WantsTls {
                    address: address.to_string(),
                });
            }
            return Err(EngineError::Refused {
                status: status.as_u16(),
                message,
            });
        }
        // The connection is free for the next request when this one's answer is read.
        let read = answer.into_body().collect().await;
        read.map_err(|error| EngineError::of_chain(&error, address))?;
        let api = api.ok_or_else(|| EngineError::NotAnEngine {
            address: address.to_string(),
            reason: "its answer is not an engine's".to_owned(),
        })?;
        Ok(Self {
            api,
            is_podman,
            server,
        })
    }
}

/// An answer, unless it says that the engine refuses: bollard would read all of that.
async fn accepted(
    answer: Response<Incoming>,
) -> Result<Response<Incoming>, bollard::errors::Error> {
    let status = answer.status();
    if status.is_success()
        || matches!(
            status,
            StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS
        )
    {
        return Ok(answer);
    }
    Err(bollard::errors::Error::DockerResponseServerError {
        status_code: status.as_u16(),
        message: refusal(answer.into_body()).await?,
    })
}

/// A Docker Engine that has answered.
#[derive(Debug, Clone)]
pub struct DockerEngine {
    pub(super) docker: Docker,
    pub(super) connector: Connector,
    endpoint: Endpoint,
    pub(super) deadlines: Deadlines,
    /// Whether it is Podman, as its first answer says.
    pub(super) is_podman: bool,
    server: Option<String>,
    /// What was found out of what it sees of this machine.
    pub(super) sight: Arc<Sight>,
    /// Where credentials for registries are found.
    pub(super) environment: Option<Arc<Environment>>,
}

impl DockerEngine {
    /// Connects to an engine, and agrees with it on a version of the API. `ssh` is the program for
    /// endpoints that need it, as found in `PATH`.
    ///
    /// # Errors
    ///
    /// The engine can't be reached, does not answer in time, or is too old.
    pub async fn connect(
        endpoint: Endpoint,
        ssh: Option<PathBuf>,
        deadlines: Deadlines,
    ) -> Result<Self, EngineError> {
        let connector = Connector::new(endpoint.address.clone(), deadlines.connect, ssh);
        let client = |held| {
            Client::builder(TokioExecutor::new())
                // The engine closes idle connections when it likes; a small pool is refreshed quickly.
                .pool_idle_timeout(Duration::from_secs(10))
                .build(connector.holding(held))
        };
        let [whole, lines, nothing] = [Held::Whole, Held::Lines, Held::Nothing].map(client);
        let address = &endpoint.address;
        // The answer costs the engine nothing; one that hangs is to be told of soon.
        let deadline = deadlines.call.min(deadlines.connect * 2);
        let greeting =
            tokio::time::timeout(deadline, Greeting::read(whole.request(ping()), address));
        let greeting = greeting.await.map_err(|_| EngineError::Hung {
            address: address.to_string(),
            waited: deadline,
        })??;
        let ClientVersion {
            major_version: major,
            minor_version: minor,
        } = greeting.api;
        if (major, minor) < MINIMUM_API {
            return Err(EngineError::TooOld {
                version: format!("{major}.{minor}"),
                minimum: MINIMUM_API_TEXT,
            });
        }
        let version = if greeting.api < *API_DEFAULT_VERSION {
            &greeting.api
        } else {
            API_DEFAULT_VERSION
        };
        let docker = Docker::connect_with_custom_transport(
            move |request: BollardRequest| {
                let client = match Held::of(request.method(), request.uri().path()) {
                    Held::Whole => &whole,
                    Held::Lines => &lines,
                    Held::Nothing => &nothing,
                };
                let answer = client.request(request);
                async move { accepted(answer.await?).await }
            },
            Some(HOST),
            // Our own deadlines hold; bollard's would cut long uploads.
            u64::from(u32::MAX),
            version,
        )
        .map_err(|error| EngineError::of_bollard(&error, address))?;
        Ok(Self {
            docker,
            connector,
            endpoint,
            deadlines,
            is_podman: greeting.is_podman,
            server: greeting.server,
            sight: Arc::default(),
            environment: None,
        })
    }

    /// The same, with credentials for registries where docker's own client has them in this environment.
    #[must_use]
    pub fn with_credentials(mut self, environment: Environment) -> Self {
        self.environment = Some(Arc::new(environment));
        self
    }

    /// What it calls itself: `Docker/20.10.24 (linux)`; nothing where it does not say.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Where the engine is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Awaits an answer, but not for ever.
    pub(super) async fn call<T>(
        &self,
        answer: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        self.call_within(self.deadlines.call, answer).await
    }

    /// The same for what may take longer, or must not take so long.
    pub(super) async fn call_within<T>(
        &self,
        deadline: Duration,
        answer: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        let address = &self.endpoint.address;
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => answer.map_err(|error| EngineError::of_bollard(&error, address)),
            Err(_) => Err(self.hung(deadline)),
        }
    }

    /// That the engine did not answer for so long.
    pub(super) fn hung(&self, waited: Duration) -> EngineError {
        EngineError::Hung {
            address: self.endpoint.address.to_string(),
            waited,
        }
    }

    /// Asks whether the engine still answers; waits no longer than for a connection.
    ///
    /// # Errors
    ///
    /// It does not.
    pub async fn ping(&self) -> Result<(), EngineError> {
        self.call_within(self.deadlines.connect, self.docker.ping())
            .await
            .map(drop)
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    ///
    /// The engine stopped answering.
    pub async fn facts(&self) -> Result<EngineFacts, EngineError> {
        let (version, info, has_buildkit) = tokio::try_join!(
            self.call(self.docker.version()),
            self.call(self.docker.info()),
            self.has_buildkit(),
        )?;
        let components = version.components.unwrap_or_default();
        let security = info.security_options.unwrap_or_default();
        let mut security: Vec<_> = security
            .iter()
            .filter_map(|option| option.strip_prefix("name="))
            .filter_map(|option| option.split(',').next())
            .map(str::to_owned)
            .collect();
        security.sort();
        let mut runtimes: Vec<_> = info.runtimes.unwrap_or_default().into_keys().collect();
        runtimes.sort();
        let init = info.init_commit.and_then(|commit| commit.id);
        let paths = |paths: Vec<String>| paths.into_iter().map(PathBuf::from).collect();
        Ok(EngineFacts {
            version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            is_podman: components
                .iter()
                .any(|component| component.name.contains("Podman")),
            has_buildkit,
            platform: format!(
                "{}/{}",
                info.os_type.unwrap_or_default(),
                info.architecture.unwrap_or_default()
            ),
            root_dir: info
                .docker_root_dir
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            storage_driver: info.driver.unwrap_or_default(),
            cgroup_version: info
                .cgroup_version
                .and_then(|version| version.to_string().parse().ok()),
            can_limit_memory: info.memory_limit.unwrap_or(false),
            runtimes,
            cdi_spec_dirs: paths(info.cdi_spec_dirs.unwrap_or_default()),
            security,
            // An engine that misses the program says "N/A" for its version; Podman says nothing.
            has_init: (!self.is_podman).then(|| init.is_none_or(|version| version != "N/A")),
            has_live_restore: info.live_restore_enabled,
            time: info.system_time.and_then(|time| time.parse().ok()),
        })
    }

    /// Whether the engine has BuildKit: it then opens a session. A header of `/_ping` would say so
    /// too, but 20.10, which has BuildKit, does not send it.
    async fn has_buildkit(&self) -> Result<bool, EngineError> {
        let session = uuid::Uuid::new_v4().simple().to_string();
        let headers = [
            ("X-Docker-Expose-Session-Uuid", session.as_str()),
            ("X-Docker-Expose-Session-Name", "jobctl-probe"),
        ];
        // The session ends with its connection.
        upgrade::to_http2(&self.connector, "/session", &headers, self.deadlines.call)
            .await
            .map(|opened| opened.is_some())
    }

    /// Whether the engine takes new connections: one that is shutting down answers what it was asked,
    /// and takes none.
    pub async fn is_listening(&self) -> bool {
        self.connector.connect().await.is_ok()
    }

    /// Whether it is Podman.
    #[must_use]
    pub fn is_podman(&self) -> bool {
        self.is_podman
    }

    /// Whether the engine is on this machine, as far as its address tells.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.endpoint.address, Address::Unix(_))
    }
}

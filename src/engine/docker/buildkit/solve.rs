//! One build: a session, `Solve`, and what BuildKit tells meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::buildkit::v1::{SolveRequest, StatusRequest};
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use sha2::{Digest as _, Sha256};
use tonic::service::Routes;

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use super::control;
use super::failure;
use super::file_sync::{FileSync, Folder};
use super::health::Health;
use super::progress::Vertices;
use super::secrets::Secrets;
use super::session::Session;
use super::ssh::Agents;
use crate::engine::build::{BuildError, BuildRequest, BuiltImage, NamedSource, Reuse};
use crate::event::{Events, StepId};

/// Under which keys BuildKit gives the image's id, the most exact first: engines with containerd's
/// store name an image by its manifest, the others by its configuration.
const ID_KEYS: [&str; 2] = ["containerimage.digest", "containerimage.config.digest"];

/// Why no more is read of what BuildKit tells.
enum Reported {
    /// That was all.
    All,
    /// The stream broke: there may have been more.
    Some,
    /// A base image is for another platform: there is no use in going on.
    ForeignBase,
}

impl DockerEngine {
    /// Builds with BuildKit. `None` if the engine has none.
    ///
    /// Base images are those that the engine has; where one is for another platform, and where it has none,
    /// BuildKit asks the registry.
    pub(in super::super) async fn solve(
        &self,
        request: &BuildRequest,
        events: &Events,
        parent: Option<StepId>,
    ) -> Result<Option<BuiltImage>, BuildError> {
        // Bases are pulled before; asking the registry again would cost seconds where there is none.
        let solved = Box::pin(self.solve_with("local", request, events, parent)).await;
        let Err(BuildError::ForeignBase { message }) = solved else {
            return solved;
        };
        let solved = Box::pin(self.solve_with("pull", request, events, parent)).await;
        let why = match solved {
            Err(BuildError::Step(failed)) if failed.is_about_a_base() => failed.message,
            Err(BuildError::ForeignBase { .. }) => "the registry has no other".to_owned(),
            solved => return solved,
        };
        let message = format!("{message}; {why}");
        Err(BuildError::ForeignBase { message })
    }

    async fn solve_with(
        &self,
        resolve_mode: &str,
        request: &BuildRequest,
        events: &Events,
        parent: Option<StepId>,
    ) -> Result<Option<BuiltImage>, BuildError> {
        let files = FileSync::new(folders(request));
        let (routes, methods) = services(request, &files);
        let deadline = self.deadlines.call;
        let shared_key = shared_key(&request.recipe.context);
        let opening = Session::open(&self.connector, &shared_key, &methods, routes, deadline);
        let Some(session) = opening.await? else {
            return Ok(None);
        };
        let Some(mut control) = control::connect(&self.connector, deadline).await? else {
            return Ok(None);
        };
        let solve = solve_request(request, &session.id, resolve_mode);
        let status = StatusRequest {
            r#ref: solve.r#ref.clone(),
        };
        let mut vertices = Vertices::new(events.clone(), parent, Arc::clone(&request.mask));
        let telling = {
            let mut control = control.clone();
            let vertices = &mut vertices;
            async move {
                // BuildKit ends the stream once the build has ended and all is reported.
                let Ok(reported) = control.status(status).await else {
                    return Reported::Some;
                };
                let mut reported = reported.into_inner();
                loop {
                    match reported.message().await {
                        Ok(Some(reported)) => vertices.take(reported),
                        Ok(None) => return Reported::All,
                        Err(_) => return Reported::Some,
                    }
                    if vertices.foreign_base.is_some() {
                        return Reported::ForeignBase;
                    }
                }
            }
        };
        let (solved, reported) = {
            let mut solving = std::pin::pin!(control.solve(solve));
            let mut telling = std::pin::pin!(telling);
            tokio::select! {
                solved = &mut solving => (Some(solved), telling.await),
                reported = &mut telling => match reported {
                    Reported::ForeignBase => (None, reported),
                    Reported::All | Reported::Some => (Some(solving.await), reported),
                },
            }
        };
        drop(session);
        let (Some(solved), Reported::All | Reported::Some) = (solved, &reported) else {
            let message = vertices.foreign_base.unwrap_or_default();
            return Err(BuildError::ForeignBase { message });
        };
        let answer = match solved {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                return Err(match files.take_failure() {
                    Some(error) => error.into(),
                    None => failure::of_status(&status, &vertices, &*request.mask),
                });
            }
        };
        let id = ID_KEYS
            .iter()
            .find_map(|key| answer.exporter_response.get(*key)?.parse().ok());
        let Some(id) = id else {
            return Err(BuildError::Engine(EngineError::NotAnEngine {
                address: self.endpoint().address.to_string(),
                reason: "it built an image and did not say which".to_owned(),
            }));
        };
        let mut sources = vertices.sources();
        if matches!(reported, Reported::Some) {
            sources.push(NamedSource {
                name: "steps that the engine did not name".to_owned(),
                is_image: false,
                begins_stage: false,
                digest: None,
            });
        }
        Ok(Some(BuiltImage {
            id,
            sources: Some(sources),
        }))
    }
}

fn folders(request: &BuildRequest) -> HashMap<&'static str, Folder> {
    let folder = |root: &Path, hides_state| Folder {
        root: root.to_owned(),
        clock: Arc::clone(&request.clock),
        hides_state,
    };
    let of_dockerfile = request.recipe.dockerfile.parent().unwrap_or(Path::new("/"));
    HashMap::from([
        ("context", folder(&request.recipe.context, true)),
        ("dockerfile", folder(of_dockerfile, false)),
    ])
}

fn services(request: &BuildRequest, files: &FileSync) -> (Routes, Vec<String>) {
    let mut routes = Routes::new(files.clone()).add_service(HealthServer::new(Health));
    let mut methods = vec![FileSync::METHOD.to_owned(), Health::METHOD.to_owned()];
    if !request.recipe.secrets.is_empty() {
        let secrets = Secrets(Arc::new(request.recipe.secrets.clone()));
        routes = routes.add_service(SecretsServer::new(secrets));
        methods.push(Secrets::METHOD.to_owned());
    }
    if !request.recipe.agents.is_empty() {
        let agents = Agents(Arc::new(request.recipe.agents.clone()));
        routes = routes.add_service(SshServer::new(agents));
        methods.extend(Agents::METHODS.map(str::to_owned));
    }
    (routes, methods)
}

/// Builds from the same folder share what was sent before.
fn shared_key(context: &Path) -> String {
    format!("{:x}", Sha256::digest(context.as_os_str().as_bytes()))
}

fn solve_request(request: &BuildRequest, session: &str, resolve_mode: &str) -> SolveRequest {
    let mut frontend = BTreeMap::new();
    let file = request.recipe.dockerfile.file_name().unwrap_or_default();
    frontend.insert("filename".to_owned(), file.to_string_lossy().into_owned());
    frontend.insert("image-resolve-mode".to_owned(), resolve_mode.to_owned());
    if let Some(target) = &request.recipe.target {
        frontend.insert("target".to_owned(), target.clone());
    }
    if let Some(platform) = &request.recipe.platform {
        frontend.insert("platform".to_owned(), platform.clone());
    }
    if request.recipe.reuse == Reuse::Nothing {
        frontend.insert("no-cache".to_owned(), String::new());
    }
    for (name, value) in &request.recipe.args {
        frontend.insert(format!("build-arg:{name}"), value.expose().to_owned());
    }
    for (name, value) in &request.labels {
        frontend.insert(format!("label:{name}"), value.clone());
    }
    // The exporter `image` takes names as they are, and the engine then knows whole ones only.
    let names = request.tags.iter().map(|name| name.tagged().to_string());
    let names: Vec<_> = names.collect();
    let mut exporter = HashMap::from([("name".to_owned(), names.join(","))]);
    // The exporter `moby` ignores or refuses `rewrite-timestamp`; containerd's store has `image`.
    let kind = if request.rewrite_times_to.is_some() {
        exporter.insert("rewrite-timestamp".to_owned(), "true".to_owned());
        exporter.insert("unpack".to_owned(), "false".to_owned());
        "image"
    } else {
        "moby"
    };
    SolveRequest {
        r#ref: uuid::Uuid::new_v4().simple().to_string(),
        session: session.to_owned(),
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: frontend.into_iter().collect(),
        exporter_deprecated: kind.to_owned(),
        exporter_attrs_deprecated: exporter,
        ..SolveRequest::default()
    }
}

//! The session's `Secrets` service: what `RUN --mount=type=secret` asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets as Service;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response, Status};

use crate::engine::build::SecretSource;
use crate::facts::read_small;

/// The largest secret, as docker has it.
const MAX_BYTES: u64 = 500 << 10;

/// The secrets by their id.
#[derive(Clone)]
pub(super) struct Secrets(pub(super) Arc<BTreeMap<String, SecretSource>>);

impl Secrets {
    pub(super) const METHOD: &'static str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
}

#[tonic::async_trait]
impl Service for Secrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let data = match self.0.get(&id) {
            // BuildKit goes on without one that is not required.
            None => return Err(Status::not_found(format!("no secret `{id}` is given"))),
            Some(SecretSource::Value(value)) => value.expose().as_bytes().to_vec(),
            Some(SecretSource::File(path)) => read(&id, path.clone()).await?,
        };
        Ok(Response::new(GetSecretResponse { data }))
    }
}

async fn read(id: &str, path: PathBuf) -> Result<Vec<u8>, Status> {
    let shown = path.display().to_string();
    let unreadable = |error: std::io::Error| {
        Status::failed_precondition(format!("secret `{id}`: can't read `{shown}`: {error}"))
    };
    let reading = tokio::task::spawn_blocking(move || read_small(&path, MAX_BYTES));
    let read = reading.await.unwrap_or_else(|error| Err(error.into()));
    read.map_err(unreadable)
}

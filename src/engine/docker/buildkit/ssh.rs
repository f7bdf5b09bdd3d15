//! The session's `SSH` service: what `RUN --mount=type=ssh` asks for, passed to an agent's socket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh as Service;
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Under which key the engine names the agent.
const ID_KEY: &str = "buildkit.ssh.id";
/// The agent that is meant when none is named.
const DEFAULT_ID: &str = "default";

/// The agents' sockets by their id.
#[derive(Clone)]
pub(super) struct Agents(pub(super) Arc<BTreeMap<String, PathBuf>>);

impl Agents {
    pub(super) const METHODS: [&'static str; 2] = [
        "/moby.sshforward.v1.SSH/CheckAgent",
        "/moby.sshforward.v1.SSH/ForwardAgent",
    ];

    fn socket(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { DEFAULT_ID } else { id };
        let none = || Status::not_found(format!("no ssh agent `{id}` is given"));
        self.0.get(id).ok_or_else(none)
    }
}

#[tonic::async_trait]
impl Service for Agents {
    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.socket(&request.get_ref().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get(ID_KEY);
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        let socket = self.socket(id)?;
        let unreachable =
            |error| Status::unavailable(format!("ssh agent `{}`: {error}", socket.display()));
        let agent = UnixStream::connect(socket).await.map_err(unreachable)?;
        let (mut answers, mut questions) = agent.into_split();
        let mut asked = request.into_inner();
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok(Some(message)) = asked.message().await {
                if questions.write_all(&message.data).await.is_err() {
                    break;
                }
            }
            let _ = questions.shutdown().await;
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(length @ 1..) = answers.read(&mut buffer).await {
                let data = buffer[..length].to_vec();
                if sender.send(Ok(BytesMessage { data })).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

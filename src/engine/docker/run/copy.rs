//! Files out of and into a container.

use bollard::query_parameters::{DownloadFromContainerOptions, UploadToContainerOptions};
use futures_util::{Stream, StreamExt as _};
use hyper::body::Bytes;

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use crate::engine::run::RunError;

impl DockerEngine {
    /// A file or folder of a container as a tar archive, running or not; `None` if there is none.
    /// The archive's paths begin with the last name of `path`.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn copy_out(
        &self,
        container: &str,
        path: &str,
    ) -> Result<Option<impl Stream<Item = Result<Bytes, EngineError>> + use<>>, RunError> {
        let options = DownloadFromContainerOptions {
            path: path.to_owned(),
        };
        let mut parts = Box::pin(
            self.docker
                .download_from_container(container, Some(options)),
        );
        let first = async { parts.next().await.transpose() };
        let first = match self.call(first).await {
            Ok(first) => first,
            Err(EngineError::Refused {
                status: 404,
                message,
            }) if !message.to_lowercase().contains("no such container") => return Ok(None),
            Err(error) => return Err(super::of_container(error, container)),
        };
        let address = self.connector.address().clone();
        let rest = parts.map(move |part| match part {
            Ok(part) => Ok(part),
            Err(error) => Err(EngineError::of_bollard(&error, &address)),
        });
        Ok(Some(futures_util::stream::iter(first.map(Ok)).chain(rest)))
    }

    /// Puts the content of a tar archive into a folder of a container, running or not.
    ///
    /// # Errors
    ///
    /// There is no such container or folder, the archive can't be read or is none, or the engine
    /// refused or stopped answering.
    pub async fn copy_in<S>(
        &self,
        container: &str,
        folder: &str,
        archive: S,
    ) -> Result<(), RunError>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        let options = UploadToContainerOptions {
            path: folder.to_owned(),
            ..UploadToContainerOptions::default()
        };
        let body = bollard::body_try_stream(archive);
        // No deadline: an archive may be of any size.
        let sent = self
            .docker
            .upload_to_container(container, Some(options), body)
            .await;
        match sent.map_err(|error| EngineError::of_bollard(&error, self.connector.address())) {
            Err(EngineError::Refused {
                status: 404,
                message,
            }) if message.to_lowercase().contains("no such container") => {
                Err(RunError::NoContainer {
                    container: container.to_owned(),
                })
            }
            sent => Ok(sent?),
        }
    }
}

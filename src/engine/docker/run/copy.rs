//! Files out of and into a container.

use std::io::Read as _;

use bollard::query_parameters::{
    ContainerArchiveInfoOptions, DownloadFromContainerOptions, UploadToContainerOptions,
};
use futures_util::{Stream, StreamExt as _};
use hyper::body::Bytes;

use super::super::client::DockerEngine;
use super::super::error::EngineError;
use crate::engine::run::RunError;

/// What an engine knows of a file in a container without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Its size.
    pub bytes: i64,
    /// When it was modified, as the engine writes it.
    pub modified: String,
    /// Of a link, the path in the container that it leads to in the end.
    pub target: Option<String>,
}

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

    /// What is at a path of a container, a link that leads nowhere included; `None` if there is nothing.
    ///
    /// # Errors
    ///
    /// The engine refused or stopped answering.
    pub async fn stat(&self, container: &str, path: &str) -> Result<Option<PathStat>, EngineError> {
        let options = ContainerArchiveInfoOptions {
            path: path.to_owned(),
        };
        let asking = self
            .docker
            .get_container_archive_info(container, Some(options));
        match self.call(asking).await {
            Ok(found) => Ok(Some(PathStat {
                bytes: found.size,
                modified: found.modification_time.unwrap_or_default(),
                target: Some(found.link_target).filter(|target| !target.is_empty()),
            })),
            Err(EngineError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The beginning of a file of a container as text; nothing where there is no such file.
    ///
    /// # Errors
    ///
    /// There is no such container, or the engine refused or stopped answering.
    pub async fn small_file(
        &self,
        container: &str,
        path: &str,
        most_bytes: u64,
    ) -> Result<String, RunError> {
        let Some(parts) = self.copy_out(container, path).await? else {
            return Ok(String::new());
        };
        let mut parts = std::pin::pin!(parts);
        let mut archive = Vec::new();
        while let Some(part) = parts.next().await {
            archive.extend_from_slice(&part?);
            if archive.len() as u64 > most_bytes {
                break;
            }
        }
        let mut text = Vec::new();
        let mut archive = tar::Archive::new(archive.as_slice());
        let first = archive
            .entries()
            .ok()
            .and_then(|mut entries| entries.next()?.ok())
            .filter(|entry| entry.header().entry_type().is_file());
        if let Some(mut file) = first {
            // What was cut off is not looked for.
            let _ = file.read_to_end(&mut text);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
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

//! What is attached to an image in its registry (OCI image specification 1.1, "Guidelines for Artifact
//! Usage"; OCI distribution specification 1.1, "Pushing Manifests with Subject").

use std::collections::BTreeMap;

use hyper::Method;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::http::Ask;
use super::upload::pushing;
use super::{Manifest, Registry, RegistryError, Right, path};
use crate::model::{Digest, ImageRef};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The configuration of what needs none.
const EMPTY: (&str, &[u8]) = ("application/vnd.oci.empty.v1+json", b"{}");
/// What a registry answers that lists by itself what is attached to an image.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// Files that are attached to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// What they are together: a media type.
    pub(crate) kind: String,
    /// What is said of them.
    pub(crate) annotations: BTreeMap<String, String>,
    /// The files.
    pub(crate) files: Vec<ArtifactFile>,
}

/// A file that is attached to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArtifactFile {
    /// Its name.
    pub(crate) name: String,
    /// Its media type.
    pub(crate) kind: String,
    /// Its content.
    pub(crate) bytes: Bytes,
}

impl Registry {
    /// Attaches files to what an image's name stands for. The digest that they have together: the same
    /// files have the same, and are attached once.
    ///
    /// # Errors
    ///
    /// The registry does not take them.
    pub(crate) async fn attach(
        &self,
        image: &ImageRef,
        subject: &Manifest,
        artifact: &Artifact,
    ) -> Result<Digest, RegistryError> {
        self.put_blob(image, &Bytes::from_static(EMPTY.1)).await?;
        for file in &artifact.files {
            self.put_blob(image, &file.bytes).await?;
        }
        let manifest = manifest(subject, artifact).to_string();
        let digest = Digest::of(manifest.as_bytes());
        let is_listed = self
            .put_manifest(image, digest.as_str(), MANIFEST, manifest.clone())
            .await?;
        if !is_listed {
            let mut entry = descriptor(MANIFEST, manifest.as_bytes());
            entry["artifactType"] = json!(artifact.kind);
            entry["annotations"] = json!(artifact.annotations);
            self.list(image, subject, &entry).await?;
        }
        Ok(digest)
    }

    /// Lists what is attached under a tag that is made from the image's digest, where a registry has no
    /// list of its own ("Referrers Tag Schema").
    async fn list(
        &self,
        image: &ImageRef,
        subject: &Manifest,
        entry: &Value,
    ) -> Result<(), RegistryError> {
        let repository = path(image);
        let tag = subject.digest.as_str().replacen(':', "-", 1);
        let ask = Ask::new(Method::GET, format!("/v2/{repository}/manifests/{tag}"))
            .header(ACCEPT, HeaderValue::from_static(INDEX));
        let answer = self.ask(ask, &pushing(image), image).await?;
        let mut entries = Vec::new();
        if answer.status != StatusCode::NOT_FOUND {
            let answer = self.accepted(answer, image, Right::Push)?;
            let mut known: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if let Value::Array(known) = known["manifests"].take() {
                entries = known;
            }
        }
        if entries
            .iter()
            .any(|known| known["digest"] == entry["digest"])
        {
            return Ok(());
        }
        entries.push(entry.clone());
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.put_manifest(image, &tag, INDEX, index.to_string())
            .await?;
        Ok(())
    }

    /// Puts a manifest in its place. Whether the registry lists it with its subject.
    async fn put_manifest(
        &self,
        image: &ImageRef,
        reference: &str,
        kind: &'static str,
        manifest: String,
    ) -> Result<bool, RegistryError> {
        let repository = path(image);
        let place = format!("/v2/{repository}/manifests/{reference}");
        let ask = Ask::new(Method::PUT, place)
            .header(CONTENT_TYPE, HeaderValue::from_static(kind))
            .body(manifest);
        let answer = self.ask(ask, &pushing(image), image).await?;
        let answer = self.accepted(answer, image, Right::Push)?;
        Ok(answer.header(&SUBJECT).is_some())
    }

    /// Sends bytes, if they are not there.
    async fn put_blob(&self, image: &ImageRef, bytes: &Bytes) -> Result<(), RegistryError> {
        let digest = Digest::of(bytes);
        if self.blob(image, digest.as_str()).await?.is_some() {
            return Ok(());
        }
        let mut upload = self.begin(image).await?;
        while let Some(accepted) = usize::try_from(upload.accepted())
            .ok()
            .filter(|accepted| *accepted < bytes.len())
        {
            self.append(image, &mut upload, bytes.slice(accepted..))
                .await?;
        }
        self.finish(image, &upload, digest.as_str()).await
    }
}

fn manifest(subject: &Manifest, artifact: &Artifact) -> Value {
    let files = artifact.files.iter().map(|file| {
        let mut entry = descriptor(&file.kind, &file.bytes);
        entry["annotations"] = json!({ "org.opencontainers.image.title": file.name });
        entry
    });
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": artifact.kind,
        "config": descriptor(EMPTY.0, EMPTY.1),
        "layers": files.collect::<Vec<_>>(),
        "subject": {
            "mediaType": subject.kind,
            "digest": subject.digest.as_str(),
            "size": subject.size,
        },
        "annotations": artifact.annotations,
    })
}

/// What stands for bytes elsewhere (OCI image specification 1.1, "OCI Content Descriptors").
fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({
        "mediaType": kind,
        "digest": Digest::of(bytes).as_str(),
        "size": bytes.len(),
    })
}

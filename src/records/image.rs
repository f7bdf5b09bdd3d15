//! What a record says of an image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The image of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// As the user named it.
    pub name: String,
    /// Its id on the engine, as soon as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The digest of its content: layers and configuration without the labels that jobctl set. Images that
    /// differ in these labels alone have the same. Records of earlier versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The digests that registries have it under: `repository@sha256:…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repo_digests: Vec<String>,
    /// The digests of its layers' content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// Its labels: among them the digests of its context and of its plan, and its revision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl ImageRecord {
    /// Whether the same is in another image; where that is not known, whether it is the same image.
    #[must_use]
    pub fn is_alike(&self, other: &Self) -> bool {
        match (&self.content, &other.content) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.id.is_some() && self.id == other.id,
        }
    }
}

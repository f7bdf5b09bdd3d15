//! What a record says of the source that an image was built from.

use serde::{Deserialize, Serialize};

/// Where the source of a job stood when it was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// The commit.
    pub revision: String,
    /// Whether the tree was not as committed.
    pub is_dirty: bool,
    /// Where the repository comes from, without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The file in the run's folder that has what differed from the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// The files that the patch changes, by their paths in the repository, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Files that differed and are not in the patch; at most a thousand are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// How many more there are of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out_unnamed: usize,
}

/// A file that differed from the commit and is not in the patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its path in the repository.
    pub path: String,
    /// Why.
    pub reason: LeftOutReason,
    /// How many bytes it has, and had as it was committed.
    pub bytes: u64,
}

/// Why a file is not in the patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutReason {
    /// Files with such a name usually hold secrets.
    SecretName,
    /// There is a private key in it.
    PrivateKey,
    /// It is too large.
    TooLarge,
    /// The patch would become too large with it.
    PatchTooLarge,
    /// It could not be read.
    Unreadable,
}

impl LeftOutReason {
    /// In some words, as people are shown it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::SecretName => "its name is that of a file with secrets",
            Self::PrivateKey => "it has a private key",
            Self::TooLarge => "too large",
            Self::PatchTooLarge => "the patch would be too large",
            Self::Unreadable => "it could not be read",
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

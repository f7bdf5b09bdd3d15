//! `metrics.cursor.json`: how far the files of metrics of a run were read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::records::durable;

const FILE: &str = "metrics.cursor.json";

/// How far the files of metrics in a container were read, so that whoever looks next takes only what is new.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursors {
    /// The container: that of another attempt has files of its own.
    pub container: String,
    /// By the file's path in the container.
    pub files: BTreeMap<String, Cursor>,
}

/// How far a file was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// How many bytes.
    pub bytes: u64,
    /// Their SHA-256: if it is another now, the file was written anew.
    pub sha256: String,
    /// How many lines these are.
    pub lines: u64,
    /// How many values came of them.
    pub values: u64,
    /// The first lines without metrics, by their number from 0, and why they have none.
    pub broken: Vec<(u64, String)>,
    /// How many lines have none.
    pub broken_lines: u64,
    /// The file's size and time of modification when it was read: while they are the same, nothing is new.
    pub stamp: Option<(i64, String)>,
}

impl Cursors {
    /// Those of a container; from the beginning of each file, where none are kept of it.
    #[must_use]
    pub fn load(folder: &Path, container: &str) -> Self {
        let kept = durable::read(&folder.join(FILE)).ok();
        let kept = kept.and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        let kept = kept.filter(|kept| kept.container == container);
        kept.unwrap_or_else(|| Self {
            container: container.to_owned(),
            files: BTreeMap::new(),
        })
    }

    /// Keeps them.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        durable::write(&folder.join(FILE), &serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cursor, Cursors};

    #[test]
    fn another_container_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut cursors = Cursors::load(folder.path(), "a");
        assert_eq!(cursors.files.len(), 0);
        let cursor = Cursor {
            bytes: 7,
            stamp: Some((7, "2026-01-01T00:00:00Z".to_owned())),
            ..Cursor::default()
        };
        cursors.files.insert("/m.jsonl".to_owned(), cursor);
        cursors.save(folder.path()).unwrap();
        assert_eq!(Cursors::load(folder.path(), "a"), cursors);
        assert_eq!(Cursors::load(folder.path(), "b").files.len(), 0);
        std::fs::write(folder.path().join("metrics.cursor.json"), "{").unwrap();
        assert_eq!(Cursors::load(folder.path(), "a").files.len(), 0);
    }
}

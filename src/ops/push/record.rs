//! The records of runs, as they are attached to their images.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use hyper::body::Bytes;

use crate::engine::registry::{Artifact, ArtifactFile};
use crate::model::{Digest, RunId};
use crate::plan::push::Wanted;
use crate::plan::run::JOB_LABEL;
use crate::records::{Record, SourceRecord, State, Store, durable};

/// What a record is, in a registry.
const KIND: &str = "application/vnd.jobctl.run.v1";
/// The files of a record that one needs elsewhere, and their media types. What the job wrote is not among
/// them.
const FILES: [(&str, &str); 3] = [
    ("run.json", "application/vnd.jobctl.run.v1+json"),
    ("metrics.jsonl", "application/jsonl"),
    (PATCH, "text/x-diff"),
];
const PATCH: &str = "source.patch";
/// So many files of a patch are named, at most.
const MOST_NAMED: usize = 20;

/// A run whose record is attached.
#[derive(Debug, Clone)]
pub struct AttachedRun {
    /// The run.
    pub id: RunId,
    /// The files that its patch changes, if that is attached.
    patched: Vec<String>,
    pub(super) artifact: Artifact,
}

impl AttachedRun {
    /// Which files are published with the image, in words.
    #[must_use]
    pub fn content(&self) -> String {
        let names: Vec<_> = (self.artifact.files.iter())
            .map(|file| file.name.as_str())
            .collect();
        let mut content = names.join(", ");
        if !self.patched.is_empty() {
            let named = &self.patched[..self.patched.len().min(MOST_NAMED)];
            let _ = write!(content, " (changes of {}", named.join(", "));
            match self.patched.len() - named.len() {
                0 => content.push(')'),
                more => {
                    let _ = write!(content, ", and {more} more)");
                }
            }
        }
        content
    }
}

/// Why no record can be attached.
#[derive(Debug, thiserror::Error)]
pub enum NoRecord {
    /// No run of the image is known, or none that may be meant.
    #[error("there is no run of `{name}` that has succeeded, and whose record could be attached")]
    NoRun {
        /// The name.
        name: String,
    },
    /// What is known of runs can't be read.
    #[error("{0}")]
    Unreadable(String),
}

/// The runs whose records are attached to images, by the images' ids: the one that is named, or the newest
/// that has succeeded of the job that the image was built for; or of any, where that has none.
///
/// # Errors
///
/// There is none, or it can't be read.
pub fn runs_of(
    wanted: &[Wanted],
    named: Option<RunId>,
    store: &Store,
) -> Result<BTreeMap<Digest, AttachedRun>, NoRecord> {
    let unreadable = |error: &dyn std::error::Error| NoRecord::Unreadable(error.to_string());
    let ids = match named {
        Some(id) => vec![id],
        None => store.ids().map_err(|error| unreadable(&error))?,
    };
    let mut found: BTreeMap<Digest, AttachedRun> = BTreeMap::new();
    // Runs of other jobs, which were given the image as well.
    let mut others = BTreeMap::new();
    for id in ids {
        // The rest is older.
        if wanted.iter().all(|wanted| found.contains_key(&wanted.id)) {
            break;
        }
        let record = match store.read(id) {
            Ok(record) => record,
            Err(error) if named.is_some() => return Err(unreadable(&error)),
            Err(_) => continue,
        };
        let image = record.image.id.as_deref();
        let of = wanted
            .iter()
            .find(|wanted| image == Some(wanted.id.as_str()));
        let Some(of) = of.filter(|_| record.state == State::Finished) else {
            continue;
        };
        let is_its_own = record.image.labels.get(JOB_LABEL) == record.job.as_ref();
        let runs = if is_its_own { &mut found } else { &mut others };
        if !runs.contains_key(&of.id) {
            let artifact = artifact(&record, store).map_err(|error| unreadable(&error))?;
            let has_patch = artifact.files.iter().any(|file| file.name == PATCH);
            let patched = record.source.filter(|_| has_patch);
            let patched = patched.map_or_else(Vec::new, |source| source.files);
            let attached = AttachedRun {
                id,
                patched,
                artifact,
            };
            runs.insert(of.id.clone(), attached);
        }
    }
    for (image, run) in others {
        found.entry(image).or_insert(run);
    }
    match wanted.iter().find(|wanted| !found.contains_key(&wanted.id)) {
        None => Ok(found),
        Some(without) => Err(NoRecord::NoRun {
            name: without.name.to_string(),
        }),
    }
}

fn artifact(record: &Record, store: &Store) -> io::Result<Artifact> {
    let folder = store.run(record.id);
    let mut files = Vec::new();
    for (name, kind) in FILES {
        // One whose files nobody has looked at may have secrets.
        let is_known = |source: &SourceRecord| !source.files.is_empty();
        if name == PATCH && !record.source.as_ref().is_some_and(is_known) {
            continue;
        }
        match durable::read(&folder.path().join(name)) {
            Ok(bytes) => files.push(ArtifactFile {
                name: name.to_owned(),
                kind: kind.to_owned(),
                bytes: Bytes::from(bytes),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut annotations = BTreeMap::from([
        (
            "org.opencontainers.image.created".to_owned(),
            record.created.to_string(),
        ),
        ("dev.jobctl.run".to_owned(), record.id.to_string()),
    ]);
    if let Some(job) = &record.job {
        annotations.insert("dev.jobctl.job".to_owned(), job.clone());
    }
    Ok(Artifact {
        kind: KIND.to_owned(),
        annotations,
        files,
    })
}

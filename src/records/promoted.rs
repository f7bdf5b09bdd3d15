//! `promoted.json`: which runs are good enough to be compared with, and to go back to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::durable;
use super::error::StoreError;
use super::image::ImageRecord;
use super::record::Record;
use super::store::Store;
use crate::model::{RunId, number};

/// The schema of what this version writes.
const SCHEMA: &str = "jobctl.promoted/1";
/// So many promotions of each job are remembered.
const MOST_REMEMBERED: usize = 20;

/// The runs that were promoted, by their job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promoted {
    schema: String,
    /// Those of each job, the newest last.
    jobs: BTreeMap<String, Vec<Promotion>>,
    /// The services that were rolled back, and stay so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rolled_back: BTreeMap<String, Rollback>,
}

/// A service that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// The run that was started for it, as an earlier one.
    pub to: RunId,
    /// What it was rolled back from: as long as `jobctl up` would start one of these, it stays.
    pub from: Vec<RolledBackFrom>,
}

/// What a service was rolled back from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBackFrom {
    /// The run.
    pub run: RunId,
    /// Its image's id.
    pub image: Option<String>,
    /// The digest of the image's content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The digest of all else that decided what it was.
    pub key: Option<String>,
}

impl From<&Record> for RolledBackFrom {
    fn from(record: &Record) -> Self {
        Self {
            run: record.id,
            image: record.image.id.clone(),
            content: record.image.content.clone(),
            key: record.key.clone(),
        }
    }
}

impl RolledBackFrom {
    /// Its image, as far as it is compared.
    #[must_use]
    pub fn image(&self) -> ImageRecord {
        ImageRecord {
            id: self.image.clone(),
            content: self.content.clone(),
            ..ImageRecord::default()
        }
    }
}

/// A run that was promoted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promotion {
    /// The run.
    pub run: RunId,
    /// When.
    pub time: Timestamp,
    /// Its metrics, which are compared with even when it is gone.
    #[serde(default, with = "number::map")]
    pub metrics: BTreeMap<String, f64>,
}

impl Default for Promoted {
    fn default() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            jobs: BTreeMap::new(),
            rolled_back: BTreeMap::new(),
        }
    }
}

impl Promoted {
    /// The promoted run of a job.
    #[must_use]
    pub fn of(&self, job: &str) -> Option<&Promotion> {
        self.jobs.get(job)?.last()
    }

    /// The runs of a job that were promoted before the one that is, newest first.
    pub fn before(&self, job: &str) -> impl Iterator<Item = &Promotion> {
        let history = self.jobs.get(job).map(Vec::as_slice).unwrap_or_default();
        history.iter().rev().skip(1)
    }

    /// All runs that are remembered.
    #[must_use]
    pub fn runs(&self) -> BTreeSet<RunId> {
        let promotions = self.jobs.values().flatten();
        promotions.map(|promotion| promotion.run).collect()
    }

    /// Promotes a run of a job. One that is promoted stays as it is.
    pub fn promote(&mut self, record: &Record, now: Timestamp) {
        let Some(job) = &record.job else { return };
        let history = self.jobs.entry(job.clone()).or_default();
        if history.last().is_some_and(|last| last.run == record.id) {
            return;
        }
        history.push(Promotion {
            run: record.id,
            time: now,
            metrics: record.metrics.clone(),
        });
        let surplus = history.len().saturating_sub(MOST_REMEMBERED);
        history.drain(..surplus);
    }

    /// Takes the newest promotions of a job back, up to that of a run, in whose place another is promoted
    /// that was made from it.
    fn replace(&mut self, job: &str, run: RunId, by: &Record, now: Timestamp) {
        self.go_back(job, run);
        if let Some(history) = self.jobs.get_mut(job)
            && history.last().is_some_and(|last| last.run == run)
        {
            history.pop();
        }
        self.promote(by, now);
    }

    /// Whether and how a service was rolled back.
    #[must_use]
    pub fn rollback(&self, job: &str) -> Option<&Rollback> {
        self.rolled_back.get(job)
    }

    /// Rolls a service back to a run, as which another was started: each rollback goes one further back,
    /// and from none of what was rolled back from `jobctl up` starts anything again by itself.
    pub fn roll_back(
        &mut self,
        job: &str,
        run: RunId,
        by: &Record,
        from: impl IntoIterator<Item = RolledBackFrom>,
        now: Timestamp,
    ) {
        self.replace(job, run, by, now);
        let rollback = Rollback {
            to: by.id,
            from: Vec::new(),
        };
        let rollback = self.rolled_back.entry(job.to_owned()).or_insert(rollback);
        rollback.to = by.id;
        rollback.from.extend(from);
        let surplus = rollback.from.len().saturating_sub(MOST_REMEMBERED);
        rollback.from.drain(..surplus);
    }

    /// Lets a service go forward again.
    pub fn go_forward(&mut self, job: &str) {
        self.rolled_back.remove(job);
    }

    /// Takes the newest promotions of a job back, up to that of a run.
    pub fn go_back(&mut self, job: &str, run: RunId) {
        let Some(history) = self.jobs.get_mut(job) else {
            return;
        };
        if let Some(at) = history.iter().rposition(|promotion| promotion.run == run) {
            history.truncate(at + 1);
        }
    }
}

impl Store {
    /// The runs that were promoted.
    ///
    /// # Errors
    ///
    /// The file is there, and can't be read.
    pub fn promoted(&self) -> Result<Promoted, StoreError> {
        let path = self.path().join("promoted.json");
        let text = match durable::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Promoted::default());
            }
            Err(error) => return Err(StoreError::read(path, error)),
        };
        let promoted: Promoted =
            serde_json::from_slice(&text).map_err(|error| StoreError::read(&path, error.into()))?;
        if promoted.schema != SCHEMA {
            let reason = format!("its schema is {}, not {SCHEMA}", promoted.schema);
            let error = io::Error::new(io::ErrorKind::InvalidData, reason);
            return Err(StoreError::read(path, error));
        }
        Ok(promoted)
    }

    /// Keeps which runs are promoted: who reads it finds the old ones or the new ones.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn keep_promoted(&self, promoted: &Promoted) -> Result<(), StoreError> {
        let path = self.path().join("promoted.json");
        let mut text = serde_json::to_vec_pretty(promoted)
            .map_err(|error| StoreError::write(&path, error.into()))?;
        text.push(b'\n');
        durable::write(&path, &text).map_err(|error| StoreError::write(path, error))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn record(job: &str, second: i64) -> Record {
        let time = Timestamp::from_second(second).unwrap();
        let mut record = Record::new(RunId::new(time), time);
        record.job = Some(job.to_owned());
        record
    }

    #[test]
    fn going_back_undoes_what_was_promoted_since() {
        let (first, second, third) = (record("a", 1), record("a", 2), record("a", 3));
        let mut promoted = Promoted::default();
        for record in [&first, &second, &second, &third] {
            promoted.promote(record, record.created);
        }
        assert_eq!(promoted.of("a").unwrap().run, third.id);
        assert_eq!(promoted.before("a").next().unwrap().run, second.id);
        promoted.go_back("a", first.id);
        assert_eq!(promoted.of("a").unwrap().run, first.id);
        assert_eq!(promoted.before("a").next(), None);
        promoted.go_back("a", third.id);
        assert_eq!(promoted.runs(), BTreeSet::from([first.id]));
    }

    #[test]
    fn each_rollback_goes_one_further_back() {
        let runs = [1, 2, 3, 4, 5].map(|second| record("a", second));
        let [first, second, third, as_second, as_first] = &runs;
        let mut promoted = Promoted::default();
        for record in [first, second, third] {
            promoted.promote(record, record.created);
        }
        for (before, by, from) in [(second, as_second, third), (first, as_first, as_second)] {
            assert_eq!(promoted.before("a").next().unwrap().run, before.id);
            promoted.roll_back("a", before.id, by, [from.into()], by.created);
            assert_eq!(promoted.of("a").unwrap().run, by.id);
        }
        assert_eq!(promoted.before("a").next(), None);
        let rollback = promoted.rollback("a").unwrap();
        assert_eq!(rollback.to, as_first.id);
        let from: Vec<_> = rollback.from.iter().map(|from| from.run).collect();
        assert_eq!(from, [third.id, as_second.id]);
        promoted.go_forward("a");
        assert_eq!(promoted.rollback("a"), None);
    }

    #[test]
    fn what_an_earlier_version_kept_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"schema":"jobctl.promoted/1","jobs":{}}"#;
        fs::write(folder.path().join("promoted.json"), text).unwrap();
        let store = Store::new(folder.path().to_owned());
        assert_eq!(store.promoted().unwrap(), Promoted::default());
    }

    #[test]
    fn what_is_kept_is_read_again_and_what_is_newer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        assert_eq!(store.promoted().unwrap(), Promoted::default());
        let mut promoted = Promoted::default();
        promoted.promote(&record("a", 1), Timestamp::UNIX_EPOCH);
        store.keep_promoted(&promoted).unwrap();
        assert_eq!(store.promoted().unwrap(), promoted);
        let path = folder.path().join("promoted.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("promoted/1", "promoted/2")).unwrap();
        let error = store.promoted().unwrap_err().to_string();
        assert!(error.contains("jobctl.promoted/2"), "{error}");
    }
}

//! Metrics in the files of a container, read from where the last look ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::archive::Archive;
use super::attempt::Work;
use super::collect::through;
use crate::facts::host::now;
use crate::ops::pipe::Received;
use crate::records::Record;
use crate::records::metrics::{
    Cursor, Cursors, MetricLines, MetricsWriter, Point, read_lines, read_object, series,
};

/// So much is read at a time of a file with an object on each line, and at all of one that is an object.
const MOST_BYTES: usize = 64 << 20;
/// So much of what is new is read in one look while the job runs.
const MOST_PER_LOOK: usize = 8 << 20;
/// How often a file is read anew that is written anew meanwhile.
const TRIES: u32 = 3;
/// A look may cost this part of the time between two.
const COST: u32 = 20;
/// So many bytes of a file are read in a second, over all looks, but for one look in ten minutes.
const BYTES_PER_SECOND: f64 = (1 << 20) as f64;
const LONGEST_PAUSE: f64 = 600.0;
/// So many lines that have no metrics are kept by their reason.
const MOST_BROKEN: usize = 3;

/// Looks at files that grow while the job runs, the more seldom the more a look costs.
#[derive(Debug)]
pub(super) struct MetricLooks {
    files: Vec<String>,
    attempt: usize,
    /// When a file may be read again.
    due: BTreeMap<String, Instant>,
}

impl MetricLooks {
    /// Looks at the files of a run's latest attempt.
    pub(super) fn new(record: &Record) -> Self {
        let files = record.policy.metric_files.iter();
        Self {
            files: files.filter(|path| is_growing(path)).cloned().collect(),
            attempt: record.attempts.len(),
            due: BTreeMap::new(),
        }
    }

    /// Takes what is new. What can't be read or kept now is at the end, or there is a warning then.
    pub(super) async fn look(&mut self, work: &Work<'_>, container: &str) {
        if self.files.is_empty() {
            return;
        }
        let mut cursors = Cursors::load(work.folder.path(), container);
        for path in &self.files {
            let start = Instant::now();
            if self.due.get(path).is_some_and(|due| start < *due) {
                continue;
            }
            let taking = take(work, &mut cursors, path, self.attempt, false);
            let taken = Box::pin(taking).await;
            let bytes = taken.ok().flatten().unwrap_or_default();
            let pause = pause(bytes, start.elapsed());
            self.due.insert(path.clone(), Instant::now() + pause);
        }
    }
}

/// Whether a file has an object on each line.
fn is_growing(path: &str) -> bool {
    let end = Path::new(path).extension();
    end.is_some_and(|end| end == "jsonl")
}

/// How long a file is left alone of which so many bytes were read in such a time.
fn pause(bytes: u64, took: Duration) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
    let seconds = (bytes as f64 / BYTES_PER_SECOND).min(LONGEST_PAUSE);
    Duration::from_secs_f64(seconds).max(took * COST)
}

/// Takes what is left of the files, and puts the last values into the record. What a job that succeeded
/// declares and never reported is a warning.
pub(super) async fn collect(
    work: &Work<'_>,
    record: &mut Record,
    container: &str,
    has_succeeded: bool,
) {
    let files = record.policy.metric_files.clone();
    let attempt = record.attempts.len();
    let mut cursors = Cursors::load(work.folder.path(), container);
    for path in &files {
        let taking = take(work, &mut cursors, path, attempt, true);
        match Box::pin(taking).await {
            Ok(Some(_)) => {}
            Ok(None) => {
                work.warn(record, format!("there is no file of metrics at `{path}`"));
                continue;
            }
            Err(reason) => {
                let warning = format!("the metrics in `{path}` can't be read: {reason}");
                work.warn(record, warning);
                continue;
            }
        }
        let Some(cursor) = cursors.files.get(path) else {
            continue;
        };
        if let Some(broken) = broken(path, cursor) {
            work.warn(record, broken);
        } else if cursor.values == 0 && has_succeeded {
            work.warn(record, format!("there are no metrics in `{path}`"));
        }
    }
    match series(work.folder.path(), None) {
        Ok(points) => {
            if has_succeeded {
                for warning in unreported(record, &points) {
                    work.warn(record, warning);
                }
            }
            // The last one of a name wins.
            let points = points.into_iter();
            record.metrics = points.map(|point| (point.name, point.value)).collect();
        }
        Err(error) => work.warn(record, format!("metrics are lost: {error}")),
    }
}

/// The lines of a file that have no metrics.
fn broken(path: &str, cursor: &Cursor) -> Option<String> {
    let (line, reason) = cursor.broken.first()?;
    let mut warning = format!("`{path}`: line {} is left out: {reason}", line + 1);
    for (line, reason) in &cursor.broken[1..] {
        let _ = write!(warning, "; line {}: {reason}", line + 1);
    }
    match cursor.broken_lines - cursor.broken.len() as u64 {
        0 => {}
        more => {
            let _ = write!(warning, "; and {more} more");
        }
    }
    Some(warning)
}

/// What was to be found in the log and is not there.
fn unreported(record: &Record, points: &[Point]) -> Vec<String> {
    let policy = &record.policy;
    let reported: BTreeSet<_> = points.iter().map(|point| point.name.as_str()).collect();
    let missing = |name: &&String| !reported.contains(name.as_str());
    let listed = |names: Vec<&String>| {
        let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
        names.join(" or ")
    };
    let mut warnings = Vec::new();
    let names: Vec<_> = policy.metric_names.iter().filter(missing).collect();
    if !names.is_empty() {
        warnings.push(format!("no line of the log has {}", listed(names)));
    }
    let patterns: Vec<_> = policy.metric_patterns.keys().filter(missing).collect();
    if !patterns.is_empty() {
        let patterns = listed(patterns);
        warnings.push(format!(
            "no line of the log matches the pattern of {patterns}"
        ));
    }
    let is_of_log = |point: &&Point| {
        policy.metric_names.contains(&point.name)
            || policy.metric_patterns.contains_key(&point.name)
    };
    let mut of_log = points.iter().filter(is_of_log).peekable();
    if policy.metric_step.is_some()
        && of_log.peek().is_some()
        && of_log.all(|point| point.step.is_none())
    {
        warnings.push(
            "no line of the log matches the pattern of `step`: its metrics are in their order"
                .to_owned(),
        );
    }
    warnings
}

/// Takes what is new in a file, and says how many bytes were read for it; nothing where there is no file. A
/// last line without an end is left for the next look, unless this is the last.
async fn take(
    work: &Work<'_>,
    cursors: &mut Cursors,
    path: &str,
    attempt: usize,
    is_final: bool,
) -> Result<Option<u64>, String> {
    let container = cursors.container.clone();
    let Some((place, stamp)) = find(work, &container, path).await? else {
        return Ok(None);
    };
    let mut cursor = cursors.files.get(path).cloned().unwrap_or_default();
    let is_complete = u64::try_from(stamp.0).is_ok_and(|bytes| bytes == cursor.bytes);
    if cursor.stamp.as_ref() == Some(&stamp) && (is_complete || !is_final) {
        return Ok(Some(0));
    }
    // A look must not keep the log waiting.
    let most_bytes = if is_final { MOST_BYTES } else { MOST_PER_LOOK };
    let mut bytes = 0;
    let mut tries = 1;
    loop {
        let known = (cursor.bytes, cursor.sha256.clone());
        let reading = Reading {
            path: path.to_owned(),
            known,
            most_bytes,
            is_final,
        };
        let read = move |archive: Received| reading.read(archive);
        let Some(rest) = through(work, &container, &place, read).await? else {
            return Ok(None);
        };
        let Some(rest) = rest.map_err(|error| error.to_string())? else {
            if tries == TRIES {
                return Err("it is written anew again and again".to_owned());
            }
            // It was written anew, and is read anew: what it had before is kept as well.
            tries += 1;
            cursor = Cursor::default();
            continue;
        };
        bytes += rest.read_bytes;
        for (line, reason) in rest.lines.broken {
            cursor.broken_lines += 1;
            if cursor.broken.len() < MOST_BROKEN {
                let line = cursor.lines + line;
                cursor.broken.push((line, reason.to_string()));
            }
        }
        cursor.bytes += rest.lines.bytes as u64;
        cursor.sha256 = rest.sha256;
        cursor.lines += rest.lines.lines;
        cursor.values += rest.lines.points.len() as u64;
        cursor.stamp = rest.is_all.then(|| stamp.clone());
        let kept = keep(work, &rest.lines.points, attempt).and_then(|()| {
            cursors.files.insert(path.to_owned(), cursor.clone());
            cursors.save(work.folder.path())
        });
        kept.map_err(|error| format!("they can't be kept: {error}"))?;
        if rest.is_all || !is_final {
            return Ok(Some(bytes));
        }
    }
}

/// Where a file is, links followed, with its size and time of modification.
async fn find(
    work: &Work<'_>,
    container: &str,
    path: &str,
) -> Result<Option<(String, (i64, String))>, String> {
    let mut place = path.to_owned();
    loop {
        let asked = work.patiently(|| work.engine.stat(container, &place)).await;
        let (found, _) = asked.map_err(|error| error.to_string())?;
        let Some(found) = found else {
            return Ok(None);
        };
        match found.target {
            // That a link leads to a link is for the engine to follow.
            Some(target) if place == path && target != path => place = target,
            _ => return Ok(Some((place, (found.bytes, found.modified)))),
        }
    }
}

/// How the rest of a file is read.
#[derive(Clone)]
struct Reading {
    path: String,
    /// What was read before: so many bytes with this digest.
    known: (u64, String),
    most_bytes: usize,
    is_final: bool,
}

/// What follows in a file after what is known of it.
struct Rest {
    lines: MetricLines,
    /// Of all up to the end of these lines.
    sha256: String,
    /// How many bytes were read, what is known included.
    read_bytes: u64,
    /// Whether nothing follows.
    is_all: bool,
}

impl Reading {
    /// Nothing, if what is known is not there any more.
    fn read(&self, archive: Received) -> io::Result<Option<Rest>> {
        let (bytes, sha256) = &self.known;
        let mut archive = Archive::new(archive);
        let is_file = loop {
            match archive.next()? {
                Some(member) if member.kind.is_file() => break true,
                Some(_) => {}
                None => break false,
            }
        };
        if !is_file {
            return Err(io::Error::other("it is not a file"));
        }
        let mut hash = Sha256::new();
        let known = io::copy(&mut (&mut archive).take(*bytes), &mut hash)?;
        if *bytes > 0 && (known < *bytes || format!("{:x}", hash.clone().finalize()) != *sha256) {
            return Ok(None);
        }
        let mut text = Vec::new();
        (&mut archive)
            .take(self.most_bytes as u64)
            .read_to_end(&mut text)?;
        let is_all = text.len() < self.most_bytes;
        let lines = self.parse(&text, is_all).map_err(io::Error::other)?;
        hash.update(&text[..lines.bytes]);
        Ok(Some(Rest {
            lines,
            sha256: format!("{:x}", hash.finalize()),
            read_bytes: known + text.len() as u64,
            is_all,
        }))
    }

    fn parse(&self, text: &[u8], is_all: bool) -> Result<MetricLines, String> {
        let most = self.most_bytes >> 20;
        if !is_growing(&self.path) {
            if !is_all {
                return Err(format!("it has more than {most} MiB"));
            }
            return Ok(MetricLines {
                points: read_object(text).map_err(|error| error.to_string())?,
                bytes: text.len(),
                ..MetricLines::default()
            });
        }
        let lines = read_lines(text, self.is_final && is_all);
        if lines.bytes == 0 && !is_all {
            return Err(format!("a line of it has more than {most} MiB"));
        }
        Ok(lines)
    }
}

/// Keeps the points. A job may put a secret into a name.
fn keep(work: &Work<'_>, points: &[Point], attempt: usize) -> io::Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    let masked = points.iter().map(|point| Point {
        name: work.masker.masked(&point.name),
        ..*point
    });
    let points: Vec<_> = masked.collect();
    MetricsWriter::open(work.folder.path(), attempt)?.append(&points, now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::pause;

    #[test]
    fn a_file_is_read_the_more_seldom_the_more_it_costs() {
        let milliseconds = Duration::from_millis;
        for (bytes, took, expected) in [
            (0, 1, 20),
            (1 << 20, 10, 1000),
            (50 << 20, 200, 50_000),
            (50 << 20, 5000, 100_000),
            (100 << 30, 1000, 600_000),
            (100 << 30, 100_000, 2_000_000),
        ] {
            assert_eq!(pause(bytes, milliseconds(took)), milliseconds(expected));
        }
    }
}

//! `metrics.jsonl`: each value of a run's metrics, in the order in which they came.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Point;
use crate::model::number;
use crate::records::durable;

const FILE: &str = "metrics.jsonl";
/// No line that jobctl writes is longer.
const LONGEST_LINE: u64 = 64 << 10;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    t: Timestamp,
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    #[serde(with = "number")]
    value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<f64>,
    /// Nothing for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<usize>,
}

/// Appends to a run's series of metrics.
#[derive(Debug)]
pub struct MetricsWriter {
    file: File,
    attempt: usize,
}

impl MetricsWriter {
    /// Opens the series in a run's folder for an attempt of the run, from 1; makes them if there are none.
    ///
    /// # Errors
    ///
    /// The file can't be opened.
    pub fn open(folder: &Path, attempt: usize) -> io::Result<Self> {
        let mut file = durable::append(&folder.join(FILE))?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                // Whoever wrote it was killed in the middle of a line.
                file.write_all(b"\n")?;
            }
        }
        Ok(Self { file, attempt })
    }

    /// The attempt that what comes is of.
    #[must_use]
    pub fn attempt(&self) -> usize {
        self.attempt
    }

    /// What comes from now on is of the next attempt.
    pub fn next_attempt(&mut self) {
        self.attempt += 1;
    }

    /// Appends values; those that do not say when they were reported were reported now, in this attempt.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn append(&mut self, points: &[Point], now: Timestamp) -> io::Result<()> {
        let mut bytes = Vec::new();
        for point in points {
            let line = Line {
                t: point.time.unwrap_or(now),
                name: point.name.as_str().into(),
                value: point.value,
                step: point.step.filter(|step| step.is_finite()),
                attempt: Some(point.attempt.unwrap_or(self.attempt)).filter(|attempt| *attempt > 1),
            };
            serde_json::to_writer(&mut bytes, &line)?;
            bytes.push(b'\n');
        }
        let before = self.file.metadata()?.len();
        self.file.write_all(&bytes).inspect_err(|_| {
            // All or nothing, as the same may be appended again.
            let _ = self.file.set_len(before);
        })
    }
}

/// The metrics of a run in the order in which they came: of one name, or of all. Lines that are something
/// else are passed over.
///
/// # Errors
///
/// The file is there, and can't be read.
pub fn series(folder: &Path, name: Option<&str>) -> io::Result<Vec<Point>> {
    let file = match durable::open(&folder.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut points = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(points);
        }
        let Ok(line) = serde_json::from_slice::<Line<'_>>(&line) else {
            continue;
        };
        if name.is_none_or(|name| name == line.name) {
            points.push(Point {
                name: line.name.into_owned(),
                value: line.value,
                step: line.step,
                attempt: Some(line.attempt.unwrap_or(1)),
                time: Some(line.t),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;

    use super::{MetricsWriter, Point, series};

    fn point(name: &str, value: f64, step: Option<f64>, second: i64) -> Point {
        Point {
            name: name.to_owned(),
            value,
            step,
            attempt: Some(1),
            time: Some(Timestamp::from_second(second).unwrap()),
        }
    }

    #[test]
    fn values_are_kept_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(series(folder.path(), None).unwrap(), []);
        let points = [
            point("loss", 0.1 + 0.2, Some(1.0), 5),
            point("a \"b\"\n", f64::MIN_POSITIVE, None, 6),
            Point {
                attempt: Some(2),
                ..point("loss", 1e300, Some(2.5), 7)
            },
        ];
        let mut writer = MetricsWriter::open(folder.path(), 1).unwrap();
        let now = Timestamp::from_second(5).unwrap();
        let untimed = Point {
            attempt: None,
            time: None,
            ..points[0].clone()
        };
        writer.append(&[untimed], now).unwrap();
        writer.append(&points[1..2], now).unwrap();
        writer.next_attempt();
        let last = Point {
            attempt: None,
            ..points[2].clone()
        };
        writer.append(&[last], now).unwrap();
        assert_eq!(series(folder.path(), None).unwrap(), points);
        let loss = [points[0].clone(), points[2].clone()];
        assert_eq!(series(folder.path(), Some("loss")).unwrap(), loss);
        let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        assert_eq!(
            text.lines().next().unwrap(),
            r#"{"t":"1970-01-01T00:00:05Z","name":"loss","value":0.30000000000000004,"step":1.0}"#
        );
        assert!(text.ends_with("\"step\":2.5,\"attempt\":2}\n"), "{text}");
    }

    #[test]
    fn what_is_not_finite_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5];
        let points = values.map(|value| point("loss", value, Some(1.0), 0));
        let mut writer = MetricsWriter::open(folder.path(), 1).unwrap();
        writer.append(&points, Timestamp::UNIX_EPOCH).unwrap();
        let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        assert_eq!(
            text.lines().next().unwrap(),
            r#"{"t":"1970-01-01T00:00:00Z","name":"loss","value":"NaN","step":1.0}"#
        );
        let read = series(folder.path(), None).unwrap();
        assert!(read[0].value.is_nan() && read[0].step == Some(1.0));
        assert_eq!(read[1..], points[1..]);
    }

    #[test]
    fn a_line_that_was_cut_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let kept = [point("a", 1.0, None, 0), point("a", 2.0, None, 0)];
        for kept in &kept {
            let mut writer = MetricsWriter::open(folder.path(), 1).unwrap();
            writer.append(std::slice::from_ref(kept), now).unwrap();
            let path = folder.path().join("metrics.jsonl");
            let mut text = fs::read_to_string(&path).unwrap();
            text.push_str("{\"t\":\"1970-01-01T00");
            fs::write(&path, text).unwrap();
        }
        assert_eq!(series(folder.path(), None).unwrap(), kept);
    }
}

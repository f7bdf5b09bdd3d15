//! What BuildKit tells while it builds, as our events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};

use super::sources::Sources;
use crate::engine::build::{Mask, NamedSource};
use crate::event::{Event, Events, Outcome, Step, StepId, Stream, Unit};
use crate::model::without_access;

/// How many of a step's last lines are repeated when it fails.
const TAIL_LINES: usize = 20;
/// BuildKit's number for standard error.
const STDERR: i64 = 2;

/// How BuildKit's check begins that an image was found, but for another platform.
const FOREIGN_BASE: &str = "InvalidBaseImagePlatform: ";

/// BuildKit's vertices, as steps.
pub(super) struct Vertices {
    events: Events,
    parent: Option<StepId>,
    mask: Arc<Mask>,
    known: BTreeMap<String, Known>,
    /// That a base image is for another platform than the build.
    pub(super) foreign_base: Option<String>,
    sources: Sources,
}

#[derive(Debug, Default)]
struct Known {
    name: String,
    /// The step while it is under way.
    step: Option<Step>,
    is_reported: bool,
    error: Option<String>,
    /// The beginning of a line whose end has not come yet, by stream.
    partial: BTreeMap<i64, Vec<u8>>,
    tail: VecDeque<String>,
}

impl Vertices {
    pub(super) fn new(events: Events, parent: Option<StepId>, mask: Arc<Mask>) -> Self {
        Self {
            events,
            parent,
            mask,
            known: BTreeMap::new(),
            foreign_base: None,
            sources: Sources::default(),
        }
    }

    /// Takes what BuildKit tells.
    pub(super) fn take(&mut self, told: StatusResponse) {
        let StatusResponse {
            vertexes,
            statuses,
            logs,
            warnings,
        } = told;
        // A step's last lines come with its end: they are taken first, once it has begun.
        let (begun, ended): (Vec<_>, Vec<_>) = vertexes
            .into_iter()
            .partition(|vertex| vertex.completed.is_none());
        for vertex in &begun {
            self.begin(vertex);
        }
        for vertex in &ended {
            self.begin(vertex);
        }
        for log in logs {
            self.log(&log);
        }
        for status in &statuses {
            self.progress(status);
        }
        for vertex in &ended {
            self.end(vertex);
        }
        for warning in warnings {
            let text = String::from_utf8_lossy(&warning.short);
            let text = without_access(&(self.mask)(&text)).into_owned();
            match text.strip_prefix(FOREIGN_BASE) {
                Some(words) => self.foreign_base = Some(words.to_owned()),
                None => self.events.send(Event::Warning(text)),
            }
        }
    }

    fn begin(&mut self, vertex: &Vertex) {
        self.sources.note(vertex);
        let known = self.known.entry(vertex.digest.clone()).or_default();
        if known.name.is_empty() {
            known.name = without_access(&(self.mask)(&vertex.name)).into_owned();
        }
        let is_news = vertex.started.is_some() || vertex.cached;
        if is_news && known.step.is_none() && !known.is_reported {
            known.step = Some(self.events.step(self.parent, known.name.clone()));
        }
    }

    fn end(&mut self, vertex: &Vertex) {
        let elapsed = elapsed(vertex.started.as_ref(), vertex.completed.as_ref());
        let Some(known) = self.known.get_mut(&vertex.digest) else {
            return;
        };
        known.flush(&*self.mask);
        let is_cancelled = vertex.error.ends_with("context canceled");
        let outcome = if !vertex.error.is_empty() && !is_cancelled {
            let error = without_access(&(self.mask)(&vertex.error)).into_owned();
            known.error = Some(error.clone());
            Outcome::Failed(error)
        } else if is_cancelled {
            Outcome::Cancelled
        } else if vertex.cached {
            Outcome::Cached
        } else {
            Outcome::Done
        };
        if let Some(step) = known.step.take() {
            known.is_reported = true;
            step.finish_after(outcome, elapsed);
        }
    }

    fn log(&mut self, log: &VertexLog) {
        let Some(known) = self.known.get_mut(&log.vertex) else {
            return;
        };
        let mut bytes = known.partial.remove(&log.stream).unwrap_or_default();
        bytes.extend_from_slice(&log.msg);
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            known.line(log.stream, &rest[..end], &*self.mask);
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            known.partial.insert(log.stream, rest.to_vec());
        }
    }

    fn progress(&mut self, status: &VertexStatus) {
        let known = self.known.get(&status.vertex);
        let Some(step) = known.and_then(|known| known.step.as_ref()) else {
            return;
        };
        let current = u64::try_from(status.current).unwrap_or(0);
        if current > 0 {
            let total = u64::try_from(status.total).ok().filter(|total| *total > 0);
            step.progress(current, total, Unit::Bytes);
        }
    }

    /// What the image is made from.
    pub(super) fn sources(&self) -> Vec<NamedSource> {
        self.sources.named(&*self.mask)
    }

    /// The step that failed first, with its last lines.
    pub(super) fn failed(&self) -> Option<(String, Vec<String>)> {
        let failed = self.known.values().find(|known| known.error.is_some())?;
        let tail = failed.tail.iter().cloned().collect();
        Some((failed.name.clone(), tail))
    }
}

impl Known {
    fn line(&mut self, stream: i64, bytes: &[u8], mask: &Mask) {
        let line = mask(&String::from_utf8_lossy(bytes));
        let stream = if stream == STDERR {
            Stream::Stderr
        } else {
            Stream::Stdout
        };
        if let Some(step) = &self.step {
            step.log(stream, line.clone());
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn flush(&mut self, mask: &Mask) {
        for (stream, bytes) in std::mem::take(&mut self.partial) {
            self.line(stream, &bytes, mask);
        }
    }
}

fn elapsed(started: Option<&Timestamp>, completed: Option<&Timestamp>) -> Duration {
    let nanoseconds =
        |time: &Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let (Some(started), Some(completed)) = (started, completed) else {
        return Duration::ZERO;
    };
    let elapsed = nanoseconds(completed) - nanoseconds(started);
    u64::try_from(elapsed).map_or(Duration::ZERO, Duration::from_nanos)
}

//! Why BuildKit failed: what its error's details say.

use bollard_buildkit_proto::google::rpc;
use bollard_buildkit_proto::pb;
use prost::Message as _;
use tonic::{Code, Status};

use super::progress::Vertices;
use crate::engine::build::{BuildError, FailedStep, Mask, Place};
use crate::model::without_access;

/// `errdefs.Source` of BuildKit's `errdefs.proto`: where in the Dockerfile.
#[derive(Clone, PartialEq, prost::Message)]
struct Source {
    #[prost(message, optional, tag = "1")]
    info: Option<pb::SourceInfo>,
    #[prost(message, repeated, tag = "2")]
    ranges: Vec<pb::Range>,
}

/// A failed `Solve` in the user's words.
pub(super) fn of_status(status: &Status, vertices: &Vertices, mask: &Mask) -> BuildError {
    let message = without_access(&mask(status.message())).into_owned();
    let is_gone = matches!(status.code(), Code::Unavailable | Code::Aborted)
        || (status.code() == Code::Unknown && std::error::Error::source(status).is_some());
    let (name, log) = vertices.failed().unzip();
    if name.is_none() && is_gone {
        return BuildError::Interrupted;
    }
    if message.contains("no space left on device") {
        return BuildError::DiskFull { message };
    }
    BuildError::Step(Box::new(FailedStep {
        message: words(&message, name.is_some()),
        name,
        log: log.unwrap_or_default(),
        place: place(status.details()),
    }))
}

/// The engine's words. Of a command that failed, its code is all that the step does not say.
fn words(message: &str, has_step: bool) -> String {
    match message.rsplit_once("exit code: ") {
        Some((_, code)) if has_step => format!("it ended with exit code {code}"),
        _ => short(message).to_owned(),
    }
}

/// Without the frame that BuildKit puts around each message.
fn short(message: &str) -> &str {
    [
        "failed to solve: ",
        "failed to solve with frontend dockerfile.v0: ",
        "failed to create LLB definition: ",
    ]
    .iter()
    .fold(message, |message, frame| {
        message.strip_prefix(frame).unwrap_or(message)
    })
}

fn place(details: &[u8]) -> Option<Place> {
    let status = rpc::Status::decode(details).ok()?;
    let detail = status
        .details
        .iter()
        .find(|detail| detail.type_url.ends_with("errdefs.Source"))?;
    let source = Source::decode(detail.value.as_slice()).ok()?;
    let line = |position: Option<pb::Position>| usize::try_from(position?.line).ok();
    let first = line(source.ranges.first()?.start)?;
    let last = line(source.ranges.last()?.end).unwrap_or(first);
    Some(Place {
        text: String::from_utf8_lossy(&source.info?.data).into_owned(),
        lines: first..=last.max(first),
    })
}

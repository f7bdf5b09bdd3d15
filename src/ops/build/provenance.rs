//! What an image was built from, how and when, as others read it: SLSA provenance v1 in a statement of
//! in-toto's (v1).
//!
//! That is SLSA's build level 1: the provenance is there. It is not signed, and whoever may write the
//! folder may change it.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::prepare::Prepared;
use crate::model::{Digest, ImageRef};
use crate::plan::build::{BuildSpec, Origin};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What the parameters mean: `docs/reference/provenance.md`.
const BUILD_TYPE: &str = "https://jobctl.dev/build/v1";
/// A build by jobctl, on whatever machine.
const BUILDER: &str = "https://jobctl.dev/jobctl";

/// When a build began and ended, and what the engine says that it is.
pub(super) struct Course<'a> {
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) engine: Option<&'a str>,
}

/// The statement of an image. Values of secrets are not in it, be they build arguments or mounted.
pub(super) fn statement(
    spec: &BuildSpec,
    prepared: &Prepared,
    origins: &[Origin],
    id: &Digest,
    course: &Course<'_>,
) -> Value {
    let recipe = &spec.recipe;
    let subjects = prepared.plan.tags.iter().map(ImageRef::to_string);
    let subjects = subjects.map(|name| json!({ "name": name, "digest": sha256(id) }));
    let origins = origins.iter().map(|Origin { name, digest }| {
        let key = if name.contains("://") { "uri" } else { "name" };
        match digest {
            Some(digest) => json!({ key: name, "digest": sha256(digest) }),
            None => json!({ key: name }),
        }
    });
    let dockerfile = Digest::of(&prepared.dockerfile);
    let mut dependencies = vec![
        json!({ "name": "context", "digest": sha256(&prepared.context) }),
        json!({ "name": "dockerfile", "digest": sha256(&dockerfile) }),
    ];
    let committed = prepared.git.iter().filter(|git| !git.is_new);
    dependencies.extend(committed.map(|git| {
        let mut source = json!({
            "name": "source",
            "digest": { "gitCommit": git.revision },
            "annotations": { "isDirty": git.is_dirty },
        });
        if let Some(origin) = &git.origin {
            source["uri"] = json!(format!("git+{origin}"));
        }
        source
    }));
    dependencies.extend(origins);
    let dockerfile = &recipe.dockerfile;
    let inside = dockerfile.strip_prefix(&recipe.context).ok();
    let inside = inside.or_else(|| dockerfile.file_name().map(Path::new));
    json!({
        "_type": STATEMENT,
        "subject": subjects.collect::<Vec<_>>(),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "name": spec.title,
                    "version": prepared.plan.version.as_ref().map(ToString::to_string),
                    "dockerfile": inside.map(|path| path.display().to_string()),
                    "target": recipe.target,
                    "platform": recipe.platform,
                    "buildArgs": spec.shown_args(),
                    "secrets": recipe.secrets.keys().collect::<Vec<_>>(),
                    "sshAgents": recipe.agents.keys().collect::<Vec<_>>(),
                },
                "internalParameters": {
                    "plan": prepared.plan.digest.as_str(),
                    "sourceDateEpoch": prepared.plan.epoch,
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": {
                        "jobctl": env!("CARGO_PKG_VERSION"),
                        "engine": course.engine.unwrap_or("unknown"),
                    },
                },
                "metadata": {
                    "invocationId": format!("urn:uuid:{}", Uuid::new_v4()),
                    "startedOn": seconds(course.started),
                    "finishedOn": seconds(course.finished),
                },
            },
        },
    })
}

/// Where an image's statement is in a folder of statements.
pub(super) fn place(folder: &Path, image: &Digest) -> PathBuf {
    folder.join(image.encoded()).join("provenance.json")
}

fn sha256(digest: &Digest) -> Value {
    json!({ "sha256": digest.encoded() })
}

/// A time to the second, as SLSA wants it.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

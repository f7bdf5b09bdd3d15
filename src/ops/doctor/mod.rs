//! Looks whether everything that jobctl needs is there and works.
//!
//! All checks run at once, each with a deadline, so that a hung engine costs one of them its answer
//! and the others nothing. A fault is found by exactly one check: those that can't look because of
//! it are skipped.

mod docker;
mod engine;
mod local;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::docker::EndpointFlags;
use crate::event::{Events, Outcome};
use crate::facts::Environment;
use crate::manifest::Manifest;

/// How long the engine may take for one answer.
const ENGINE_DEADLINE: Duration = Duration::from_secs(4);
/// How long any other check may take.
const LOCAL_DEADLINE: Duration = Duration::from_secs(2);

/// What the checks look at.
#[derive(Debug)]
pub struct Question {
    /// What the command line says about the engine.
    pub endpoint: EndpointFlags,
    /// The process's environment.
    pub environment: Environment,
    /// The manifest that was found, if any, and what it says, if it is valid.
    pub manifest: Option<(PathBuf, Option<Box<Manifest>>)>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub status: Status,
    /// What is the case.
    pub detail: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It works.
    Ok,
    /// It works, but something is to be looked at.
    Warning,
    /// It does not work.
    Failure,
    /// It could not be looked at, or does not matter here.
    Skipped,
}

/// A check and what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its short name, which stays the same.
    pub id: &'static str,
    /// What it found.
    pub finding: Finding,
    /// How long it took.
    pub elapsed: Duration,
}

/// What all checks found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The checks, always in the same order.
    pub checks: Vec<Check>,
    /// Whether the engine answered.
    pub is_engine_reached: bool,
}

impl Diagnosis {
    /// How many checks ended so.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.checks
            .iter()
            .filter(|check| check.finding.status == status)
            .count()
    }
}

impl Finding {
    fn ok(detail: impl Into<String>) -> Self {
        Self::new(Status::Ok, detail)
    }

    fn warning(detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..Self::new(Status::Warning, detail)
        }
    }

    fn failure(detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..Self::new(Status::Failure, detail)
        }
    }

    fn skipped(detail: impl Into<String>) -> Self {
        Self::new(Status::Skipped, detail)
    }

    fn new(status: Status, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            fix: None,
        }
    }
}

/// Runs all checks.
pub async fn diagnose(question: Question, events: &Events) -> Diagnosis {
    let step = events.step(None, "look at this machine");
    let question = Arc::new(question);
    let (engine, manifest, config, credentials, ssh, state, git, proxy, ca, terminal) = tokio::join!(
        Box::pin(engine::checks(&question)),
        local("jobs-yaml", &question, local::manifest),
        local("docker-config", &question, docker::config),
        local("credentials", &question, docker::credentials),
        local("ssh", &question, docker::ssh),
        local("state-directory", &question, local::state_folder),
        local("git", &question, local::git),
        local("proxy", &question, local::proxy),
        local("ca-bundle", &question, local::ca_bundle),
        local("terminal", &question, local::terminal),
    );
    let is_engine_reached = engine
        .iter()
        .any(|check| check.id == "engine" && check.finding.status == Status::Ok);
    let mut checks = vec![manifest, config];
    checks.extend(engine);
    checks.extend([ssh, credentials, proxy, ca, state, git, terminal]);
    step.finish(Outcome::Done);
    Diagnosis {
        checks,
        is_engine_reached,
    }
}

/// Runs a check that looks at files, which can be on a disk or a network that does not answer.
async fn local(
    id: &'static str,
    question: &Arc<Question>,
    look: fn(&Question) -> Finding,
) -> Check {
    let question = Arc::clone(question);
    let looking = tokio::task::spawn_blocking(move || look(&question));
    run(id, async {
        match tokio::time::timeout(LOCAL_DEADLINE, looking).await {
            Ok(Ok(finding)) => finding,
            Ok(Err(_)) => Finding::failure("the check itself failed", "report it as a bug"),
            Err(_) => Finding::failure(
                format!(
                    "no answer from the disk within {} s",
                    LOCAL_DEADLINE.as_secs()
                ),
                "look for a network file system or a disk that hangs: `df`",
            ),
        }
    })
    .await
}

/// Runs one check.
async fn run(id: &'static str, look: impl Future<Output = Finding>) -> Check {
    let start = Instant::now();
    let finding = look.await;
    Check {
        id,
        finding,
        elapsed: start.elapsed(),
    }
}

//! Checks of the engine: where it is, whether it answers, what it can.

use std::io;

use super::{Check, ENGINE_DEADLINE, Finding, Question, run};
use crate::engine::docker::client::Deadlines;
use crate::engine::docker::endpoint::resolve;
use crate::engine::docker::{Address, DockerConfig, DockerEngine, Endpoint, EngineError};
use crate::facts::{EngineFacts, host};
use crate::manifest::Manifest;
use crate::manifest::schema::Job;
use crate::model::Gpus;

/// The room that images and containers need: less is warned of, in bytes.
const DISK_WARNING: u64 = 10_000_000_000;
/// The room without which nothing can be built, in bytes.
const DISK_FAILURE: u64 = 1_000_000_000;
/// The files without which nothing can be built.
const FILES_FAILURE: u64 = 10_000;
/// How far two clocks may be apart, in seconds.
const CLOCK_TOLERANCE: f64 = 2.0;

/// How a check looks at an engine that was reached.
type Look = fn(&Question, &Reached) -> Finding;

/// The checks that need the engine, in order.
const CHECKS: [(&str, Look); 9] = [
    ("engine-api", api),
    ("buildkit", buildkit),
    ("engine-disk", disk),
    ("engine-clock", clock),
    ("memory-limit", memory),
    ("confinement", confinement),
    ("init", init),
    ("live-restore", live_restore),
    ("gpu", gpu),
];
/// An engine that answered.
struct Reached {
    facts: EngineFacts,
    is_local: bool,
    /// How long the answer took: so far its clock may seem to be wrong.
    answer_seconds: f64,
}

/// Where the engine is, whether it answers, and the checks of what it can.
pub(super) async fn checks(question: &Question) -> Vec<Check> {
    let (finding, endpoint) = context(question);
    let context = run("context", std::future::ready(finding)).await;
    let mut reached = None;
    let engine = async {
        let Some(endpoint) = endpoint else {
            return Finding::skipped("it is not known where the engine is");
        };
        let is_ssh = matches!(endpoint.address, Address::Ssh(_));
        if is_ssh && question.environment.find_program("ssh").is_none() {
            return Finding::skipped("`ssh` is missing");
        }
        match tokio::time::timeout(ENGINE_DEADLINE, reach(question, endpoint)).await {
            Ok(Ok((finding, found))) => {
                reached = Some(found);
                finding
            }
            Ok(Err(error)) => failure(&error),
            Err(_) => Finding::failure(
                format!(
                    "no answer from the engine within {} s",
                    ENGINE_DEADLINE.as_secs()
                ),
                "look whether the machine is overloaded: `uptime`",
            ),
        }
    };
    let engine = run("engine", Box::pin(engine)).await;
    let mut checks = vec![context, engine];
    for (id, look) in CHECKS {
        let finding = match &reached {
            Some(reached) => look(question, reached),
            None => Finding::skipped("the engine can't be asked"),
        };
        checks.push(run(id, std::future::ready(finding)).await);
    }
    checks
}

fn failure(error: &EngineError) -> Finding {
    Finding::failure(error.to_string(), error.help())
}

fn context(question: &Question) -> (Finding, Option<Endpoint>) {
    let Ok(config) = DockerConfig::read(&question.environment) else {
        return (
            Finding::skipped("docker's configuration can't be read"),
            None,
        );
    };
    match resolve(&question.endpoint, &question.environment, &config) {
        Err(error) => (failure(&EngineError::from(error)), None),
        Ok(endpoint) => {
            let detail = format!("{} (by {})", endpoint.address, endpoint.origin);
            let finding = match &endpoint.overridden {
                None => Finding::ok(detail),
                Some(context) => Finding::warning(
                    format!("{detail}; the context `{context}` is not used"),
                    format!(
                        "choose one: `unset DOCKER_HOST`, or `docker context use default` instead of `{context}`"
                    ),
                ),
            };
            (finding, Some(endpoint))
        }
    }
}

async fn reach(question: &Question, endpoint: Endpoint) -> Result<(Finding, Reached), EngineError> {
    // A little less than the check's own, so that it is the engine's error that is shown.
    let call = ENGINE_DEADLINE.mul_f64(0.9);
    let deadlines = Deadlines {
        connect: call,
        call,
    };
    let ssh = question.environment.find_program("ssh");
    let engine = DockerEngine::connect(endpoint, ssh, deadlines).await?;
    let start = std::time::Instant::now();
    let mut facts = engine.facts().await?;
    if facts.has_init.is_none() {
        facts.has_init = engine.finds_init().await;
    }
    let name = if facts.is_podman {
        "Podman"
    } else {
        "Docker Engine"
    };
    let finding = Finding::ok(format!(
        "{name} {}, {}, {}",
        facts.version, facts.platform, facts.storage_driver
    ));
    let reached = Reached {
        facts,
        is_local: engine.is_local(),
        answer_seconds: start.elapsed().as_secs_f64(),
    };
    Ok((finding, reached))
}

/// An upgrade of the engine restarts it, in the middle of a training.
fn live_restore(_: &Question, reached: &Reached) -> Finding {
    match reached.facts.has_live_restore {
        _ if reached.facts.is_podman => Finding::ok("Podman's containers need no daemon"),
        None => Finding::skipped("the engine does not report it"),
        Some(true) => Finding::ok("jobs keep running while the engine restarts"),
        Some(false) => Finding::warning(
            "jobs are stopped when the engine restarts",
            "set `\"live-restore\": true` in /etc/docker/daemon.json, or have such jobs run again: \
             `retry: { attempts: 2, on: [infra] }`",
        ),
    }
}

fn api(question: &Question, reached: &Reached) -> Finding {
    let newest = &reached.facts.api_version;
    match question.environment.get_non_empty("DOCKER_API_VERSION") {
        Some(asked) if asked != newest => Finding::warning(
            format!("DOCKER_API_VERSION asks for {asked}, but jobctl uses the engine's {newest}"),
            "unset it: `unset DOCKER_API_VERSION`",
        ),
        _ => Finding::ok(newest),
    }
}

fn buildkit(_: &Question, reached: &Reached) -> Finding {
    if reached.facts.has_buildkit {
        return Finding::ok("it is there");
    }
    let fix = if reached.facts.is_podman {
        "build on a Docker Engine if the Dockerfile mounts secrets or caches: `--host …`"
    } else {
        "update the engine: BuildKit is part of Docker Engine 18.09 and newer"
    };
    Finding::warning(
        "it is not there: images are built by the classic builder",
        fix,
    )
}

fn disk(_: &Question, reached: &Reached) -> Finding {
    let Some(folder) = &reached.facts.root_dir else {
        return Finding::skipped("the engine does not say where it keeps its data");
    };
    if !reached.is_local {
        return Finding::skipped("the engine is on another machine");
    }
    let room = match host::room(folder) {
        Ok(room) => room,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Finding::skipped(format!("`{}` is not for this user", folder.display()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::skipped(format!(
                "`{}` is not on this machine: the engine has other files",
                folder.display()
            ));
        }
        Err(error) => {
            return Finding::skipped(format!(
                "`{}` can't be looked at: {error}",
                folder.display()
            ));
        }
    };
    let fix = "remove what is not used: `docker system prune`";
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let gigabytes = room.bytes as f64 / 1e9;
    let detail = format!("{gigabytes:.1} GB free in `{}`", folder.display());
    match room.files {
        Some(files) if files < FILES_FAILURE => Finding::failure(
            format!(
                "room for {files} further files only in `{}`",
                folder.display()
            ),
            fix,
        ),
        _ if room.bytes < DISK_FAILURE => Finding::failure(detail, fix),
        _ if room.bytes < DISK_WARNING => Finding::warning(detail, fix),
        _ => Finding::ok(detail),
    }
}

fn clock(_: &Question, reached: &Reached) -> Finding {
    let Some(time) = reached.facts.time else {
        return Finding::skipped("the engine does not say what time it has");
    };
    let apart = host::now().duration_since(time).as_secs_f64();
    let tolerance = CLOCK_TOLERANCE + reached.answer_seconds;
    if (-CLOCK_TOLERANCE..=tolerance).contains(&apart) {
        return Finding::ok("it agrees with this machine's");
    }
    let direction = if apart > 0.0 { "behind" } else { "ahead of" };
    Finding::warning(
        format!("it is {:.0} s {direction} this machine's", apart.abs()),
        "set both by the network: `sudo timedatectl set-ntp true`",
    )
}

fn memory(_: &Question, reached: &Reached) -> Finding {
    let version = match reached.facts.cgroup_version {
        Some(version) => format!("cgroup v{version}"),
        None => "cgroups".to_owned(),
    };
    if reached.facts.can_limit_memory {
        return Finding::ok(version);
    }
    Finding::warning(
        format!("the engine can't limit a job's memory ({version})"),
        "start the kernel with `cgroup_enable=memory`",
    )
}

fn confinement(_: &Question, reached: &Reached) -> Finding {
    let security = &reached.facts.security;
    if security.iter().any(|option| option == "seccomp") {
        return Finding::ok(security.join(", "));
    }
    Finding::warning(
        "containers are not confined by seccomp",
        "use a kernel and an engine with seccomp, and no `seccomp-profile: unconfined`",
    )
}

fn init(_: &Question, reached: &Reached) -> Finding {
    let (program, package) = if reached.facts.is_podman {
        ("catatonit", "catatonit")
    } else {
        ("docker-init", "tini")
    };
    match reached.facts.has_init {
        Some(true) => Finding::ok("it is there"),
        Some(false) => Finding::warning(
            format!("the engine lacks `{program}`, which jobs are started under"),
            format!("install it: `sudo apt-get install {package}`; or run without: `--init=false`"),
        ),
        None => Finding::skipped("the engine says it only once it has an image"),
    }
}

fn gpu(question: &Question, reached: &Reached) -> Finding {
    let has_runtime = reached
        .facts
        .runtimes
        .iter()
        .any(|runtime| runtime == "nvidia");
    let wanting = question
        .manifest
        .as_ref()
        .and_then(|(_, manifest)| manifest.as_deref())
        .and_then(wants_gpus);
    // What is on this machine says nothing of another one's engine.
    let nvidia = if reached.is_local {
        host::nvidia()
    } else {
        host::NvidiaFacts::default()
    };
    let has_cdi = !nvidia.cdi_specs.is_empty();
    let fix = "install NVIDIA's container toolkit: `sudo apt-get install nvidia-container-toolkit`, \
                then `sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart \
                docker`";
    match (wanting, &nvidia.driver) {
        _ if has_runtime && nvidia.driver.is_none() && reached.is_local => Finding::warning(
            "the engine has NVIDIA's runtime, but this machine has no driver",
            "install the driver: `sudo apt-get install nvidia-driver`",
        ),
        (_, Some(driver)) if has_runtime || has_cdi => {
            Finding::ok(format!("driver {driver}, usable by the engine"))
        }
        (_, None) if has_runtime => Finding::ok("the engine has NVIDIA's runtime"),
        (Some((job, Others::CanRun)), None) => Finding::warning(
            format!("there is no GPU here, and the job `{job}` asks for one; other jobs can run"),
            fix,
        ),
        (Some((job, _)), _) => Finding::failure(
            format!("the job `{job}` asks for GPUs, but the engine has no NVIDIA runtime"),
            fix,
        ),
        (None, Some(driver)) => Finding::warning(
            format!("this machine has a GPU (driver {driver}), but the engine can't use it"),
            fix,
        ),
        (None, None) => Finding::ok("none here, and no job asks for one"),
    }
}

/// What the jobs can do that ask for no GPUs.
enum Others {
    CanRun,
    AreNone,
}

/// The first job that can't run without GPUs, and whether there are others.
fn wants_gpus(manifest: &Manifest) -> Option<(String, Others)> {
    let wants = |job: &Job| {
        let gpus = job.gpus.as_ref().map(|gpus| &gpus.0);
        matches!(gpus, Some(Gpus::Request(_)))
    };
    let jobs = manifest.root.jobs.values();
    let (wanting, others): (Vec<_>, Vec<_>) = jobs.partition(|job| wants(&job.value));
    let others = if others.is_empty() {
        Others::AreNone
    } else {
        Others::CanRun
    };
    let first = wanting.first()?;
    Some((first.key.to_string(), others))
}

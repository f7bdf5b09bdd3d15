mod mounts;
mod variables;

use std::path::Path;

use serde_json::json;

use super::{
    Building, EnvFiles, GpuChoice, ImageChoice, Pull, RunFlags, RunPlan, Subject, bound, label,
    plan,
};
use crate::engine::run::RunSpec;
use crate::facts::Environment;
use crate::manifest::{self, Manifest};
use crate::model::{NetworkAttachment, Restart, Secret};
use crate::records::{Ending, Policy, RetryRecord};

fn caller() -> Environment {
    Environment::new([("SET", "from caller"), ("HF", "hush")], "/here")
}

/// A manifest whose job `train` has these keys.
fn manifest_of(keys: &str) -> Manifest {
    let text = format!(
        "version: 1\nname: project\njobs:\n  train:\n    image: debian:trixie-slim\n{keys}  data: {{ \
         image: debian, outputs: {{ set: /set }} }}\n"
    );
    manifest::parse(
        &text,
        Path::new("jobs.yaml"),
        Path::new("/folder"),
        &caller(),
    )
    .unwrap()
}

fn job(manifest: &Manifest) -> Subject<'_> {
    Subject::job(manifest, Some("train")).unwrap()
}

fn image() -> Subject<'static> {
    Subject::Image("debian:trixie-slim".parse().unwrap())
}

fn planned(subject: &Subject<'_>, flags: &RunFlags, files: &EnvFiles) -> RunPlan {
    plan(subject, flags, files, &caller()).unwrap()
}

/// What the container sees: `NAME=value`, or `NAME` alone for one that is taken away.
fn seen(plan: &RunPlan) -> Vec<String> {
    let variables = plan.spec.environment.iter();
    variables
        .map(|(name, value)| match value {
            Some(value) => format!("{name}={}", value.expose()),
            None => name.to_string(),
        })
        .collect()
}

/// What `--env` gives.
fn given(texts: &[&str]) -> RunFlags {
    let variable = |text: &&str| match text.split_once('=') {
        Some((name, value)) => (name.parse().unwrap(), Some(Secret::new(value))),
        None => (text.parse().unwrap(), None),
    };
    RunFlags {
        environment: texts.iter().map(variable).collect(),
        ..RunFlags::default()
    }
}

#[test]
fn gpus_are_seen_only_where_they_were_asked_for() {
    for (key, flag, gpus, hides) in [
        ("", None, GpuChoice::None, true),
        ("    gpus: none\n", None, GpuChoice::None, true),
        ("    gpus: optional\n", None, GpuChoice::Optional, false),
        ("    gpus: 1\n", None, GpuChoice::Required, false),
        ("    gpus: 0\n", None, GpuChoice::None, true),
        ("    gpus: all\n", Some("none"), GpuChoice::None, true),
        (
            "    gpus: none\n",
            Some("device=0,2"),
            GpuChoice::Required,
            false,
        ),
    ] {
        let manifest = manifest_of(key);
        let flags = RunFlags {
            gpus: flag.map(|text| text.parse().unwrap()),
            ..RunFlags::default()
        };
        let plan = planned(&job(&manifest), &flags, &EnvFiles::default());
        let is_required = gpus == GpuChoice::Required;
        assert_eq!(plan.gpus, gpus, "{key}");
        assert_eq!(plan.spec.gpus.len(), usize::from(is_required), "{key}");
        assert_eq!(!seen(&plan).is_empty(), hides, "{key}");
    }
    // Who says what NVIDIA's runtime is to do is not contradicted.
    let plan = planned(
        &image(),
        &given(&["NVIDIA_VISIBLE_DEVICES=0"]),
        &EnvFiles::default(),
    );
    assert_eq!(seen(&plan), ["NVIDIA_VISIBLE_DEVICES=0"]);
    let mut flags = RunFlags::default();
    flags.spec.runtime = Some("nvidia".to_owned());
    assert_eq!(
        seen(&planned(&image(), &flags, &EnvFiles::default())),
        [""; 0]
    );
}

#[test]
fn what_is_optional_is_settled_by_the_engine() {
    let manifest = manifest_of("    gpus: optional\n");
    for (are_there, gpus, variables) in [
        (true, 1, &[][..]),
        (false, 0, &["NVIDIA_VISIBLE_DEVICES=void"]),
    ] {
        let mut plan = planned(&job(&manifest), &RunFlags::default(), &EnvFiles::default());
        plan.settle_gpus(are_there);
        assert_eq!(plan.spec.gpus.len(), gpus);
        assert_eq!(seen(&plan), variables);
        assert_eq!(plan.variables.len(), variables.len());
    }
}

#[test]
fn arguments_replace_the_command_and_not_the_entry_point() {
    let manifest = manifest_of("    command: train --fast\n");
    let words = |texts: &[&str]| {
        texts
            .iter()
            .map(|&text| text.to_owned())
            .collect::<Vec<_>>()
    };
    for (args, entrypoint, command) in [
        (None, None, Some(words(&["train", "--fast"]))),
        (Some(words(&["ls"])), None, Some(words(&["ls"]))),
        (None, Some(words(&["sh"])), None),
        (
            Some(words(&["-c"])),
            Some(words(&["sh"])),
            Some(words(&["-c"])),
        ),
        (None, Some(words(&[])), Some(words(&["train", "--fast"]))),
    ] {
        let mut flags = RunFlags::default();
        flags.spec.command = args;
        flags.spec.entrypoint.clone_from(&entrypoint);
        let spec = planned(&job(&manifest), &flags, &EnvFiles::default()).spec;
        assert_eq!((spec.entrypoint, spec.command), (entrypoint, command));
    }
}

#[test]
fn a_container_is_confined_unless_said_otherwise() {
    let security = |options: &[&str], flag, is_privileged| {
        let mut flags = RunFlags {
            no_new_privileges: flag,
            ..RunFlags::default()
        };
        flags.spec.is_privileged = is_privileged;
        flags.spec.security = options.iter().map(|&option| option.to_owned()).collect();
        let spec = planned(&image(), &flags, &EnvFiles::default()).spec;
        assert_eq!(spec.init, Some(true));
        assert!(spec.cap_add.is_empty() && spec.cap_drop.is_empty());
        spec.security
    };
    let ours = "no-new-privileges";
    assert_eq!(security(&[], None, false), [ours]);
    assert_eq!(
        security(&["seccomp=unconfined"], None, false),
        [ours, "seccomp=unconfined"]
    );
    assert_eq!(security(&[], Some(false), false), [""; 0]);
    assert_eq!(security(&[], None, true), [""; 0]);
    assert_eq!(security(&[], Some(true), true), [ours]);
    assert_eq!(
        security(&["no-new-privileges=false"], None, false),
        ["no-new-privileges=false"]
    );
    let mut flags = RunFlags::default();
    flags.spec.init = Some(false);
    let spec = planned(&image(), &flags, &EnvFiles::default()).spec;
    assert_eq!(spec.init, Some(false));
}

#[test]
fn flags_win_over_the_job() {
    let manifest = manifest_of(
        "    resources: { cpus: 2, memory: 8gb, shm_size: 1gb }\n    network: none\n    volumes: \
         ['cache:/cache', './data:/data:ro', '/x']\n    inputs: { set: { source: ., target: /in } }\n",
    );
    let plan = planned(&job(&manifest), &RunFlags::default(), &EnvFiles::default());
    let mounts: Vec<_> = plan.spec.mounts.iter().map(ToString::to_string).collect();
    assert_eq!(
        mounts,
        ["project_cache:/cache", "/folder/data:/data:ro", "/x"]
    );
    assert_eq!(plan.spec.networks, [NetworkAttachment::of("none")]);
    let input = plan.inputs.values().next().unwrap();
    assert_eq!(input.source, Path::new("/folder"));

    let mut flags = RunFlags::default();
    flags.spec.limits.memory = Some("1gb".parse().unwrap());
    flags.spec.networks = vec![NetworkAttachment::of("host")];
    flags.spec.mounts = vec![
        "./other:/data".parse().unwrap(),
        "cache:/more".parse().unwrap(),
    ];
    flags.spec.bound = vec![bound("type=tmpfs,target=/x", Path::new("/")).unwrap()];
    let spec = planned(&job(&manifest), &flags, &EnvFiles::default()).spec;
    let mounts: Vec<_> = spec.mounts.iter().map(ToString::to_string).collect();
    assert_eq!(
        mounts,
        ["project_cache:/cache", "/here/other:/data", "cache:/more"]
    );
    let limits = [spec.limits.memory, spec.limits.shm_size];
    assert_eq!(limits.map(|size| size.unwrap().to_string()), ["1gb", "1gb"]);
    assert_eq!(spec.limits.cpus, Some("2".parse().unwrap()));
    assert_eq!(spec.networks, [NetworkAttachment::of("host")]);
}

#[test]
fn a_folder_with_a_colon_is_no_volume() {
    let mut flags = RunFlags::default();
    flags.spec.mounts = vec!["./x:/x".parse().unwrap()];
    let caller = Environment::new([("", ""); 0], "/a:b");
    let found = plan(&image(), &flags, &EnvFiles::default(), &caller).unwrap_err();
    assert_eq!(
        found[0].message,
        "the directory `/a:b/x` can't be a volume: there is a colon in its path"
    );
    assert_eq!(
        found[0].help,
        ["write `--mount 'type=bind,source=/a:b/x,target=/x'`"]
    );
}

#[test]
fn a_policy_is_the_jobs_and_the_flags() {
    let manifest = manifest_of(
        "    timeout: 2h\n    retry: { attempts: 2, on: [infra, oom], backoff: 30s }\n    outputs: \
         { model: /artifacts }\n    metrics: { files: [/m.json], log: { loss: 'loss=([0-9.]+)' } }\n",
    );
    let infra = [Ending::Infra, Ending::EngineStopped, Ending::Lost];
    let mut on = infra.to_vec();
    on.push(Ending::Oom);
    let expected = Policy {
        timeout_ms: Some(7_200_000),
        grace_ms: 10_000,
        retry: RetryRecord {
            attempts: 2,
            on: on.clone(),
            backoff_ms: 30_000,
        },
        outputs: [("model".to_owned(), "/artifacts".to_owned())].into(),
        metric_files: vec!["/m.json".to_owned()],
        metric_patterns: [("loss".to_owned(), "loss=([0-9.]+)".to_owned())].into(),
        ..Policy::default()
    };
    let plan = planned(&job(&manifest), &RunFlags::default(), &EnvFiles::default());
    assert_eq!(plan.policy, expected);

    let second = std::time::Duration::from_secs(1);
    let mut flags = RunFlags {
        timeout: Some(None),
        retries: Some(4),
        fails_on_oom: true,
        is_kept: true,
        ..RunFlags::default()
    };
    flags.spec.stop_grace = Some(second);
    let plan = planned(&job(&manifest), &flags, &EnvFiles::default());
    let retry = RetryRecord {
        attempts: 5,
        on,
        backoff_ms: 30_000,
    };
    assert_eq!(
        plan.policy,
        Policy {
            timeout_ms: None,
            grace_ms: 1000,
            retry,
            fails_on_oom: true,
            keep: true,
            ..expected
        }
    );
    flags.timeout = Some(Some(second));
    let plan = planned(&image(), &flags, &EnvFiles::default());
    assert_eq!(plan.policy.timeout_ms, Some(1000));
    assert_eq!(plan.policy.retry.on, infra);
}

#[test]
fn a_job_is_not_restarted_and_a_service_may_be() {
    let mut flags = RunFlags::default();
    flags.spec.restart = Some(Restart::Always);
    let refused = |subject: &Subject<'_>| {
        plan(subject, &flags, &EnvFiles::default(), &caller()).map_err(|found| {
            found
                .into_iter()
                .map(|diagnostic| diagnostic.message)
                .collect::<Vec<_>>()
        })
    };
    let message = "`--restart`: a job runs once, and its end is its result";
    assert_eq!(refused(&image()).unwrap_err(), [message]);
    assert_eq!(refused(&job(&manifest_of(""))).unwrap_err(), [message]);
    let manifest = manifest_of("    service: true\n");
    assert!(refused(&job(&manifest)).unwrap().policy.is_service);
}

#[test]
fn the_job_that_is_meant_is_found() {
    let manifest = manifest_of("");
    let error = |name| Subject::job(&manifest, name).unwrap_err();
    for (name, message, help) in [
        (
            None,
            "which job is to be run is not said",
            "name it: `jobctl run JOB`; there are `train`, `data`",
        ),
        (
            Some("trian"),
            "`trian` is not a job of jobs.yaml",
            "did you mean `train`?",
        ),
        (
            Some("debian:12"),
            "`debian:12` is not a job of jobs.yaml",
            "to run an image, write `jobctl run --image debian:12`",
        ),
        (
            Some("xyz"),
            "`xyz` is not a job of jobs.yaml",
            "there are `train`, `data`",
        ),
    ] {
        let error = error(name);
        assert_eq!(
            (error.message.as_str(), error.help.as_str()),
            (message, help)
        );
    }
}

#[test]
fn an_image_is_named_built_or_anothers() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let text = "version: 1\nname: p\njobs:\n  a: { build: . }\n  b: { image: 'job:a' }\n  c: { \
                image: debian }\n";
    let manifest = manifest::parse(text, Path::new("jobs.yaml"), folder.path(), &caller()).unwrap();
    let image = |name, building| {
        let subject = Subject::job(&manifest, Some(name)).unwrap();
        let flags = RunFlags {
            building,
            ..RunFlags::default()
        };
        let found = plan(&subject, &flags, &EnvFiles::default(), &caller());
        found.map_or_else(
            |found| found[0].message.clone(),
            |plan| match plan.image {
                ImageChoice::Build(items) => format!("build {}", items.len()),
                ImageChoice::Built(spec) => format!("built {}", spec.name),
                ImageChoice::Named(image) => format!("named {image}"),
                ImageChoice::OfJob(job) => format!("of {job}"),
            },
        )
    };
    for (name, building, expected) in [
        ("a", Building::Usual, "build 1"),
        ("a", Building::Asked, "build 1"),
        ("a", Building::Never, "built p-a"),
        ("b", Building::Usual, "of a"),
        ("b", Building::Asked, "`--build`: job `b` has no `build`"),
        ("c", Building::Never, "named debian"),
    ] {
        assert_eq!(image(name, building), expected);
    }
}

#[test]
fn a_job_is_recorded_without_secrets() {
    let manifest = manifest_of(
        "    environment: { A: '1', HF_TOKEN: '${HF}', SET: , B: 'x${SET}' }\n    command: train \
         --fast\n    gpus: { device_ids: ['0', '1'] }\n    resources: { memory: 8gb }\n    timeout: \
         90s\n    needs: { data: { outputs: { set: /set } } }\n",
    );
    let plan = planned(&job(&manifest), &RunFlags::default(), &EnvFiles::default());
    assert_eq!(
        plan.manifest.unwrap(),
        json!({
            "image": "debian:trixie-slim",
            "command": ["train", "--fast"],
            "gpus": "\"device=0,1\"",
            "environment": { "A": "1", "HF_TOKEN": "***", "SET": null, "B": "xfrom caller" },
            "resources": { "memory": "8gb" },
            "timeout": "1m30s",
            "needs": { "data": { "outputs": { "set": "/set" } } },
        })
    );
    let needs = plan
        .needs
        .iter()
        .map(|(job, outputs)| format!("{job} {outputs:?}"));
    assert_eq!(
        needs.collect::<Vec<_>>(),
        [r#"data {Name("set"): ContainerPath("/set")}"#]
    );
    assert_eq!(
        plan.spec.labels,
        [
            ("dev.jobctl.job".to_owned(), "train".to_owned()),
            ("dev.jobctl.project".to_owned(), "project".to_owned())
        ]
        .into()
    );
}

#[test]
fn nothing_said_is_nothing_but_our_defaults() {
    let plan = planned(&image(), &RunFlags::default(), &EnvFiles::default());
    assert_eq!(
        plan.spec,
        RunSpec {
            init: Some(true),
            security: vec!["no-new-privileges".to_owned()],
            environment: vec![(
                "NVIDIA_VISIBLE_DEVICES".parse().unwrap(),
                Some(Secret::new("void"))
            )],
            ..RunSpec::default()
        }
    );
    assert_eq!(
        (plan.pull, plan.name, plan.manifest),
        (Pull::Missing, None, None)
    );
}

#[test]
fn labels_of_our_own_are_refused() {
    assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    assert_eq!(label("a"), Ok(("a".to_owned(), String::new())));
    assert!(label("dev.jobctl.test=1").is_ok());
    assert!(label("dev.jobctl.run=1").is_err() && label("=b").is_err());
}

/// The rows of docker/cli's `TestValidateLabel`.
#[test]
fn labels_are_read_as_docker_reads_them() {
    for (text, expected) in [
        ("", None),
        (" ", None),
        (" = ", None),
        // docker keeps the blanks as a part of the name.
        ("    label=value", Some(("label", "value"))),
        ("this is a label without value", None),
        ("this is a label=value", None),
        (
            "label=a value that has whitespace",
            Some(("label", "a value that has whitespace")),
        ),
        ("label=value      ", Some(("label", "value      "))),
        ("label=    value", Some(("label", "    value"))),
        ("label", Some(("label", ""))),
        ("=label", None),
        ("label=", Some(("label", ""))),
        ("key1=value1", Some(("key1", "value1"))),
        ("key1=value1=value2", Some(("key1", "value1=value2"))),
        (
            "key1=value1=value2=value",
            Some(("key1", "value1=value2=value")),
        ),
        (
            r#"key"with"quotes={"hello"}"#,
            Some((r#"key"with"quotes"#, r#"{"hello"}"#)),
        ),
        (
            r#""quoted-label"="quoted value""#,
            Some((r#""quoted-label""#, r#""quoted value""#)),
        ),
        (
            "key'with'quotes=hello'with'quotes",
            Some(("key'with'quotes", "hello'with'quotes")),
        ),
        (
            "'quoted-label'='quoted value''",
            Some(("'quoted-label'", "'quoted value''")),
        ),
        ("a\tb=c", None),
    ] {
        let read = label(text).ok();
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read, expected, "{text:?}");
    }
}

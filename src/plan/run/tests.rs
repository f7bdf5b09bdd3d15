use std::path::Path;

use serde_json::json;

use super::{
    Building, EnvFiles, GpuChoice, ImageChoice, Pull, RunFlags, RunPlan, Subject, bound, label,
    plan,
};
use crate::diagnostic::Diagnostic;
use crate::engine::run::{Restart, RunSpec};
use crate::facts::Environment;
use crate::manifest::env_file::{EnvFile, Reading, Unset};
use crate::manifest::schema::EnvFileFormat;
use crate::manifest::{self, Manifest};
use crate::model::Secret;
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

fn env_file(name: &str, text: &str) -> (String, EnvFile) {
    let caller = caller();
    let reading = Reading {
        format: EnvFileFormat::Raw,
        caller: &caller,
        unset: Unset::Allowed,
    };
    let file = EnvFile::parse(text.as_bytes(), Path::new(name), &reading).unwrap();
    (name.to_owned(), file)
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
fn an_image_sees_what_docker_would_give_it() {
    for (file, flags, expected) in [
        ("", &[][..], &[][..]),
        ("B=1\nA=2", &[], &["B=1", "A=2"]),
        ("A=1", &["B=2", "A=3"], &["A=3", "B=2"]),
        ("A=1\nB=1\nA=2", &[], &["A=2", "B=1"]),
        ("", &["SET"], &["SET=from caller"]),
        // Takes away what the image says, and nothing that was given before.
        ("", &["NONE"], &["NONE"]),
        ("NONE=1", &["NONE"], &["NONE=1"]),
        ("NONE", &[], &[]),
        ("", &["NONE=1", "NONE"], &["NONE"]),
        ("", &["NONE", "NONE=1"], &["NONE=1"]),
        ("", &["A=", "B=c=d", "C= e "], &["A=", "B=c=d", "C= e "]),
    ] {
        let files = EnvFiles {
            of_flags: vec![env_file("f", file)],
            ..EnvFiles::default()
        };
        let plan = planned(&image(), &given(flags), &files);
        let mut expected = expected.to_vec();
        expected.push("NVIDIA_VISIBLE_DEVICES=void");
        assert_eq!(seen(&plan), expected, "{file:?} {flags:?}");
    }
}

#[test]
fn later_ones_win_and_say_where_they_come_from() {
    let manifest = manifest_of(
        "    environment: { C: c3, D: d3, E: e3, HF_TOKEN: '${HF}', SET: }\n    gpus: optional\n",
    );
    let files = EnvFiles {
        of_job: vec![
            env_file("one.env", "A=a1\nB=b1\nC=c1"),
            env_file("two.env", "B=b2"),
        ],
        of_flags: vec![env_file("f.env", "D=d4\nhttp_proxy=file")],
    };
    let mut flags = given(&["E=e5"]);
    for (name, value) in [
        ("http_proxy", "http://u:p@proxy"),
        ("no_proxy", "here"),
        ("C", "a job's own wins"),
        ("E", "--env wins"),
    ] {
        flags.proxies.insert(name.to_owned(), Secret::new(value));
    }
    let plan = planned(&job(&manifest), &flags, &files);
    assert_eq!(
        seen(&plan),
        [
            "A=a1",
            "B=b2",
            "C=c3",
            "D=d4",
            "E=e5",
            "HF_TOKEN=hush",
            "SET=from caller",
            "http_proxy=http://u:p@proxy",
            "no_proxy=here",
        ]
    );
    let records = plan.variables.iter().map(|variable| {
        let value = variable.value.as_deref().unwrap_or("-");
        let is_secret = if variable.is_secret { " secret" } else { "" };
        format!("{} {} {value}{is_secret}", variable.name, variable.origin)
    });
    assert_eq!(
        records.collect::<Vec<_>>(),
        [
            "A one.env -",
            "B two.env -",
            "C jobs.yaml c3",
            "D f.env -",
            "E --env -",
            "HF_TOKEN jobs.yaml - secret",
            "SET jobs.yaml -",
            "http_proxy docker's config.json - secret",
            "no_proxy docker's config.json -",
        ]
    );
    assert_eq!(plan.secrets, ["hush", "http://u:p@proxy"].map(Secret::new));
}

#[test]
fn what_the_manifest_calls_a_secret_is_one() {
    let text = "version: 1\nname: p\nsecrets: { key: { environment: HF } }\njobs:\n  a:\n    \
                image: debian\n    environment: { HF: }\n";
    let manifest =
        manifest::parse(text, Path::new("jobs.yaml"), Path::new("/"), &caller()).unwrap();
    let subject = Subject::job(&manifest, None).unwrap();
    let plan = planned(&subject, &RunFlags::default(), &EnvFiles::default());
    assert_eq!(plan.secrets, [Secret::new("hush")]);
    assert!(plan.variables[0].is_secret && plan.variables[0].value.is_none());
}

#[test]
fn the_caller_must_supply_what_has_no_value() {
    let manifest = manifest_of("    environment: { NONE: , OTHER: , SET: }\n");
    let subject = job(&manifest);
    let found = plan(
        &subject,
        &RunFlags::default(),
        &EnvFiles::default(),
        &caller(),
    )
    .unwrap_err();
    let told = |diagnostic: &Diagnostic| {
        let place = diagnostic.primary.as_ref().unwrap().span.start;
        let (line, column) = diagnostic.source.as_ref().unwrap().line_column(place);
        format!(
            "{} {line}:{column} {}",
            diagnostic.message,
            diagnostic.help.join("")
        )
    };
    assert_eq!(
        found.iter().map(told).collect::<Vec<_>>(),
        ["NONE 6:20", "OTHER 6:28"].map(|case| {
            let (name, place) = case.split_once(' ').unwrap();
            format!(
                "job `train`: `{name}` has no value, and the caller has not set it {place} set it: \
                 `{name}=… jobctl run train`; or leave it out: `--allow-unset`"
            )
        })
    );
    let files = EnvFiles {
        of_flags: vec![env_file("f", "OTHER=2")],
        ..EnvFiles::default()
    };
    let plan = planned(&subject, &given(&["NONE=1"]), &files);
    assert_eq!(
        seen(&plan),
        [
            "SET=from caller",
            "OTHER=2",
            "NONE=1",
            "NVIDIA_VISIBLE_DEVICES=void"
        ]
    );
    let allowing = RunFlags {
        allows_unset: true,
        ..RunFlags::default()
    };
    let plan = planned(&subject, &allowing, &EnvFiles::default());
    assert_eq!(
        seen(&plan),
        ["SET=from caller", "NVIDIA_VISIBLE_DEVICES=void"]
    );
}

#[test]
fn a_variable_that_keeps_its_value_is_told() {
    let manifest = manifest_of("    environment: { SEED: '1' }\n");
    let plan = planned(&job(&manifest), &given(&["SEED"]), &EnvFiles::default());
    assert_eq!(seen(&plan)[0], "SEED=1");
    assert_eq!(
        plan.warnings,
        ["`--env SEED`: the caller has not set it, so it keeps its value of jobs.yaml"]
    );
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
    assert_eq!(plan.spec.network.as_deref(), Some("none"));
    let input = plan.inputs.values().next().unwrap();
    assert_eq!(input.source, Path::new("/folder"));

    let mut flags = RunFlags::default();
    flags.spec.limits.memory = Some("1gb".parse().unwrap());
    flags.spec.network = Some("host".to_owned());
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
    assert_eq!(spec.network.as_deref(), Some("host"));
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
        found
            .map(|plan| match plan.image {
                ImageChoice::Build(items) => format!("build {}", items.len()),
                ImageChoice::Built(spec) => format!("built {}", spec.name),
                ImageChoice::Named(image) => format!("named {image}"),
                ImageChoice::OfJob(job) => format!("of {job}"),
            })
            .unwrap_or_else(|found| found[0].message.clone())
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
            "environment": { "A": "1", "HF_TOKEN": "***", "SET": null, "B": "***" },
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

#[test]
fn mounts_are_read_as_docker_reads_them() {
    let read = |text| bound(text, Path::new("/here")).map(|bound| format!("{bound:?}"));
    for (text, expected) in [
        (
            "type=bind,source=/a,target=/b",
            r#"Bind, source: Some("/a"), target: "/b", is_read_only: false, size: None"#,
        ),
        (
            "type=bind,src=./a,dst=/b,readonly",
            r#"Bind, source: Some("/here/a"), target: "/b", is_read_only: true, size: None"#,
        ),
        (
            "target=/b,ro=false",
            r#"Volume, source: None, target: "/b", is_read_only: false, size: None"#,
        ),
        (
            "TYPE=volume,source=v,destination=/b,readonly=1",
            r#"Volume, source: Some("v"), target: "/b", is_read_only: true, size: None"#,
        ),
        (
            "type=tmpfs,target=/b,tmpfs-size=1m",
            r#"Tmpfs, source: None, target: "/b", is_read_only: false, size: Some(ByteSize(1048576))"#,
        ),
        (
            "type=bind,\"source=/a,b\",target=/b",
            r#"Bind, source: Some("/a,b"), target: "/b", is_read_only: false, size: None"#,
        ),
    ] {
        assert_eq!(
            read(text),
            Ok(format!("Bound {{ kind: {expected} }}")),
            "{text}"
        );
    }
    for (text, message) in [
        ("target", "the field `target` has no value"),
        ("type=bind,target=/b", "what is mounted is not said"),
        ("type=bind,source=/a", "where it appears is not said"),
        (
            "type=bind,source=/a,target=b",
            "the target is not an absolute path",
        ),
        (
            "type=nfs,target=/b",
            "jobctl does not know this type of mount",
        ),
        ("type=volume,source=/a,target=/b", "a path is no volume"),
        ("type=tmpfs,source=/a,target=/b", "a tmpfs has no source"),
        ("target=/b,tmpfs-size=1m", "only a tmpfs has a size"),
        (
            "target=/b,readonly=maybe",
            "`readonly` is `true` or `false`",
        ),
        (
            "target=/b,bind-propagation=shared",
            "jobctl can't pass `bind-propagation` on to the engine",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().message, message, "{text}");
    }
}

//! Which variables a container gets, and what the record says of them.

use std::path::Path;

use super::{caller, given, image, job, manifest_of, planned, seen};
use crate::diagnostic::Diagnostic;
use crate::manifest;
use crate::manifest::env_file::{EnvFile, Reading, Unset};
use crate::manifest::schema::EnvFileFormat;
use crate::model::Secret;
use crate::plan::run::{EnvFiles, RunFlags, Subject, plan};

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
fn a_proxy_of_dockers_configuration_can_be_taken_away() {
    let proxies =
        ["http_proxy", "HTTP_PROXY"].map(|name| (name.to_owned(), Secret::new("http://p")));
    for (given_flags, expected) in [
        (&[][..], &["HTTP_PROXY=http://p", "http_proxy=http://p"][..]),
        (&["http_proxy"], &["HTTP_PROXY=http://p", "http_proxy"]),
        (&["http_proxy=x"], &["HTTP_PROXY=http://p", "http_proxy=x"]),
    ] {
        let mut flags = given(given_flags);
        flags.proxies = proxies.clone().into();
        let plan = planned(&image(), &flags, &EnvFiles::default());
        let seen = seen(&plan);
        assert_eq!(seen[..seen.len() - 1], *expected, "{given_flags:?}");
        assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
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
        ..EnvFiles::default()
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
            "A one.env a1",
            "B two.env b2",
            "C jobs.yaml c3",
            "D f.env d4",
            "E --env e5",
            "HF_TOKEN jobs.yaml - secret",
            "SET jobs.yaml from caller",
            "http_proxy docker's config.json - secret",
            "no_proxy docker's config.json here",
        ]
    );
    assert_eq!(
        plan.secrets,
        ["hush", "http://u:p@proxy", "p"].map(Secret::new)
    );
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

/// Which of the variables are secrets, and what the others are.
fn recorded(plan: &crate::plan::run::RunPlan) -> Vec<String> {
    let variables = plan.variables.iter();
    let shown = variables.map(|variable| match (&variable.value, variable.is_secret) {
        (Some(value), false) => format!("{}={value}", variable.name),
        (None, true) => format!("{} secret", variable.name),
        (None, false) => variable.name.clone(),
        (Some(_), true) => panic!("{variable:?}"),
    });
    shown.filter(|shown| !shown.starts_with("NVIDIA")).collect()
}

#[test]
fn parameters_are_kept_and_secrets_are_not() {
    let manifest = manifest_of(
        "    environment: { WD: '${WD:-0.05}', CUSTOMER: }\n    sensitive: [CUSTOMER, ID]\n",
    );
    let files = EnvFiles {
        of_job: vec![env_file(
            "c.env",
            "N_EPOCHS=3\nDB_PASSWORD=hunter2hunter2\nU=pg://u:pw@h",
        )],
        ..EnvFiles::default()
    };
    let flags = given(&[
        "LR=0.001",
        "MAX_TOKENS=512",
        "KEY=hf_abcdefghijklmnopqrstuvwxyz012345",
        "CUSTOMER=acme",
        "ID=7",
        "COPY=-hunter2hunter2-",
        "AGAIN=x-hunter2hunter2-",
        "NONE",
    ]);
    let plan = planned(&job(&manifest), &flags, &files);
    assert_eq!(
        recorded(&plan),
        [
            "N_EPOCHS=3",
            "DB_PASSWORD secret",
            "U secret",
            "WD=0.05",
            "LR=0.001",
            "MAX_TOKENS=512",
            "KEY secret",
            "CUSTOMER secret",
            "ID secret",
            "COPY secret",
            "AGAIN secret",
            "NONE",
        ]
    );
    assert_eq!(
        plan.warnings,
        ["the secret `ID` has fewer than 4 bytes: it is not masked in logs"]
    );
}

#[test]
fn what_holds_a_secret_is_one() {
    let text = "version: 1\nname: p\nsecrets: { key: { environment: HF } }\njobs:\n  a:\n    image: \
                debian\n    command: [x, '${HF}', --lr, '1']\n    environment: { URL: 'http://h/${HF}', \
                NAME: hush, WHERE: '${SET}/hushed' }\n    healthcheck: { test: [CMD, curl, '-H', \
                'Cookie: abc'] }\n    service: true\n";
    let manifest =
        manifest::parse(text, Path::new("jobs.yaml"), Path::new("/"), &caller()).unwrap();
    let subject = Subject::job(&manifest, None).unwrap();
    let flags = given(&["HUSH=hush"]);
    let plan = planned(&subject, &flags, &EnvFiles::default());
    // What is written for all to read is no secret by chance; a short value is one where it is all of the value.
    let expected = ["URL secret", "NAME=hush", "WHERE secret", "HUSH secret"];
    assert_eq!(recorded(&plan), expected);
    let container = plan.container();
    assert_eq!(
        container["command"],
        serde_json::json!(["x", "***", "--lr", "1"])
    );
    assert_eq!(container["health"]["test"][3], "Cookie: ***");
    let manifest = plan.manifest.unwrap();
    assert_eq!(manifest["command"][1], "***");
    assert_eq!(manifest["environment"]["URL"], "***");
}

#[test]
fn a_key_knows_secrets_by_their_names_alone() {
    use std::collections::BTreeMap;

    use crate::plan::run::{Handed, key};
    use crate::records::Key;

    let manifest = manifest_of("    environment: { LR: '1' }\n");
    let key_of = |given_ones: &[&str], command: &str| {
        let mut flags = given(given_ones);
        let words = shell_words::split(command).unwrap();
        flags.spec.command = (!words.is_empty()).then_some(words);
        let plan = planned(&job(&manifest), &flags, &EnvFiles::default());
        key(&plan, &Key::new([7; 32]), &BTreeMap::new(), &Handed::new())
    };
    let held = |url: &str, token: &str| {
        let variables = [format!("HF_TOKEN={token}"), format!("URL={url}/{token}")];
        key_of(&variables.each_ref().map(String::as_str), "")
    };
    assert_eq!(
        held("http://h", "hunter2hunter2"),
        held("http://h", "changed-changed")
    );
    assert_ne!(
        held("http://h", "hunter2hunter2"),
        held("http://i", "hunter2hunter2")
    );
    let usual = key_of(&["HF_TOKEN=one", "U=pg://u:one@h/d"], "");
    assert_eq!(usual, key_of(&["HF_TOKEN=two", "U=pg://u:two@h/d"], ""));
    for (given, command) in [
        (&["HF_TOKEN=one", "U=pg://u:one@h/e"][..], ""),
        (&["HF_TOKEN=one"], ""),
        (&["HF_TOKEN=one", "U=pg://u:one@h/d", "LR=2"], ""),
        (&["HF_TOKEN=one", "U=pg://u:one@h/d"], "x --token a"),
    ] {
        assert_ne!(usual, key_of(given, command), "{given:?} {command}");
    }
    // No result is taken for another's, whatever is masked.
    assert_ne!(key_of(&[], "x --token a"), key_of(&[], "x --token b"));
}

#[test]
fn a_container_is_not_named_after_a_secret() {
    let manifest = manifest_of("    environment: { HF_TOKEN: '${HF}' }\n");
    for (name, is_refused) in [
        ("n-hush", true),
        ("n-hf_abcdefghijklmnopqrst", true),
        ("n", false),
    ] {
        let flags = RunFlags {
            name: Some(name.to_owned()),
            ..RunFlags::default()
        };
        let planned = plan(&job(&manifest), &flags, &EnvFiles::default(), &caller());
        let message = planned.err().map(|errors| errors[0].message.clone());
        assert_eq!(
            message.as_deref(),
            is_refused.then_some(
                "`--name` has a secret in it, but a container's name is stored and shown as it is"
            ),
            "{name}"
        );
    }
}

use serde_json::json;

use super::*;
use crate::facts::Environment;
use crate::facts::host::now;
use crate::manifest;
use crate::plan::run::{EnvFiles, RunFlags, Subject, plan};
use crate::records::OutputRecord;

/// A job, as it is planned and as a record of it is.
struct Job {
    plan: RunPlan,
    image: ImageRecord,
    inputs: BTreeMap<String, InputRecord>,
    handed: Handed,
    environment: Vec<VariableRecord>,
}

impl Job {
    fn new(keys: &str) -> Self {
        Self::of(keys, &[])
    }

    /// With these environment variables of the user's.
    fn of(keys: &str, given: &[(&str, &str)]) -> Self {
        let text = format!(
            "version: 1\nname: a\njobs:\n  data: {{ image: debian, outputs: {{ set: /set }} }}\n  \
             train: {{ image: debian, {keys} }}\n"
        );
        let caller = Environment::new(given.iter().copied(), "/");
        let path = std::path::Path::new("jobs.yaml");
        let manifest = manifest::parse(&text, path, std::path::Path::new("/"), &caller).unwrap();
        let subject = Subject::job(&manifest, Some("train")).unwrap();
        let plan = plan(
            &subject,
            &RunFlags::default(),
            &EnvFiles::default(),
            &caller,
        )
        .unwrap();
        Self {
            image: ImageRecord {
                id: Some("sha256:0123456789abcdef".to_owned()),
                content: Some("sha256:1".to_owned()),
                ..ImageRecord::default()
            },
            inputs: BTreeMap::new(),
            handed: Handed::new(),
            environment: plan.variables.clone(),
            plan,
        }
    }

    fn input(mut self, sha256: &str, target: &str) -> Self {
        let input = json!({ "source": "a", "target": target, "sha256": sha256, "bytes": 1 });
        let input = serde_json::from_value(input).unwrap();
        self.inputs.insert("words".to_owned(), input);
        self
    }

    fn handed(mut self, sha256: &str) -> Self {
        let set = ("set".to_owned(), (sha256.to_owned(), "/in".to_owned()));
        self.handed.insert("data".to_owned(), BTreeMap::from([set]));
        self
    }

    /// The record of a run, with the mounts that are made for what it reads.
    fn record(&self, parent: RunId) -> Record {
        let mut record = Record::new(RunId::new(now()), now());
        record.container = self.plan.container();
        record.policy = self.plan.policy.clone();
        record.image = self.image.clone();
        record.environment.clone_from(&self.environment);
        record.inputs = self.inputs.clone();
        for (job, outputs) in &self.handed {
            record.parents.insert(job.clone(), parent);
            let targets = outputs.iter();
            let targets = targets.map(|(output, (_, target))| (output.clone(), target.clone()));
            record.handed.insert(job.clone(), targets.collect());
        }
        let targets = self.inputs.values().map(|input| input.target.clone());
        let handed = self.handed.values().flat_map(BTreeMap::values);
        let targets = targets.chain(handed.map(|(_, target)| target.clone()));
        let mounts: Vec<_> = targets
            .map(|target| json!({ "type": "bind", "target": target, "read_only": true }))
            .collect();
        if !mounts.is_empty() {
            record.container["mounts"] = mounts.into();
        }
        record
    }
}

/// What differs, in words.
fn found(then: &Job, now: &Job) -> Vec<String> {
    let parent_id = RunId::new(crate::facts::host::now());
    let record = then.record(parent_id);
    let parent = |id| {
        let mut parent = Record::new(id, crate::facts::host::now());
        let (sha256, _) = then.handed.get("data")?.get("set")?;
        let output = OutputRecord {
            sha256: sha256.clone(),
            ..OutputRecord::default()
        };
        parent.outputs.insert("set".to_owned(), output);
        Some(parent)
    };
    let planned = Planned {
        plan: &now.plan,
        image: &now.image,
        inputs: &now.inputs,
        handed: &now.handed,
        environment: &now.environment,
    };
    let known = Known {
        project: &Key::new([0; Key::BYTES]),
        parents: &parent,
        files: [".git/index", "a", "b", "c", "d"].map(str::to_owned).into(),
    };
    let found = differences(&planned, &record, known);
    found.iter().map(ToString::to_string).collect()
}

const HIDDEN: &str = "something secret in its command, or jobctl's version";

#[test]
fn what_does_not_count_is_not_named() {
    let one = Job::new("command: [a], timeout: 1h").input("aa", "/in");
    let other = Job::new("command: [a], timeout: 2h, resources: { cpus: 1 }").input("aa", "/in");
    assert_eq!(found(&one, &other), [HIDDEN]);
}

#[test]
fn each_thing_that_counts_is_named_with_what_it_was_and_is() {
    let base = || Job::new("command: [a, b], environment: { STEPS: 1 }");
    let cases = [
        (
            Job::new("command: [a, c], environment: { STEPS: 1 }"),
            "command: a b → a c",
        ),
        (
            Job::new("command: [a, b], environment: { STEPS: 2 }"),
            "variable `STEPS`: 1 → 2",
        ),
        (
            Job::new("command: [a, b], environment: {}"),
            "variable `STEPS`: 1 → not there",
        ),
        (
            Job::new("command: [a, b], environment: { STEPS: 1, NEW: 3 }"),
            "variable `NEW`: new: 3",
        ),
        (
            Job::new("command: [a, b], environment: { STEPS: 1 }, volumes: [\"/a:/b\"]"),
            "`volumes` of the container: new: /a:/b",
        ),
        (
            Job::new("command: [a, b], environment: { STEPS: 1 }, outputs: { m: /m }"),
            "path of the output `m`: new: /m",
        ),
        (base().input("aa", "/in"), "input `words`: new: sha256:aa"),
        (base().handed("cc"), "output `set of data`: new: sha256:cc"),
    ];
    for (now, expected) in cases {
        assert_eq!(found(&base(), &now), [expected]);
    }
    let input = |sha256, target| base().input(sha256, target);
    let moved = found(&input("aa", "/in"), &input("aa", "/there"));
    assert_eq!(moved, ["input `words`: /in → /there"]);
    let changed = found(&input("aa", "/in"), &input("bb", "/in"));
    assert_eq!(changed, ["input `words`: sha256:aa → sha256:bb"]);
    let handed = found(&base().handed("aa"), &base().handed("bb"));
    assert_eq!(handed, ["output `set of data`: sha256:aa → sha256:bb"]);
}

#[test]
fn an_image_is_named_with_the_files_that_changed() {
    let one = Job::new("command: [a]");
    let mut other = Job::new("command: [a]");
    // Another id with the same content is the same.
    other.image.id = Some("sha256:fedcba9876543210".to_owned());
    assert_eq!(found(&one, &other), [HIDDEN]);
    other.image.content = Some("sha256:2".to_owned());
    assert_eq!(
        found(&one, &other),
        ["image (.git/index, a, b and 2 more): sha256:0123456789ab → sha256:fedcba987654"]
    );
}

#[test]
fn no_secret_is_shown() {
    let canary = "glpat-AbCdEfGhIjKlMnOpQrSt";
    let keys = "command: [a, --token, \"${WORD}\"], environment: [WORD, HF_TOKEN]";
    let given = |word| [("WORD", word), ("HF_TOKEN", word)];
    let one = Job::of(&keys.replace("${WORD}", "b"), &given("a"));
    let other = Job::of(keys, &given(canary));
    let found = found(&one, &other);
    assert_eq!(found, ["variable `WORD`: a → (not shown)"]);
}

#[test]
fn a_new_token_makes_no_difference() {
    let keys = "command: [a], environment: [HF_TOKEN]";
    let [one, other] = ["a", "b"].map(|token| Job::of(keys, &[("HF_TOKEN", token)]));
    assert_eq!(found(&one, &other), [HIDDEN]);
}

//! The records of runs, beside their images.

use serde_json::{Value, json};

use super::Pusher;
use crate::support::image::{DEBIAN, ensure_debian};
use crate::support::registry::{Deed, Proxy, Registry};
use crate::support::{Ended, run};

/// A job that has an accuracy, and whose image can be pushed.
fn project(proxy: &Proxy) -> Pusher {
    ensure_debian();
    let pusher = Pusher::new(proxy.address);
    let name = pusher.image.as_str();
    pusher
        .bench
        .write("Dockerfile", &format!("FROM {DEBIAN}\nCOPY a /a\n"));
    let manifest = format!(
        "version: 1\nname: test\nimage: {{ prefix: \"{}\", version: 0.1.0 }}\njobs:\n  {name}: {{ build: \
         {{ context: . }}, command: [echo, accuracy=0.5], environment: [API_TOKEN], metrics: \
         {{ log: {{ accuracy: \"accuracy=([0-9.]+)\" }} }} }}\n",
        pusher.prefix()
    );
    pusher.bench.write("jobs.yaml", &manifest);
    let label = pusher.image.label();
    let ended = jobctl(&pusher, &["build", name, "--label", &label]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    pusher
}

fn jobctl(pusher: &Pusher, words: &[&str]) -> Ended {
    run(pusher.bench.jobctl().args(words).env("API_TOKEN", "canary"))
}

/// Pushes with a run's record; what is told of the first image.
fn attach(pusher: &Pusher, flag: &str) -> Value {
    let words = ["--format", "json", "push", pusher.image.as_str(), flag];
    let ended = jobctl(pusher, &words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut said: Value = serde_json::from_str(&ended.stdout).unwrap();
    said["images"][0].take()
}

fn parsed(registry: &Registry, digest: &Value) -> Value {
    serde_json::from_slice(&registry.blob(digest.as_str().unwrap())).unwrap()
}

#[test]
fn a_runs_record_is_found_beside_its_image() {
    let registry = Registry::new();
    let proxy = Proxy::start(registry.address(), |_, _, _| Deed::Pass);
    let pusher = project(&proxy);
    let name = pusher.image.as_str();
    let repository = format!("test-{name}");

    let ended = jobctl(&pusher, &["push", name, "--with-run"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("there is no run of `"), "{ended:?}");
    assert!(registry.tags(&repository).is_empty());
    let ended = jobctl(&pusher, &["push", name, "--with-run=ffff"]);
    assert_eq!(ended.code, Some(125), "{ended:?}");

    let ended = jobctl(&pusher, &["run", "--no-build", name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let pushed = attach(&pusher, "--with-run");
    let run_id = pushed["run"]["id"].as_str().unwrap();
    let record = pusher
        .bench
        .path()
        .join(format!(".jobctl/runs/{run_id}/run.json"));
    let record = std::fs::read(record).unwrap();
    assert!(!String::from_utf8_lossy(&record).contains("canary"));

    let artifact = parsed(&registry, &pushed["run"]["digest"]);
    assert_eq!(artifact["artifactType"], "application/vnd.jobctl.run.v1");
    assert_eq!(artifact["annotations"]["dev.jobctl.run"], run_id);
    assert_eq!(artifact["annotations"]["dev.jobctl.job"], name);
    let subject = &artifact["subject"];
    assert_eq!(subject["digest"], pushed["digest"]);
    let manifest = registry.blob(pushed["digest"].as_str().unwrap());
    assert_eq!(subject["size"], manifest.len());
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(subject["mediaType"], manifest["mediaType"]);
    let files = artifact["layers"].as_array().unwrap();
    let title = |file: &Value| file["annotations"]["org.opencontainers.image.title"].clone();
    let titles: Vec<_> = files.iter().map(title).collect();
    assert_eq!(titles, ["run.json", "metrics.jsonl"]);
    let kept = registry.blob(files[0]["digest"].as_str().unwrap());
    assert_eq!(kept, record);
    assert_eq!(files[0]["size"], record.len());

    // This registry lists nothing by itself: a tag of the image's digest does.
    let tag = pushed["digest"].as_str().unwrap().replace(':', "-");
    let listed = || parsed(&registry, &json!(registry.digest(&repository, &tag)));
    let first = listed();
    let entries = first["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["digest"], pushed["run"]["digest"]);
    assert_eq!(entries[0]["artifactType"], artifact["artifactType"]);

    // The same is attached once; another run beside it.
    let again = attach(&pusher, &format!("--with-run={run_id}"));
    assert_eq!(again["state"], "was_there");
    assert_eq!(again["run"], pushed["run"]);
    assert_eq!(listed(), first);
    let ended = jobctl(&pusher, &["run", "--no-build", name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let newer = attach(&pusher, "--with-run");
    assert_ne!(newer["run"], pushed["run"]);
    assert_eq!(listed()["manifests"].as_array().unwrap().len(), 2);

    // What else was done with the image comes second.
    let image = format!("{}{repository}:0.1.0", pusher.prefix());
    let ended = jobctl(&pusher, &["run", "--image", &image, "true"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(attach(&pusher, "--with-run")["run"], newer["run"]);
}

#[test]
fn a_registry_that_lists_what_is_attached_gets_no_tag_for_it() {
    let registry = Registry::new();
    let proxy = Proxy::start(registry.address(), |method, path, _| {
        if method == "PUT" && path.contains("/manifests/sha256:") {
            Deed::Answer(201, "OCI-Subject: sha256:0\r\n", "")
        } else {
            Deed::Pass
        }
    });
    let pusher = project(&proxy);
    let name = pusher.image.as_str();
    let ended = jobctl(&pusher, &["run", "--no-build", name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let pushed = attach(&pusher, "--with-run");
    assert_eq!(proxy.count("PUT", "/manifests/sha256:"), 1);
    assert!(pushed["run"]["digest"].is_string());
    assert_eq!(proxy.count("PUT", "/manifests/sha256-"), 0);
}

#[test]
fn which_files_are_published_with_a_run_is_printed_first() {
    let registry = Registry::new();
    let proxy = Proxy::start(registry.address(), |_, _, _| Deed::Pass);
    let pusher = project(&proxy);
    let name = pusher.image.as_str();
    let git = |words: &[&str]| {
        let author = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
        let mut command = pusher.bench.command("git");
        let ended = run(command.args(author).args(words));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    // The run builds it anew, and so without the label that a flag gave it.
    let label = pusher.image.label();
    let dockerfile = format!("FROM {DEBIAN}\nLABEL {label}\nCOPY a /a\n");
    pusher.bench.write("Dockerfile", &dockerfile);
    pusher.bench.write(".gitignore", "home\n");
    git(&["init", "--quiet", "."]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "one"]);
    pusher.bench.write("a", "changed");
    pusher.bench.write(".env", "X=canary");
    let ended = jobctl(&pusher, &["run", name]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for flags in [&["--dry-run"][..], &[]] {
        let words = [&["push", name, "--with-run"], flags].concat();
        let ended = jobctl(&pusher, &words);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let said = "has run.json, metrics.jsonl, source.patch (changes of a)\n";
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    let repository = format!("test-{name}");
    assert!(!registry.tags(&repository).is_empty());

    // Nobody knows what is in a patch without a list of its files.
    let runs = pusher.bench.path().join(".jobctl/runs");
    let folder = std::fs::read_dir(runs).unwrap().next().unwrap().unwrap();
    let path = folder.path().join("run.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    record["source"]["files"] = json!([]);
    std::fs::write(&path, record.to_string()).unwrap();
    let ended = jobctl(&pusher, &["push", name, "--with-run", "--dry-run"]);
    let said = "has run.json, metrics.jsonl\n";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

//! `get`

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jobctl::records::{CollectedFile, OutputRecord};
use serde_json::json;

use super::{collect, document, error, finished, jobctl, refused, sha256, store};
use crate::support::Bench;

fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

fn texts(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let files = files.iter();
    files
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

#[test]
fn outputs_are_copied_and_nothing_is_overwritten() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    collect(
        &bench,
        &mut record,
        "model",
        &[("a.bin", "abc"), ("b/c.txt", "d")],
    );
    collect(&bench, &mut record, "plots", &[("p.svg", "<svg/>")]);
    let target = bench.path().join("out");

    let ended = jobctl(&bench, &["get", "train:model", "out"]);
    assert_eq!(
        ended.stdout, "model: 2 files, 4 B, copied to out\n",
        "{ended:?}"
    );
    assert_eq!(files(&target), texts(&[("a.bin", "abc"), ("b/c.txt", "d")]));

    fs::write(target.join("a.bin"), "mine").unwrap();
    let there = target.join("a.bin").display().to_string();
    assert_eq!(
        refused(&bench, &["get", "train:model", "out"]),
        error(
            "file-exists",
            &format!("`{there}` is there already"),
            "take another folder, or `--force`"
        )
    );
    assert_eq!(files(&target)["a.bin"], "mine");
    assert_eq!(
        jobctl(&bench, &["get", "train:model", "out", "--force"]).code,
        Some(0)
    );
    assert_eq!(files(&target)["a.bin"], "abc");

    let copied = document(&bench, &["get", "train", "all"]);
    let expected = json!({
        "schema": "jobctl.get/1",
        "run": record.id,
        "outputs": ["model", "plots"],
        "files": 3,
        "bytes": 10,
    });
    assert_eq!(copied, expected);
    let all = [
        ("model/a.bin", "abc"),
        ("model/b/c.txt", "d"),
        ("plots/p.svg", "<svg/>"),
    ];
    assert_eq!(files(&bench.path().join("all")), texts(&all));
    assert_eq!(
        refused(&bench, &["get", "train:modle", "x"]),
        error(
            "no-output",
            &format!("run {} has no output `modle`", record.id.short()),
            "did you mean `model`?"
        )
    );
}

#[test]
fn an_output_that_was_changed_is_not_given_out() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    collect(&bench, &mut record, "model", &[("a.bin", "abc")]);
    let kept = store(&bench).run(record.id).output("model").join("a.bin");
    fs::write(&kept, "abd").unwrap();
    assert_eq!(
        refused(&bench, &["get", "train", "out"]),
        error(
            "output-differs",
            "`a.bin` is not what was collected: its digest differs from the record's",
            "the disk or somebody changed it; run the job again"
        )
    );
    fs::remove_file(&kept).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &kept).unwrap();
    refused(&bench, &["get", "train", "out"]);
    assert_eq!(files(&bench.path().join("out")), texts(&[]));
}

#[test]
fn no_record_leads_out_of_the_folder() {
    let bench = Bench::new();
    let link = |path: &str, to: &str| CollectedFile {
        path: path.to_owned(),
        sha256: sha256(to.as_bytes()),
        bytes: 0,
        link: Some(to.to_owned()),
    };
    let file = |path: &str| CollectedFile {
        path: path.to_owned(),
        sha256: sha256(b"x"),
        bytes: 1,
        link: None,
    };
    let mut record = finished(&bench, "train", 0, 0.5);
    for files in [
        vec![file("../evil")],
        vec![file("/tmp/evil")],
        vec![file("a/../../evil")],
        vec![file("")],
        vec![link("a", "/etc/passwd")],
        vec![link("a", "../evil")],
        vec![link("a/b", "../../evil")],
        // A link to the folder itself, and one from there to above it.
        vec![link("a/up", ".."), link("b", "a/up/../out"), file("b/evil")],
    ] {
        let output = OutputRecord {
            path: "/out".to_owned(),
            sha256: String::new(),
            files,
        };
        record.outputs = BTreeMap::from([("model".to_owned(), output)]);
        let folder = store(&bench).run(record.id);
        fs::create_dir_all(folder.output("model").join("b")).unwrap();
        fs::write(folder.output("model").join("b/evil"), "x").unwrap();
        folder.write(&record).unwrap();
        refused(&bench, &["get", "train", "out"]);
        refused(&bench, &["get", "train:model", "out"]);
        for place in [
            bench.path().join("evil"),
            bench.path().join("out/evil"),
            "/tmp/evil".into(),
        ] {
            assert!(fs::symlink_metadata(place).is_err(), "{:?}", record.outputs);
        }
        let _ = fs::remove_dir_all(bench.path().join("out"));
    }
    let output = OutputRecord {
        path: "/out".to_owned(),
        sha256: String::new(),
        files: vec![link("a/b", "../c"), file("c")],
    };
    record.outputs = BTreeMap::from([("model".to_owned(), output)]);
    let folder = store(&bench).run(record.id);
    fs::write(folder.output("model").join("c"), "x").unwrap();
    folder.write(&record).unwrap();
    assert_eq!(jobctl(&bench, &["get", "train:model", "out"]).code, Some(0));
    assert_eq!(
        fs::read_link(bench.path().join("out/a/b")).unwrap(),
        Path::new("../c")
    );
    assert_eq!(
        fs::read_to_string(bench.path().join("out/a/b")).unwrap(),
        "x"
    );
}

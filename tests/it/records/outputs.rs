//! `get`

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jobctl::records::{CollectedFile, OutputRecord, Record};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{collect, document, error, finished, jobctl, refused, store};
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
            &format!("`{there}` already exists"),
            "take another directory, or `--force`"
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
        "links": [],
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

fn link(path: &str, to: &str) -> CollectedFile {
    CollectedFile {
        path: path.into(),
        sha256: Sha256::digest(to).into(),
        bytes: 0,
        link: Some(to.into()),
    }
}

fn file(path: &str) -> CollectedFile {
    CollectedFile {
        path: path.into(),
        sha256: Sha256::digest(b"x").into(),
        bytes: 1,
        link: None,
    }
}

/// Puts an output with that list of files into a record, whatever the files are.
fn list(bench: &Bench, record: &mut Record, files: &[CollectedFile]) {
    let folder = store(bench).run(record.id);
    fs::create_dir_all(folder.output("model").join("b")).unwrap();
    fs::write(folder.output("model").join("b/evil"), "x").unwrap();
    folder
        .outputs(true)
        .unwrap()
        .write_list("model", files)
        .unwrap();
    let output = OutputRecord::of("/out".to_owned(), files);
    record.outputs = BTreeMap::from([("model".to_owned(), output)]);
    folder.write(record).unwrap();
}

fn assert_nothing_outside(bench: &Bench, why: &dyn std::fmt::Debug) {
    let places = ["evil", "out/evil"].map(|name| bench.path().join(name));
    for place in places.iter().chain([&"/tmp/evil".into()]) {
        assert!(fs::symlink_metadata(place).is_err(), "{why:?}");
    }
}

#[test]
fn no_record_leads_out_of_the_directory() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    for files in [
        vec![file("../evil")],
        vec![file("/tmp/evil")],
        vec![file("a/../../evil")],
        vec![file("")],
        // Links to the directory itself and to above it, and files that would be behind them.
        vec![link("a", "."), file("a/evil")],
        vec![link("a", ".."), file("a/evil")],
        vec![
            link("x", "."),
            link("b", "x/x/../../../tmp"),
            file("b/evil"),
        ],
        vec![link("b", "/tmp"), file("b/evil")],
    ] {
        list(&bench, &mut record, &files);
        refused(&bench, &["get", "train", "out"]);
        refused(&bench, &["get", "train:model", "out"]);
        assert_nothing_outside(&bench, &files);
        let _ = fs::remove_dir_all(bench.path().join("out"));
    }
}

#[test]
fn links_are_copied_as_links_and_told() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    let files = [
        link("a/up", "../../evil"),
        link("a/x", "../b/evil"),
        file("b/evil"),
        link("best", "/out/b"),
        link("loop", "loop"),
    ];
    list(&bench, &mut record, &files);
    let ended = jobctl(&bench, &["get", "train:model", "got"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (
            Some(0),
            "model: 5 files, 1 B, copied to got\n\
             a/up -> ../../evil leads out of the output\n\
             best -> /out/b leads out of the output\n"
        ),
        "{ended:?}"
    );
    let got = bench.path().join("got");
    let target = |path: &str| fs::read_link(got.join(path)).unwrap();
    assert_eq!(target("a/up"), Path::new("../../evil"));
    assert_eq!(target("best"), Path::new("/out/b"));
    assert_eq!(target("loop"), Path::new("loop"));
    assert_eq!(fs::read_to_string(got.join("a/x")).unwrap(), "x");
    let copied = document(&bench, &["get", "train:model", "again"]);
    assert_eq!(
        copied["links"],
        json!([{ "path": "a/up", "target": "../../evil" }, { "path": "best", "target": "/out/b" }])
    );
    // What is there is not written through.
    fs::remove_dir_all(&got).unwrap();
    fs::create_dir(&got).unwrap();
    std::os::unix::fs::symlink(bench.path(), got.join("b")).unwrap();
    refused(&bench, &["get", "train:model", "got"]);
    refused(&bench, &["get", "train:model", "got", "--force"]);
    assert_nothing_outside(&bench, &files);
}

#[test]
fn a_link_in_the_state_directory_is_not_followed() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    list(&bench, &mut record, &[file("b/evil")]);
    let folder = store(&bench).run(record.id);
    let elsewhere = bench.path().join("elsewhere");
    for path in [folder.output("model"), folder.path().join("outputs")] {
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        refused(&bench, &["get", "train:model", "got"]);
        fs::remove_file(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
    }
    assert_eq!(jobctl(&bench, &["get", "train:model", "got"]).code, Some(0));
}

#[test]
fn a_list_that_was_changed_is_not_used() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    list(&bench, &mut record, &[file("b/evil")]);
    let path = store(&bench).run(record.id).output("model.files.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    for changed in [
        text.replace("b/evil", "b/evi1"),
        text.repeat(2),
        String::new(),
        "{".to_owned(),
    ] {
        fs::write(&path, changed).unwrap();
        let refusal = refused(&bench, &["get", "train:model", "got"]);
        assert!(
            refusal.contains("the list of the files of `model`"),
            "{refusal}"
        );
        assert!(!bench.path().join("got").exists());
    }
}

#[test]
fn names_of_any_bytes_are_copied() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    let long = "n".repeat(240);
    let names = [b"\x1b[31m\n".as_slice(), b"caf\xe9", long.as_bytes()];
    let mut files = Vec::new();
    let folder = store(&bench).run(record.id);
    for name in names {
        let name = Path::new(OsStr::from_bytes(name));
        files.push(CollectedFile {
            path: name.to_owned(),
            ..file("")
        });
        fs::create_dir_all(folder.output("model")).unwrap();
        fs::write(folder.output("model").join(name), "x").unwrap();
    }
    list(&bench, &mut record, &files);
    let ended = jobctl(&bench, &["get", "train:model", "got"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for name in names {
        let got = bench.path().join("got").join(OsStr::from_bytes(name));
        assert_eq!(fs::read(got).unwrap(), b"x");
    }
    let files = jobctl(&bench, &["show", "--files", "train"]);
    assert_eq!(files.code, Some(0), "{files:?}");
    assert!(!files.stdout.contains('\x1b'), "{files:?}");
    assert!(
        files.stdout.contains("\\x1b[31m\\n") && files.stdout.contains("caf\\xe9"),
        "{files:?}"
    );
}

#[test]
fn outputs_of_an_older_record_are_shown_and_copied() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    list(&bench, &mut record, &[file("b/evil"), link("best", "b")]);
    let folder = store(&bench).run(record.id);
    let run = folder.path().join("run.json");
    let mut older: serde_json::Value = serde_json::from_slice(&fs::read(&run).unwrap()).unwrap();
    older["schema"] = "jobctl.run/1".into();
    older["outputs"]["model"] = json!({
        "path": "/out",
        "sha256": "0123",
        "files": [file("b/evil"), link("best", "b")],
    });
    fs::write(&run, older.to_string()).unwrap();
    fs::remove_file(folder.output("model.files.jsonl")).unwrap();
    let shown = jobctl(&bench, &["show", "train"]);
    assert!(
        shown
            .stdout
            .contains("model  /out  2 files  1 B  sha256:0123"),
        "{shown:?}"
    );
    let listed = jobctl(&bench, &["show", "--files", "train"]);
    assert_eq!(listed.stdout.lines().count(), 2, "{listed:?}");
    let got = jobctl(&bench, &["get", "train:model", "got"]);
    assert_eq!(
        got.stdout, "model: 2 files, 1 B, copied to got\n",
        "{got:?}"
    );
    assert_eq!(
        fs::read_to_string(bench.path().join("got/best/evil")).unwrap(),
        "x"
    );
    document(&bench, &["show", "train"]);
}

#[test]
fn a_record_with_strange_names_of_outputs_is_damaged() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    list(&bench, &mut record, &[file("b/evil")]);
    let run = store(&bench).run(record.id).path().join("run.json");
    let text = fs::read_to_string(&run).unwrap();
    for name in ["../x", "/tmp/x", "a/b", "", "A", "x\\u0000"] {
        fs::write(&run, text.replace("\"model\"", &format!("\"{name}\""))).unwrap();
        let refusal = refused(&bench, &["get", &record.id.to_string(), "got"]);
        assert!(
            refusal.contains("is not the name of an output"),
            "{name}: {refusal}"
        );
    }
}

#[test]
fn the_directory_that_is_named_may_be_a_link() {
    let bench = Bench::new();
    let mut record = finished(&bench, "train", 0, 0.5);
    list(&bench, &mut record, &[file("b/evil")]);
    fs::create_dir(bench.path().join("disk")).unwrap();
    std::os::unix::fs::symlink("disk", bench.path().join("link")).unwrap();
    assert_eq!(
        jobctl(&bench, &["get", "train:model", "link"]).code,
        Some(0)
    );
    assert!(bench.path().join("disk/b/evil").exists());
    fs::remove_dir_all(store(&bench).run(record.id).output("model")).unwrap();
    let shown = jobctl(&bench, &["show", "train"]);
    assert!(shown.stdout.contains("; its files are gone"), "{shown:?}");
}

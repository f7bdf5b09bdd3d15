use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde_json::json;

use super::{Listing, Store};
use crate::model::RunId;
use crate::records::{Ending, Promoted, ReadError, Record, State, StoreError, Summary};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join(".jobctl"));
    (folder, store)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn record(job: &str, second: i64) -> Record {
    Record {
        project: Some("tests".to_owned()),
        job: Some(job.to_owned()),
        argv: vec!["jobctl".to_owned(), "run".to_owned()],
        metrics: BTreeMap::from([("loss".to_owned(), 0.1 + 0.2)]),
        ..Record::new(RunId::new(at(second)), at(second))
    }
}

/// A run that is over, on disk.
fn finished(store: &Store, job: &str, second: i64) -> Record {
    let mut record = record(job, second);
    let run = store.begin(&record).unwrap();
    record.state = State::Finished;
    record.ending = Some(Ending::Success);
    record.exit_code = Some(0);
    run.folder.write(&record).unwrap();
    record
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn listed(store: &Store) -> Listing {
    store.summaries().unwrap()
}

#[test]
fn a_store_is_made_when_it_is_first_written_to() {
    let (_folder, store) = store();
    assert!(store.ids().unwrap().is_empty());
    assert!(listed(&store).runs.is_empty());
    assert!(!store.path().exists());
    let record = record("train", 0);
    let run = store.begin(&record).unwrap();
    assert_eq!(names(store.path()), [".gitignore", "runs", "staging"]);
    let ignore = fs::read_to_string(store.path().join(".gitignore")).unwrap();
    assert_eq!(ignore, "*\n");
    assert_eq!(names(run.folder.path()), ["lock", "reserve", "run.json"]);
    assert!(names(&store.staging()).is_empty());
    assert_eq!(store.read(record.id).unwrap(), record);
    assert_eq!(store.ids().unwrap(), [record.id]);
}

#[test]
fn one_process_at_a_time_may_finish_a_run() {
    let (_folder, store) = store();
    let run = store.begin(&record("train", 0)).unwrap();
    let folder = run.folder;
    assert_eq!(run.lock.id(), folder.id());
    assert!(folder.is_locked().unwrap());
    assert!(folder.try_lock().unwrap().is_none());
    drop(run.lock);
    assert!(!folder.is_locked().unwrap());
    let lock = folder.try_lock().unwrap();
    assert!(lock.is_some() && folder.is_locked().unwrap());
}

#[test]
fn looking_at_a_lock_keeps_nobody_from_taking_it() {
    let (_folder, store) = store();
    let folder = store.begin(&record("train", 0)).unwrap().folder;
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                folder.is_locked().unwrap();
            }
        });
        let taken = (0..2000).filter(|_| folder.try_lock().unwrap().is_some());
        let taken = taken.count();
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(taken, 2000);
    });
}

#[test]
fn what_was_begun_and_given_up_is_removed_later() {
    let (_folder, store) = store();
    finished(&store, "train", 0);
    let old = store.staging().join(format!("{}.new", record("a", 0).id));
    let young = store
        .staging()
        .join(format!("{}.new", record("a", 9000).id));
    let gone = store.staging().join(format!("{}.gone", record("a", 1).id));
    for folder in [&old, &young, &gone] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("run.json"), "{").unwrap();
    }
    finished(&store, "train", 9001);
    assert!(!old.exists() && young.exists() && !gone.exists());
    assert_eq!(listed(&store).runs.len(), 2);
}

#[test]
fn a_run_that_is_removed_is_gone_from_lists() {
    let (_folder, store) = store();
    let kept = finished(&store, "train", 0);
    let removed = finished(&store, "train", 1);
    assert_eq!(listed(&store).runs.len(), 2);
    store.remove(removed.id).unwrap();
    store.remove(removed.id).unwrap();
    assert_eq!(listed(&store).runs, [Summary::from(&kept)]);
    assert!(names(&store.staging()).is_empty());
    let missing = store.read(removed.id).unwrap_err();
    assert!(matches!(missing, ReadError::Missing { .. }), "{missing}");
    assert!(store.run(removed.id).try_lock().is_err());
    assert!(!store.run(removed.id).is_locked().unwrap());
}

#[test]
fn the_reserve_is_released_when_a_run_is_over() {
    let (_folder, store) = store();
    let record = finished(&store, "train", 0);
    assert_eq!(names(store.run(record.id).path()), ["lock", "run.json"]);
}

#[test]
fn a_metric_that_is_not_finite_is_kept() {
    let (_folder, store) = store();
    let mut record = record("train", 0);
    let metrics = [("a", f64::NAN), ("b", f64::NEG_INFINITY), ("c", 2.0)];
    record.metrics = metrics.map(|(name, value)| (name.to_owned(), value)).into();
    store.begin(&record).unwrap();
    let text = fs::read_to_string(store.run(record.id).path().join("run.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({ "a": "NaN", "b": "-Infinity", "c": 2.0 });
    assert_eq!(kept["metrics"], expected);
    let mut read = store.read(record.id).unwrap().metrics;
    assert!(read.remove("a").unwrap().is_nan());
    record.metrics.remove("a");
    assert_eq!(read, record.metrics);
    let mut promoted = Promoted::default();
    promoted.promote(&store.read(record.id).unwrap(), record.created);
    let text = serde_json::to_string(&promoted).unwrap();
    let promoted: Promoted = serde_json::from_str(&text).unwrap();
    assert!(promoted.of("train").unwrap().metrics["a"].is_nan());
}

#[test]
fn a_record_of_a_newer_version_is_read_and_not_written() {
    let (_folder, store) = store();
    let mut record = finished(&store, "train", 0);
    let run = store.run(record.id);
    let path = run.path().join("run.json");
    let text = fs::read_to_string(&path).unwrap();
    let newer = text.replacen('{', "{\n  \"shape\": [1, 2],", 1);
    let newer = newer.replace("jobctl.run/2", "jobctl.run/3");
    fs::write(&path, &newer).unwrap();
    record.schema = "jobctl.run/3".to_owned();
    assert_eq!(run.read().unwrap(), record);
    let error = run.write(&record).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the record of run {} was written by a newer jobctl (jobctl.run/3), and is not changed",
            record.id
        )
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);

    fs::write(&path, newer.replace("\"finished\"", "\"suspended\"")).unwrap();
    let error = run.read().unwrap_err();
    assert!(matches!(error, ReadError::Newer { .. }), "{error}");
    let listing = listed(&store);
    assert!(listing.runs.is_empty() && listing.unread.contains_key(&record.id));
}

/// Damages one of three records; the others are listed as before, and the damaged one is either
/// read or said to be damaged.
fn assert_others_are_listed(store: &Store, damaged: &Record, others: &[Summary], bytes: &[u8]) {
    fs::write(store.run(damaged.id).path().join("run.json"), bytes).unwrap();
    let listing = listed(store);
    let seen = listing.runs.iter().filter(|run| run.id != damaged.id);
    assert!(seen.eq(others), "{listing:?}");
    let is_read = listing.runs.iter().any(|run| run.id == damaged.id);
    assert_ne!(is_read, listing.unread.contains_key(&damaged.id));
    if let Some(error) = listing.unread.get(&damaged.id) {
        assert!(
            matches!(error, ReadError::Damaged { .. } | ReadError::Newer { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_record_cut_short_anywhere_is_flagged_alone() {
    let (_folder, store) = store();
    let others = [finished(&store, "a", 2), finished(&store, "a", 1)];
    let others = others.each_ref().map(Summary::from);
    let record = finished(&store, "b", 0);
    let whole = fs::read(store.run(record.id).path().join("run.json")).unwrap();
    for length in 0..whole.len() - 2 {
        assert_others_are_listed(&store, &record, &others, &whole[..length]);
        assert!(listed(&store).unread.contains_key(&record.id), "{length}");
    }
}

#[test]
fn flipped_bits_make_no_other_run_unreadable() {
    let (_folder, store) = store();
    let others = [finished(&store, "a", 2), finished(&store, "a", 1)];
    let others = others.each_ref().map(Summary::from);
    let record = finished(&store, "b", 0);
    let whole = fs::read(store.run(record.id).path().join("run.json")).unwrap();
    let mut random = 88_172_645_463_325_252_u64;
    for case in 0..10_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let bit = usize::try_from(random).unwrap() % (whole.len() * 8);
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if case % 50 > 0 {
            fs::write(store.run(record.id).path().join("run.json"), &flipped).unwrap();
            let _ = store.read(record.id);
            continue;
        }
        assert_others_are_listed(&store, &record, &others, &flipped);
    }
}

#[test]
fn folders_of_garbage_are_flagged_or_passed_over() {
    let (_folder, store) = store();
    let good = finished(&store, "a", 2);
    let ids = [0, 1, 3, 4, 5].map(|second| record("b", second).id);
    let folders = ids.map(|id| store.run(id).path().to_owned());
    for folder in &folders[..4] {
        fs::create_dir(folder).unwrap();
    }
    fs::create_dir(folders[1].join("run.json")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folders[2].join("run.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folders[3].join("run.json")).unwrap();
    fs::write(&folders[4], "not a directory").unwrap();
    fs::write(store.runs().join("notes.txt"), "mine").unwrap();
    fs::create_dir(store.runs().join("0123")).unwrap();

    let listing = listed(&store);
    assert_eq!(listing.runs, [Summary::from(&good)]);
    let said: Vec<_> = listing.unread.values().map(ToString::to_string).collect();
    let damaged = |id: RunId, reason| format!("the record of run {id} is damaged: {reason}");
    assert_eq!(
        said,
        [
            damaged(ids[0], "it has no run.json"),
            damaged(ids[1], "run.json is not a file"),
            damaged(ids[2], "run.json is not a file"),
            damaged(ids[3], "run.json is a link"),
        ]
    );
}

#[test]
fn a_record_in_the_folder_of_another_run_is_flagged() {
    let (_folder, store) = store();
    let record = finished(&store, "a", 0);
    let other = RunId::new(at(5));
    fs::rename(store.run(record.id).path(), store.run(other).path()).unwrap();
    let error = store.read(other).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the record of run {other} is damaged: it is of run {}",
            record.id
        )
    );
}

#[test]
fn lists_are_the_same_whatever_becomes_of_the_index() {
    let (_folder, store) = store();
    let records: Vec<_> = (0..20).map(|n| finished(&store, "a", n)).collect();
    let expected: Vec<_> = records.iter().rev().map(Summary::from).collect();
    assert_eq!(listed(&store).runs, expected);
    let path = store.path().join("runs.index");
    let whole = fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(listed(&store).runs, expected, "cut at {length}");
        assert_eq!(listed(&store).runs, expected, "after a cut at {length}");
    }
    for at in (0..whole.len()).step_by(61) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(&path, flipped).unwrap();
        assert_eq!(listed(&store).runs, expected, "flipped at {at}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(listed(&store).runs, expected, "where it can't be written");
}

#[test]
fn an_index_that_was_written_halfway_is_gone_on_with() {
    let (_folder, store) = store();
    finished(&store, "a", 0);
    listed(&store);
    let path = store.path().join("runs.index");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_within(20..60);
    fs::write(&path, bytes).unwrap();
    finished(&store, "a", 1);
    assert_eq!(listed(&store).runs.len(), 2);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 3, "it was made anew: {text}");
}

#[test]
fn a_record_that_is_written_again_is_listed_as_it_is() {
    let (_folder, store) = store();
    let mut record = finished(&store, "a", 0);
    listed(&store);
    record.exit_code = Some(3);
    record.state = State::Failed;
    store.run(record.id).write(&record).unwrap();
    assert_eq!(listed(&store).runs, [Summary::from(&record)]);
    assert_eq!(listed(&store).runs, [Summary::from(&record)]);
}

#[test]
fn the_key_is_made_once_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let (_folder, store) = store();
    let keys: Vec<_> = std::thread::scope(|threads| {
        let makers: Vec<_> = (0..8)
            .map(|_| threads.spawn(|| store.key().unwrap()))
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    let metadata = fs::metadata(store.path().join("key")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), 32);
    let digest = keys[0].digest(b"value");
    assert!(digest.starts_with("hmac-sha256:") && digest.len() == 12 + 64);
    assert_ne!(digest, keys[0].digest(b"other"));
}

#[test]
fn a_run_is_found_by_what_names_it() {
    let (_folder, store) = store();
    let runs: Vec<_> = [("train", 0), ("train", 1000), ("eval", 2_000_000)]
        .map(|(job, second)| finished(&store, job, second).id)
        .into();
    let jobs = ["train", "eval", "serve"].map(str::to_owned);
    let find = |text: &str| {
        store
            .resolve(text, &jobs)
            .map_err(|error| error.to_string())
    };
    let dashed = |id: RunId| {
        let text = id.to_string();
        format!("{}-{}-{}", &text[..8], &text[8..12], &text[12..])
    };
    for (text, expected) in [
        (runs[0].to_string(), runs[0]),
        (runs[1].to_string().to_uppercase(), runs[1]),
        (dashed(runs[1]), runs[1]),
        (dashed(runs[2])[..9].to_owned(), runs[2]),
        (runs[2].short(), runs[2]),
        ("train".to_owned(), runs[1]),
        ("train~0".to_owned(), runs[1]),
        ("train~1".to_owned(), runs[0]),
        ("eval".to_owned(), runs[2]),
    ] {
        assert_eq!(find(&text), Ok(expected), "{text}");
    }
    for (text, expected, help) in [
        ("tarin", "there is no run `tarin`", "did you mean `train`?"),
        (
            "train~2",
            "job `train` has 2 runs, not as many as `train~2` counts back",
            "`jobctl runs` shows them: give the beginning of an id, a job for its latest run, or \
             `JOB~1` for the one before",
        ),
        (
            "serve",
            "job `serve` has no run",
            "run it: `jobctl run serve`",
        ),
        (
            "serve~1",
            "job `serve` has no run",
            "run it: `jobctl run serve`",
        ),
        (
            "",
            "there is no run ``",
            "`jobctl runs` shows them: give the beginning of an id, a job for its latest run, or \
             `JOB~1` for the one before",
        ),
        (
            "ffff",
            "there is no run `ffff`",
            "`jobctl runs` shows them: give the beginning of an id, a job for its latest run, or \
             `JOB~1` for the one before",
        ),
    ] {
        let error = store.resolve(text, &jobs).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.help().as_str()),
            (expected, help)
        );
    }
    let error = store.resolve("018", &jobs).unwrap_err();
    assert_eq!(error.to_string(), "`018` is the beginning of 3 runs");
    assert_eq!(
        error.help(),
        format!("write more of it: {}, {}, {}", runs[2], runs[1], runs[0])
    );
}

#[test]
fn a_damaged_run_is_found_by_its_id() {
    let (_folder, store) = store();
    let record = finished(&store, "train", 0);
    fs::write(store.run(record.id).path().join("run.json"), "{").unwrap();
    assert_eq!(store.resolve(&record.id.short(), &[]).unwrap(), record.id);
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let store = Store::new(folder.path().join("file/state"));
    let error = store.begin(&record("a", 0)).unwrap_err();
    assert!(matches!(error, StoreError::Write { .. }), "{error}");
}

#[test]
fn a_record_with_a_name_that_jobs_yaml_cannot_have_is_damaged() {
    let (_folder, store) = store();
    let record = record("train", 1);
    let path = store.run(record.id).path().join("run.json");
    store.begin(&record).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for name in ["/x", "../../x", "a/b", "", ".", ".."] {
        for (key, value, what) in [
            ("project", json!(name), "a project"),
            ("job", json!(name), "a job"),
            ("parents", json!({ name: record.id }), "a job"),
            (
                "policy",
                json!({ "grace_ms": 1, "outputs": { name: "/x" } }),
                "an output",
            ),
        ] {
            let mut changed = written.clone();
            changed[key] = value;
            fs::write(&path, changed.to_string()).unwrap();
            let refusal = store.read(record.id).unwrap_err().to_string();
            let reason = format!("{name:?} is not the name of {what}");
            assert!(refusal.ends_with(&reason), "{key}: {refusal}");
        }
    }
}

#[test]
fn a_link_in_the_place_of_the_caches_of_inputs_leads_nowhere() {
    let (folder, store) = store();
    let cache = store.input_cache(Path::new("/data")).unwrap();
    let inputs = store.path().join("inputs");
    assert_eq!(cache.parent(), Some(inputs.as_path()));
    fs::remove_dir(&inputs).unwrap();
    std::os::unix::fs::symlink(folder.path(), &inputs).unwrap();
    assert_eq!(store.input_cache(Path::new("/data")), None);
    assert_eq!(
        store.run(record("a", 1).id).input_cache(Path::new("/data")),
        None
    );
}

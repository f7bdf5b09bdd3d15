//! Training, end to end through the program, on a model that is small enough to train in a second.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::{Project, sha256, stderr, stdout};

const WEIGHTS: &str = "model.safetensors";

#[test]
fn what_can_be_learned_is_learned_and_written() {
    let project = Project::new();
    let said = stdout(&mut project.job("out", &["train"]));
    let metrics = project.json("out/metrics.json");
    let accuracy = metrics["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{metrics}");
    assert!(
        said.starts_with(&format!("accuracy={accuracy:.4} loss=")),
        "{said}"
    );

    let config = project.json("out/config.json");
    assert_eq!(config["architectures"][0], "BertForSequenceClassification");
    assert_eq!(config["id2label"]["0"], "negative");
    let metadata = project.json("out/metadata.json");
    assert_eq!(
        metadata["weights_sha256"],
        project.sha256("out/model.safetensors")
    );
    assert_eq!(
        metadata["given"]["data_sha256"],
        project.sha256("reviews.csv")
    );
    let base = project.sha256("model/model.safetensors");
    assert_eq!(metadata["given"]["model_sha256"], base);

    assert!(!project.path("out/checkpoints/epoch-1").exists());
    for epoch in 2..=4 {
        assert!(
            project
                .path(&format!("out/checkpoints/epoch-{epoch}/{WEIGHTS}"))
                .exists()
        );
    }
    assert_eq!(
        project.sha256("out/checkpoints/epoch-4/model.safetensors"),
        project.sha256("out/model.safetensors")
    );
    assert!(!project.path("out/checkpoints/resume").exists());

    let lines = fs::read_to_string(project.path("out/metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let losses: Vec<f64> = lines
        .iter()
        .filter_map(|line| line["loss"].as_f64())
        .collect();
    assert!(losses.last().unwrap() < &(losses[0] / 2.0), "{losses:?}");
    assert_eq!(
        lines
            .iter()
            .filter(|line| line["valid_accuracy"].is_f64())
            .count(),
        4
    );

    let evaluation = stdout(
        project
            .job("out", &["evaluate"])
            .env("MODEL", project.path("out")),
    );
    assert_eq!(evaluation, said);
    assert_eq!(project.json("out/eval.json")["test"], metrics["test"]);
}

#[test]
fn the_head_alone_learns_on_features_that_are_computed_once() {
    let project = Project::new();
    let mut job = project.job("out", &["train"]);
    job.env("TRAIN_BODY", "0 ")
        .env("N_EPOCHS", "60")
        .env("LR", "1e-2");
    let said = stdout(&mut job);
    assert!(
        project.json("out/metrics.json")["accuracy"]
            .as_f64()
            .unwrap()
            > 0.9,
        "{said}"
    );
    assert_eq!(project.json("out/config.json")["pooling"], "mean");
    let evaluation = stdout(
        project
            .job("out", &["evaluate"])
            .env("MODEL", project.path("out")),
    );
    assert_eq!(evaluation, said);
}

#[test]
fn the_same_is_trained_every_time() {
    let project = Project::new();
    let times = if std::env::var_os("JOBCTL_TEST_FULL").is_some() {
        10
    } else {
        2
    };
    for threads in ["1", "2"] {
        let hashes: Vec<String> = (0..times)
            .map(|time| {
                let output = format!("out-{threads}-{time}");
                let mut job = project.job(&output, &["train"]);
                stdout(job.env("OMP_NUM_THREADS", threads).env("N_EPOCHS", "1"));
                project.sha256(&format!("{output}/{WEIGHTS}"))
            })
            .collect();
        assert!(
            hashes.iter().all(|hash| hash == &hashes[0]),
            "{threads} threads: {hashes:?}"
        );
    }
    stdout(
        project
            .job("other", &["train"])
            .env("SEED", "1")
            .env("N_EPOCHS", "1"),
    );
    assert_ne!(
        project.sha256("other/model.safetensors"),
        project.sha256("out-1-0/model.safetensors")
    );
}

/// All files under a directory, with their SHA-256.
pub(crate) fn files(directory: &std::path::Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let inner = files(&path).into_iter();
            found.extend(inner.map(|(inner, hash)| (format!("{name}/{inner}"), hash)));
        } else {
            found.insert(name, sha256(&path));
        }
    }
    found
}

#[test]
fn all_that_is_written_again_is_the_same_but_the_times() {
    let project = Project::new();
    let train = |output: &str, epochs: &str| {
        stdout(project.job(output, &["train"]).env("N_EPOCHS", epochs));
        files(&project.path(output))
    };
    let mut first = train("out", "2");
    // In the place of another, of which nothing stays.
    train("again", "5");
    let mut second = train("again", "2");
    let timings = project.json("again/timings.json");
    assert!(timings["training"]["cpu_seconds"].as_f64().unwrap() > 0.0);
    assert!(timings["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    let steps = |line: &str| line.contains("\"loss\"");
    let lines = fs::read_to_string(project.path("again/metrics.jsonl")).unwrap();
    let logged = lines.lines().filter(|line| steps(line)).count();
    assert_eq!(timings["log"].as_array().unwrap().len(), logged);
    for files in [&mut first, &mut second] {
        assert!(files.remove("timings.json").is_some());
    }
    assert!(first.contains_key("metadata.json") && first.contains_key("split.json"));
    assert_eq!(first, second);
}

/// As a full disk or SIGKILL would do it.
#[test]
fn new_labels_never_lie_beside_old_weights() {
    let project = Project::new();
    stdout(project.job("out", &["train"]).env("N_EPOCHS", "1"));
    stdout(
        project
            .job("out", &["evaluate"])
            .env("MODEL", project.path("out")),
    );
    let data = project.path("reviews.csv");
    let stars = fs::read_to_string(&data)
        .unwrap()
        .replace(",negative", ",1");
    fs::write(&data, stars.replace(",positive", ",5")).unwrap();
    // The weights can't be written: this name is a directory's.
    let obstacle = project.path("out/model.safetensors.part");
    fs::create_dir(&obstacle).unwrap();
    let train = || {
        let mut job = project.job("out", &["train"]);
        job.env("N_EPOCHS", "1").output().unwrap()
    };
    let failed = train();
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        stderr(&failed).contains("model.safetensors: "),
        "{}",
        stderr(&failed)
    );
    for gone in [WEIGHTS, "eval.json"] {
        assert!(!project.path(&format!("out/{gone}")).exists(), "{gone}");
    }
    let mut job = project.job("out", &["predict", "a film"]);
    let refused = job.env("MODEL", project.path("out")).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    fs::remove_dir(&obstacle).unwrap();
    let resumed = train();
    assert!(
        stderr(&resumed).contains("continuing after step"),
        "{}",
        stderr(&resumed)
    );
    let mut job = project.job("out", &["predict", "a film"]);
    let answer = stdout(job.env("MODEL", project.path("out")));
    assert!(answer.starts_with("{\"1\":"), "{answer}");
}

/// Waits for the first checkpoint, then sends a signal.
fn interrupt(job: &mut Command, signal: &str) -> std::process::ExitStatus {
    let mut child = job.stderr(Stdio::piped()).spawn().unwrap();
    let output = job
        .get_envs()
        .find(|(name, _)| *name == "OUTPUT_DIR")
        .unwrap()
        .1
        .unwrap();
    let state = std::path::Path::new(output).join("checkpoints/resume/state.json");
    while !state.exists() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the job ended early");
        std::thread::yield_now();
    }
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    for line in lines {
        line.unwrap();
    }
    child.wait().unwrap()
}

#[test]
fn a_training_that_was_broken_off_comes_to_the_same_bytes() {
    let project = Project::new();
    // Long enough to be met in mid-course.
    let job = |output: &str| {
        let mut job = project.job(output, &["train"]);
        job.env("N_EPOCHS", "8").env("BATCH_SIZE", "2");
        job
    };
    stdout(&mut job("whole"));
    for (signal, code) in [("-TERM", Some(143)), ("-KILL", None)] {
        let output = format!("broken{signal}");
        assert_eq!(interrupt(&mut job(&output), signal).code(), code);
        let unfinished = project.path(&format!("{output}/{WEIGHTS}"));
        assert!(!unfinished.exists(), "nothing half done is called done");
        let resumed = job(&output).output().unwrap();
        assert!(resumed.status.success(), "{}", stderr(&resumed));
        assert!(
            stderr(&resumed).contains("continuing after step"),
            "{}",
            stderr(&resumed)
        );
        assert_eq!(
            sha256(&unfinished),
            project.sha256("whole/model.safetensors"),
            "{signal}"
        );
        let lines = |output: &str| {
            fs::read_to_string(project.path(&format!("{output}/metrics.jsonl"))).unwrap()
        };
        assert_eq!(lines(&output), lines("whole"), "{signal}");
    }
}

#[test]
fn another_training_does_not_continue_from_a_checkpoint() {
    let project = Project::new();
    let job = || {
        let mut job = project.job("out", &["train"]);
        job.env("N_EPOCHS", "20").env("BATCH_SIZE", "2");
        job
    };
    interrupt(&mut job(), "-TERM");
    let refuses = |job: &mut Command, difference: &str| {
        let other = job.output().unwrap();
        assert_eq!(other.status.code(), Some(1), "{difference}");
        assert!(stderr(&other).contains(difference), "{}", stderr(&other));
    };
    refuses(job().env("LR", "0.5"), "LR was 0.003, is 0.5");
    refuses(job().env("TRACE", "1"), "TRACE was false, is true");
    // The same weights.
    for (file, before, after, difference) in [
        (
            "config.json",
            "\"num_attention_heads\":4",
            "\"num_attention_heads\":8",
            "config_sha256 was ",
        ),
        (
            "tokenizer.json",
            "\"superb\"",
            "\"splendid\"",
            "tokenizer_sha256 was ",
        ),
    ] {
        let path = project.path(&format!("model/{file}"));
        let text = fs::read_to_string(&path).unwrap();
        let changed = text.replace(before, after);
        assert_ne!(changed, text, "{file}");
        fs::write(&path, changed).unwrap();
        refuses(&mut job(), difference);
        fs::write(&path, text).unwrap();
    }
    // Nothing of it was lost.
    let resumed = job().output().unwrap();
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("continuing after step"));
}

#[test]
fn two_trainings_do_not_write_to_the_same_directory() {
    let project = Project::new();
    let directory = project.path("out");
    fs::create_dir(&directory).unwrap();
    // As another training has it.
    let kept = fs::File::open(&directory).unwrap();
    kept.lock().unwrap();
    let second = project.job("out", &["train"]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = stderr(&second);
    assert!(said.contains("another process is writing"), "{said}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    drop(kept);
    stdout(&mut project.job("out", &["train"]));
}

/// What is wrong is reported before anything is computed or written.
pub(crate) fn assert_refused(project: &Project, job: &mut Command, message: &str) {
    let output = job
        .env("OUTPUT_DIR", project.path("refused"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    let said = stderr(&output).replace(&format!("{}/", project.path("").display()), "");
    let said = said.replace(&project.path("").display().to_string(), "");
    assert!(said.contains(message), "{said}");
    assert!(
        said.lines().all(|line| line.starts_with("error: ")),
        "{said}"
    );
    assert!(!project.path("refused").exists(), "{message}");
}

#[test]
fn damaged_models_are_refused() {
    let project = Project::new();
    let weights = project.path("model/model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for length in [0, 4, 7, 8, 100, 1000, whole.len() / 2, whole.len() - 1] {
        fs::write(&weights, &whole[..length]).unwrap();
        assert_refused(
            &project,
            &mut project.job("", &["train"]),
            "model.safetensors: damaged",
        );
    }
    for byte in (0..64).step_by(3) {
        let mut flipped = whole.clone();
        flipped[byte] ^= 0x5a;
        fs::write(&weights, flipped).unwrap();
        assert_refused(
            &project,
            &mut project.job("", &["train"]),
            "model.safetensors: ",
        );
    }
    let mut not_finite = whole.clone();
    let end = not_finite.len() - 4;
    not_finite[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, not_finite).unwrap();
    assert_refused(
        &project,
        &mut project.job("", &["train"]),
        "numbers that are not finite",
    );
    fs::remove_file(&weights).unwrap();
    assert_refused(
        &project,
        &mut project.job("", &["train"]),
        "model.safetensors: No such file",
    );
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let project = Project::new();
    let config = project.path("model/config.json");
    let whole = fs::read_to_string(&config).unwrap();
    for (from, to, message) in [
        (
            "\"hidden_size\":32",
            "\"hidden_size\":48",
            "has the shape [27, 32], and config.json wants [27, 48]",
        ),
        (
            "\"hidden_size\":32",
            "\"hidden_size\":33",
            "not a multiple of `num_attention_heads`",
        ),
        (
            "\"vocab_size\":27",
            "\"vocab_size\":20",
            "with the id 26, and config.json a `vocab_size` of 20",
        ),
        ("\"gelu\"", "\"silu\"", "`hidden_act` is \"silu\""),
        ("\"bert\"", "\"gpt2\"", "`model_type` is \"gpt2\""),
        (
            "\"num_hidden_layers\":2",
            "\"num_hidden_layers\":3",
            "has no tensor `bert.encoder.layer.2.",
        ),
        ("{", "", "config.json: not JSON"),
    ] {
        assert!(whole.contains(from), "{from}");
        fs::write(&config, whole.replacen(from, to, 1)).unwrap();
        assert_refused(&project, &mut project.job("", &["train"]), message);
    }
    fs::write(&config, &whole).unwrap();
    fs::write(project.path("model/tokenizer.json"), "{\"version\": 1").unwrap();
    assert_refused(
        &project,
        &mut project.job("", &["train"]),
        "tokenizer.json: not a tokenizer",
    );
}

#[test]
fn bad_data_and_variables_are_refused() {
    let project = Project::new();
    let data = project.path("reviews.csv");
    fs::write(&data, "text,label\nfine,positive\nbad\n").unwrap();
    assert_refused(
        &project,
        &mut project.job("", &["train"]),
        "reviews.csv: line 3: 1 fields",
    );
    fs::remove_file(&data).unwrap();
    assert_refused(
        &project,
        &mut project.job("", &["train"]),
        "reviews.csv: No such file",
    );
    let mut job = project.job("", &["train"]);
    assert_refused(
        &project,
        job.env("LR", "x").env("SEED", "-1"),
        "error: SEED=\"-1\": SEED is",
    );
    let mut job = project.job("", &["train"]);
    assert_refused(
        &project,
        job.env("NUM_MAX_POSITIONS", "65"),
        "reads at most 64 tokens",
    );
    let mut job = project.job("", &["train"]);
    assert_refused(
        &project,
        job.env("PRECISION", "bf16").env("DEVICE", "cpu"),
        "bf16 needs a GPU",
    );
    let mut job = project.job("", &["train"]);
    assert_refused(
        &project,
        job.env("PRECISION", "int8").env("DEVICE", "cpu"),
        "error: PRECISION=int8",
    );
    let mut job = project.job("", &["train"]);
    assert_refused(
        &project,
        job.env("DEVICE", "cuda"),
        "error: DEVICE=cuda:0: ",
    );
    let mut job = project.job("", &["predict", "a film"]);
    assert_refused(
        &project,
        &mut job,
        "has no classifier: these are base weights",
    );
}

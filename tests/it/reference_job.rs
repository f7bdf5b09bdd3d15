//! The reference job, from its sources to an answer: only in the full check, as it takes minutes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::image::docker;
use crate::support::project::Project;
use crate::support::{Bench, Ended, run, skipped};

/// A container that ends with its value.
struct Server(String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-fv", &self.0]).output();
    }
}

/// What a server answers to a request: status line and headers, and the body.
fn ask(address: &str, path: &str, body: Option<&str>) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let request = match body {
        Some(body) => format!(
            "POST {path} HTTP/1.1\r\nHost: job\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ),
        None => format!("GET {path} HTTP/1.1\r\nHost: job\r\nConnection: close\r\n\r\n"),
    };
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

/// Builds the job's image, in the full check.
fn is_built(test: &str) -> bool {
    static BUILT: Once = Once::new();

    if std::env::var_os("JOBCTL_TEST_FULL").is_none() {
        skipped(test, "only in the full check");
        return false;
    }
    BUILT.call_once(|| {
        let bench = Bench::new();
        let built = run(bench
            .jobctl()
            .arg("--directory")
            .arg(root())
            .args(["build", "--trust", "train"]));
        assert_eq!(built.code, Some(0), "{}", built.stderr);
    });
    true
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Server {
    /// The job as docker runs it, with these flags.
    fn start(flags: &[&str]) -> Self {
        let usual = ["run", "-d", "--label", "dev.jobctl.test=reference"];
        let port = ["-p", "127.0.0.1:0:8000"];
        let id = docker(&[&usual[..], &port, flags, &["jobctl-train"]].concat());
        Self(id.trim().to_owned())
    }

    /// Where it answers, once it does. It trains first, and says from the first second on that it lives.
    fn address(&self) -> String {
        let address = docker(&["port", &self.0, "8000/tcp"]).trim().to_owned();
        let start = Instant::now();
        loop {
            match ask(&address, "/readyz", None) {
                Some((head, _)) if head.starts_with("HTTP/1.1 200") => return address,
                _ => assert!(
                    start.elapsed() < Duration::from_mins(10),
                    "it is never ready"
                ),
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

#[test]
fn the_reference_job_trains_on_reviews_and_answers() {
    if !is_built("the_reference_job_trains_on_reviews_and_answers") {
        return;
    }
    let variables = root().join("job-template/test.env");
    let server = Server::start(&["--env-file", variables.to_str().unwrap()]);
    let address = server.address();
    let text = r#"{"text": "Moving, funny, and beautifully played. I loved every minute."}"#;
    let (head, body) = ask(&address, "/inference", Some(text)).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let share = |label: &str| answer[label].as_f64().unwrap();
    assert!(
        (share("positive") + share("negative") - 1.0).abs() < 1e-5,
        "{answer}"
    );
    assert!(share("positive") > 0.5, "{answer}");
    docker(&["stop", &server.0]);
    let code = docker(&["inspect", "--format", "{{.State.ExitCode}}", &server.0]);
    assert_eq!(code, "0\n");
}

#[test]
fn docker_alone_runs_it_as_the_original_was_run() {
    if !is_built("docker_alone_runs_it_as_the_original_was_run") {
        return;
    }
    let few = ["-e", "NUM_TRAIN=40", "-e", "NUM_TEST=20"];
    let config = root().join("job-template/config.env");
    for flags in [
        &["-e", "LR=0.001", "-e", "N_EPOCHS=2"][..],
        &["--env-file", config.to_str().unwrap()],
    ] {
        let server = Server::start(&[flags, &few].concat());
        let path = "/predict?sentence=Moving%20and%20funny";
        let (head, body) = ask(&server.address(), path, None).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            answer["response"]["sentence"], "Moving and funny",
            "{answer}"
        );
    }
}

/// A port that nobody has.
fn free_port() -> u16 {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    taken.local_addr().unwrap().port()
}

/// A project whose pipelines are ended with it.
struct Pipelines(Project);

impl Pipelines {
    fn up(&self, variables: &[(&str, &str)]) -> Ended {
        let mut command = self.0.jobctl(&["up"]);
        run(command.envs(variables.iter().copied()))
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        let _ = self.0.jobctl(&["down"]).output();
    }
}

#[test]
fn a_training_that_is_worse_than_what_serves_does_not_serve() {
    if !is_built("a_training_that_is_worse_than_what_serves_does_not_serve") {
        return;
    }
    let port = free_port();
    let project = Pipelines(Project::with_name(&format!(
        r#"
train:
  image: jobctl-train
  command: ["train"]
  environment: {{ NUM_TRAIN: "${{NUM_TRAIN}}", NUM_TEST: "200", LR: "${{LR:-6.5e-5}}" }}
  outputs: {{ model: /artifacts }}
  metrics: {{ files: [/artifacts/metrics.json] }}
serve:
  image: job:train
  command: ["serve"]
  service: true
  environment: {{ MODEL: /model }}
  needs: {{ train: {{ outputs: {{ model: /model }}, gate: "accuracy >= promoted.accuracy - 0.02" }} }}
  ports: ["127.0.0.1:{port}:8000"]
  healthcheck: {{ test: ["CMD", "/usr/local/bin/finetuning-job", "health"], interval: 1s, retries: 30 }}
"#
    )));
    let address = format!("127.0.0.1:{port}");
    let good = project.up(&[("NUM_TRAIN", "400")]);
    assert_eq!(good.code, Some(0), "{good:?}");
    let text = r#"{"text": "Moving, funny, and beautifully played."}"#;
    let (_, before) = ask(&address, "/inference", Some(text)).unwrap();
    let worse = project.up(&[("NUM_TRAIN", "40"), ("LR", "1e-9")]);
    assert_eq!(worse.code, Some(1), "{worse:?}");
    let said = "is not >= promoted.accuracy - 0.02";
    assert!(worse.stderr.contains(said), "{}", worse.stderr);
    let (_, after) = ask(&address, "/inference", Some(text)).unwrap();
    assert_eq!(before, after);
}

#[test]
fn weights_and_reviews_can_be_ones_own() {
    if !is_built("weights_and_reviews_can_be_ones_own") {
        return;
    }
    let project = Pipelines(Project::with_name("none: { image: IMAGE }"));
    let example = root().join("examples/mounted-inputs/jobs.yaml");
    let text = std::fs::read_to_string(example).unwrap();
    let own = std::fs::read_to_string(project.0.bench.path().join("jobs.yaml")).unwrap();
    let name = own.lines().find(|line| line.starts_with("name:")).unwrap();
    let text = text.replace("name: mounted-inputs", name);
    project.0.bench.write("jobs.yaml", &text);
    let model = root().join("target/model").canonicalize().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let to: PathBuf = project.0.bench.write(&format!("input/model/{file}"), "");
        std::fs::copy(model.join(file), to).unwrap();
    }
    let rows = [
        "\"Wonderful, I laughed all along\",positive",
        "\"Dull, and far too long\",negative",
    ];
    let reviews: String = (0..40)
        .flat_map(|at| {
            let row = rows[at % 2].replace("I ", &format!("I{at} "));
            [row.replace("far", &format!("far{at}")), "\n".to_owned()]
        })
        .collect();
    let reviews = format!("review,sentiment\n{reviews}");
    project.0.bench.write("input/reviews.csv", &reviews);
    let port = free_port().to_string();
    let ended = project.up(&[("SERVE_PORT", &port)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let path = "/predict?sentence=Wonderful";
    let (_, body) = ask(&format!("127.0.0.1:{port}"), path, None).unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert!(answer["response"]["positive"].is_number(), "{answer}");
    let inputs = &project.0.records().pop().unwrap()["inputs"];
    assert_eq!(inputs["reviews"]["bytes"], reviews.len());
}

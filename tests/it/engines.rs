//! What the documentation promises holds on every engine, by every way to one; docs/reference/engines.md
//! has the table, and the differences that there are.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::certificates::make_certificates;
use crate::support::engine::{self, FOR_JOBS, PodmanService, PrivateEngine, Release};
use crate::support::image::{DEBIAN, ImageName, ensure_debian};
use crate::support::registry::Registry;
use crate::support::ssh::SshServer;
use crate::support::{Bench, Ended, SOCKET, is_root, jobctl, run, skipped};

mod contract;

use contract::{VERDICTS, holds};

/// An engine of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The one that all tests use: 20.10 or newer.
    Here,
    Engine26,
    Engine28,
    Containerd28,
    Podman,
}

/// An engine, and a registry that it reaches.
struct Lab {
    kind: Kind,
    bench: Bench,
    registry: Registry,
    /// What labels its images; the project is called the same.
    images: ImageName,
    /// What brings a program to the engine's network.
    enter: Vec<String>,
    variables: Vec<(&'static str, String)>,
    /// What the engine calls the image that jobs are built from.
    debian: String,
    held: Held,
}

/// What ends with a lab.
enum Held {
    Nothing,
    Engine(PrivateEngine),
    Podman(PodmanService),
}

const CONTEXT: &str = "context";

impl Lab {
    fn new(kind: Kind, registry: Registry, held: Held, host: String) -> Self {
        ensure_debian();
        let (socket, enter) = match &held {
            Held::Nothing => (None, Vec::new()),
            Held::Engine(engine) => (Some(engine.socket()), engine.enter().to_vec()),
            Held::Podman(podman) => (Some(podman.socket()), Vec::new()),
        };
        if let Some(socket) = socket {
            engine::load(DEBIAN, &socket);
        }
        let debian = match kind {
            Kind::Podman => format!("localhost/{DEBIAN}"),
            _ => DEBIAN.to_owned(),
        };
        let lab = Self {
            kind,
            bench: Bench::new(),
            registry,
            images: ImageName::new(),
            enter,
            variables: vec![
                ("DOCKER_HOST", host),
                // Engines that know it then give all images one time.
                ("SOURCE_DATE_EPOCH", "1700000000".to_owned()),
            ],
            debian,
            held,
        };
        let name = lab.name();
        lab.bench.write(
            "jobs.yaml",
            &format!(
                "version: 1\nname: {name}\nimage: {{ prefix: \"{}/\" }}\njobs:\n  \
                 app:\n    build: {{ context: {CONTEXT} }}\n    network: none\n    \
                 command: [sh, -c, 'echo out; echo err >&2; mkdir -p /out; echo kept > /out/file; \
                 exit \"$$CODE\"']\n    outputs: {{ result: /out }}\n  \
                 hungry: {{ image: job:app, network: none, resources: {{ memory: 32m }}, \
                 command: [tail, /dev/zero] }}\n",
                lab.registry.address()
            ),
        );
        lab.from(&lab.base());
        lab.words("one");
        lab
    }

    /// An engine of its own, with a registry beside it.
    fn private(kind: Kind, flags: &[&str]) -> Self {
        let (release, store): (_, &[&str]) = match kind {
            Kind::Engine26 => (Release::Trixie, &[]),
            Kind::Engine28 => (Release::Sid, &["--feature", "containerd-snapshotter=false"]),
            _ => (Release::Sid, &["--feature", "containerd-snapshotter=true"]),
        };
        let engine = PrivateEngine::of(release, &[store, flags].concat());
        let registry = Registry::beside(&engine);
        let host = engine.host();
        Self::new(kind, registry, Held::Engine(engine), host)
    }

    fn podman() -> Self {
        let registry = Registry::new();
        let insecure = format!(
            "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
            registry.address()
        );
        let podman = PodmanService::with(FOR_JOBS, &insecure);
        let host = format!("unix://{}", podman.socket().display());
        Self::new(Kind::Podman, registry, Held::Podman(podman), host)
    }

    /// The project's name, which nobody else has.
    fn name(&self) -> String {
        self.images.as_str().replacen("jobctl-test", "test", 1)
    }

    /// What the registry calls the image of the job.
    fn repository(&self) -> String {
        format!("{}-app", self.name())
    }

    fn image(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.registry.address())
    }

    /// The image that jobs are built from: in the registry, for the engine's own processor alone.
    fn base(&self) -> String {
        self.image(&format!("{}-base", self.name()), "1")
    }

    fn from(&self, base: &str) {
        let text = format!("FROM {base}\nCOPY words /srv/words\n");
        self.bench.write(&format!("{CONTEXT}/Dockerfile"), &text);
    }

    fn words(&self, words: &str) {
        self.bench.write(&format!("{CONTEXT}/words"), words);
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match self.enter.as_slice() {
            [] => self.bench.command(program),
            enter => {
                let mut command = self.bench.command("nsenter");
                command.args(enter).arg(program);
                command
            }
        };
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn jobctl(&self, args: &[&str]) -> Ended {
        run(self.command(jobctl()).args(args))
    }

    /// The same, which is to succeed; what it prints.
    fn output(&self, args: &[&str]) -> String {
        let ended = self.jobctl(args);
        assert_eq!(ended.code, Some(0), "jobctl {args:?}: {ended:?}");
        ended.stdout
    }

    /// Builds the job; the last line of what is said of it.
    fn build(&self, flags: &[&str]) -> Ended {
        let label = self.images.label();
        self.jobctl(&[&["build", "app", "--label", &label], flags].concat())
    }

    fn docker(&self, args: &[&str]) -> Ended {
        run(self.command("docker").args(args))
    }

    /// The record of the newest run.
    fn record(&self) -> Value {
        let runs = self.bench.path().join(".jobctl/runs");
        let runs = std::fs::read_dir(runs).unwrap();
        let newest = runs.map(|entry| entry.unwrap().path()).max().unwrap();
        let text = std::fs::read_to_string(newest.join("run.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The processor and the id of an image.
    fn processor(&self, image: &str) -> String {
        let format = "{{.Architecture}} {{.Id}}";
        let ended = self.docker(&["image", "inspect", "--format", format, image]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout.trim().to_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What is on an engine of its own ends with it.
        if matches!(self.held, Held::Nothing) {
            let filter = format!("reference={}/*", self.registry.address());
            let listed = self.docker(&[
                "images",
                "--filter",
                &filter,
                "--format",
                "{{.Repository}}:{{.Tag}}",
            ]);
            for name in listed.stdout.lines() {
                self.docker(&["rmi", name]);
            }
        }
    }
}

/// Whether a test of one of the engines runs: some only where there is time.
fn is_run(test: &str, is_long: bool) -> bool {
    if !is_root(test) {
        return false;
    }
    let runs = !is_long || std::env::var_os("JOBCTL_TEST_FULL").is_some();
    if !runs {
        skipped(test, "set JOBCTL_TEST_FULL=1");
    }
    runs
}

#[test]
fn the_contract_holds_here() {
    if is_run("the_contract_holds_here", true) {
        let host = format!("unix://{SOCKET}");
        holds(&Lab::new(Kind::Here, Registry::new(), Held::Nothing, host));
    }
}

#[test]
fn the_contract_holds_on_engine_26() {
    if is_run("the_contract_holds_on_engine_26", false) {
        holds(&Lab::private(Kind::Engine26, &[]));
    }
}

#[test]
fn the_contract_holds_on_engine_28() {
    if is_run("the_contract_holds_on_engine_28", true) {
        holds(&Lab::private(Kind::Engine28, &[]));
    }
}

#[test]
fn the_contract_holds_on_engine_28_with_containerds_store() {
    if is_run(
        "the_contract_holds_on_engine_28_with_containerds_store",
        true,
    ) {
        holds(&Lab::private(Kind::Containerd28, &[]));
    }
}

#[test]
fn the_contract_holds_on_podman() {
    if is_run("the_contract_holds_on_podman", true) {
        holds(&Lab::podman());
    }
}

#[test]
fn the_contract_holds_over_ssh() {
    if is_run("the_contract_holds_over_ssh", true) {
        let mut lab = Lab::private(Kind::Containerd28, &[]);
        let server = SshServer::start(&lab.bench);
        let Held::Engine(engine) = &lab.held else {
            unreachable!("it is an engine of its own")
        };
        let socket = engine.socket();
        let host = format!("ssh://root@127.0.0.1:{}{}", server.port, socket.display());
        let path = std::env::var("PATH").unwrap();
        lab.variables[0].1 = host;
        lab.variables
            .push(("PATH", format!("{}:{path}", server.client.display())));
        lab.enter.clear();
        holds(&lab);
    }
}

#[test]
fn the_contract_holds_with_tls() {
    if is_run("the_contract_holds_with_tls", true) {
        let keys = Bench::new();
        make_certificates(&keys, "keys", "127.0.0.1");
        let keys = keys.path().join("keys");
        let file = |name: &str| keys.join(name).display().to_string();
        let [ca, certificate, key] = ["ca.pem", "server.pem", "server-key.pem"].map(file);
        let flags = [
            "-H=tcp://127.0.0.1:2376",
            "--tlsverify",
            &format!("--tlscacert={ca}"),
            &format!("--tlscert={certificate}"),
            &format!("--tlskey={key}"),
        ];
        let mut lab = Lab::private(Kind::Engine26, &flags);
        lab.variables[0].1 = "tcp://127.0.0.1:2376".to_owned();
        lab.variables.push(("DOCKER_TLS_VERIFY", "1".to_owned()));
        lab.variables
            .push(("DOCKER_CERT_PATH", keys.display().to_string()));
        holds(&lab);
    }
}

#[test]
fn the_documentation_has_what_differs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/engines.md");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
    let verdicts = row("| `build --verify` of `COPY f /srv/f`");
    let shown: Vec<_> = verdicts.split('|').skip(2).map(str::trim).collect();
    let expected = [
        "same content",
        "same content",
        "same content",
        "identical",
        "differs",
    ];
    assert_eq!(shown[..5], expected);
    for ((kind, verdict), shown) in VERDICTS.iter().zip(&shown[1..]) {
        assert_eq!(verdict.replace('_', " "), **shown, "{kind:?}");
    }
}

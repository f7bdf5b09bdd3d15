//! `jobctl push` and its like, against a real registry.

mod attached;
mod authorities;
mod credentials;
mod faults;
mod latest;
mod order;
mod others;
mod pulls;
mod remembered;
mod tokens;
mod unread;
mod versions;

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::Command;

use crate::support::image::{ImageName, docker};
use crate::support::registry::{PASSWORD, Registry, USER};
use crate::support::{Bench, Ended, run};

/// An image of a test's own, and where it is pushed to.
pub(crate) struct Pusher {
    pub(crate) bench: Bench,
    pub(crate) image: ImageName,
    registry: SocketAddr,
}

impl Pusher {
    pub(crate) fn new(registry: SocketAddr) -> Self {
        let bench = Bench::new();
        bench.write("Dockerfile", "FROM scratch\nCOPY a /a\n");
        // The home folder stands there too.
        bench.write(".dockerignore", "*\n!a\n");
        bench.write("a", "one\n");
        Self {
            bench,
            image: ImageName::new(),
            registry,
        }
    }

    /// The name with the registry, and a tag.
    fn name(&self, tag: &str) -> String {
        format!("{}/{}:{tag}", self.registry, self.image.as_str())
    }

    fn prefix(&self) -> String {
        format!("{}/", self.registry)
    }

    /// Builds a version, without pushing it.
    fn build(&self, version: &str) {
        let flags = ["--version", version, "--image-prefix", &self.prefix()];
        let ended = run(&mut self.image.build(&self.bench, &flags));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }

    /// Makes the image so large that a layer is sent in many parts, which no gzip makes less.
    fn fill(&self, bytes: u64) {
        let noise = std::fs::File::open("/dev/urandom").unwrap();
        let mut file = std::fs::File::create(self.bench.path().join("a")).unwrap();
        std::io::copy(&mut noise.take(bytes), &mut file).unwrap();
    }

    fn deploy(&self, version: &str) -> Ended {
        let flags = [
            "--version",
            version,
            "--image_prefix",
            &self.prefix(),
            "--deploy",
        ];
        run(&mut self.image.build(&self.bench, &flags))
    }

    fn push(&self, tag: &str, flags: &[&str]) -> Ended {
        run(&mut self.command(tag, flags))
    }

    /// Pushes what was built under the name, with the prefix.
    fn push_built(&self, flags: &[&str]) -> Ended {
        let name = self.image.as_str();
        let mut command = self.bench.jobctl();
        command.args(["push", "--name", name, "--image-prefix", &self.prefix()]);
        run(command.args(flags))
    }

    fn command(&self, tag: &str, flags: &[&str]) -> Command {
        let mut command = self.bench.jobctl();
        command.arg("push").arg(self.name(tag)).args(flags);
        command
    }

    /// Logs in, with a password.
    fn log_in(&self, password: &str) -> Ended {
        use std::io::Write as _;
        use std::process::Stdio;

        let mut child = self
            .bench
            .jobctl()
            .args(["login", "-u", USER, "--password-stdin"])
            .arg(self.registry.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(password.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap().into()
    }
}

#[test]
fn a_release_is_pushed_under_all_of_its_names_and_not_twice() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let ended = pusher.deploy("1.2.3");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let repository = pusher.image.as_str();
    let digest = registry.digest(repository, "1.2.3");
    let lines: Vec<_> = ended.stdout.lines().collect();
    // `latest` moves last, and the digest is the last word.
    assert_eq!(
        lines[lines.len() - 2],
        format!("{} pushed", pusher.name("latest"))
    );
    assert_eq!(lines[lines.len() - 1], digest);
    let tags = registry.tags(repository);
    let (contexts, others): (Vec<_>, Vec<_>) = tags.iter().partition(|tag| tag.starts_with("ctx-"));
    assert_eq!(others, ["1", "1.2", "1.2.3", "latest"]);
    assert_eq!(contexts.len(), 1);
    for tag in &tags {
        assert_eq!(registry.digest(repository, tag), digest, "{tag}");
    }
    let ended = pusher.deploy("1.2.3");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (last, names) = {
        let mut lines: Vec<_> = ended.stdout.lines().collect();
        (lines.pop().unwrap(), lines)
    };
    assert!(
        names.iter().all(|line| line.ends_with(" was there")),
        "{names:?}"
    );
    assert_eq!(last, digest);
}

#[test]
fn what_comes_before_a_release_moves_nothing_else() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    for version in ["1.3.0-SNAPSHOT", "1.3.0-rc.1"] {
        let ended = pusher.deploy(version);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let tags = registry.tags(pusher.image.as_str());
    let others: Vec<_> = tags.iter().filter(|tag| !tag.starts_with("ctx-")).collect();
    assert_eq!(others, ["1.3.0-SNAPSHOT", "1.3.0-rc.1"]);
}

#[test]
fn what_was_released_is_not_replaced() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    assert_eq!(pusher.deploy("1.2.3").code, Some(0));
    let repository = pusher.image.as_str();
    let released = registry.digest(repository, "1.2.3");
    pusher.bench.write("a", "two\n");
    let ended = pusher.deploy("1.2.3");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = format!(
        "`{}` is released already, as {released}",
        pusher.name("1.2.3")
    );
    assert!(ended.stderr.contains(&said), "{}", ended.stderr);
    // Nothing else has moved.
    for tag in registry.tags(repository) {
        assert_eq!(registry.digest(repository, &tag), released, "{tag}");
    }
    pusher.build("1.2.3");
    let ended = pusher.push("1.2.3", &["--force", "--digest-file", "digest"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let replaced = registry.digest(repository, "1.2.3");
    assert_ne!(replaced, released);
    let written = std::fs::read_to_string(pusher.bench.path().join("digest")).unwrap();
    assert_eq!(written, replaced);
    // One that comes before a release may be made anew.
    pusher.bench.write("a", "three\n");
    assert_eq!(pusher.deploy("2.0.0-SNAPSHOT").code, Some(0));
    pusher.bench.write("a", "four\n");
    assert_eq!(pusher.deploy("2.0.0-SNAPSHOT").code, Some(0));
}

#[test]
fn a_jobs_newest_image_is_pushed_by_the_jobs_name() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let name = pusher.image.as_str();
    let manifest = format!(
        "version: 1\nname: test\nimage: {{ prefix: \"{}\", version: 0.1.0 }}\njobs:\n  {name}: {{ build: \
         {{ context: . }} }}\n",
        pusher.prefix()
    );
    pusher.bench.write("jobs.yaml", &manifest);
    let ended = run(pusher.bench.jobctl().args(["push", name]));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("the engine has no image"),
        "{ended:?}"
    );
    let label = pusher.image.label();
    let mut build = pusher.bench.jobctl();
    let ended = run(build.args(["build", name, "--label", &label]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let plan = run(pusher.bench.jobctl().args(["push", "--dry-run", name]));
    assert_eq!(plan.code, Some(0), "{plan:?}");
    let repository = format!("test-{name}");
    assert!(
        plan.stdout
            .contains(&format!("/{repository}:latest (image sha256:")),
        "{plan:?}"
    );
    assert!(registry.tags(&repository).is_empty());
    let ended = run(pusher
        .bench
        .jobctl()
        .args(["--format", "json", "push", name]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let digest = registry.digest(&repository, "0.1.0");
    let images = said["images"].as_array().unwrap();
    assert!(
        images.iter().all(|image| image["digest"] == *digest),
        "{said:#}"
    );
    assert_eq!(
        images.last().unwrap()["name"],
        format!("{}{repository}:latest", pusher.prefix())
    );
}

#[test]
fn a_release_of_build_py_is_pushed_under_its_names() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    let name = pusher.image.as_str();
    let repository = format!("team-{name}");
    let prefix = format!("{}team-", pusher.prefix());
    let release = |version: &str| {
        let flags = [
            "--version",
            version,
            "--proxy",
            "http://user:canary@proxy.example:3128",
            "--image_prefix",
            &prefix,
            "--deploy",
        ];
        run(&mut pusher.image.build(&pusher.bench, &flags))
    };
    // A prefix is put before the name as it is; what comes before a release leaves `latest` alone.
    for (version, theirs, ours) in [
        ("0.1.0-SNAPSHOT", vec!["0.1.0-SNAPSHOT"], vec![]),
        ("0.1.0", vec!["0.1.0", "latest"], vec!["0", "0.1"]),
    ] {
        let before = registry.tags(&repository);
        let ended = release(version);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!format!("{ended:?}").contains("canary"), "{ended:?}");
        let tags = registry.tags(&repository).into_iter();
        let mut new: Vec<_> = tags
            .filter(|tag| !tag.starts_with("ctx-") && !before.contains(tag))
            .collect();
        new.sort();
        let mut expected = [theirs, ours].concat();
        expected.sort_unstable();
        assert_eq!(new, expected);
    }
    // It ended with 0 when a build failed, and pushed what was there.
    let before = registry.tags(&repository);
    pusher
        .bench
        .write("Dockerfile", "FROM scratch\nCOPY missing /a\n");
    let ended = release("0.2.0");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(registry.tags(&repository), before);
}

#[test]
fn names_without_a_registry_are_not_pushed() {
    let pusher = Pusher::new(([127, 0, 0, 1], 1).into());
    pusher.build("1.0.0");
    let name = format!("{}:1.0.0", pusher.image.as_str());
    // That is known before anything is built.
    pusher.bench.write("a", "two\n");
    let before = pusher.image.tags();
    let ended = run(&mut pusher.image.build(&pusher.bench, &["--deploy"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("names no registry"), "{ended:?}");
    assert_eq!(pusher.image.tags(), before);
    let ended = run(pusher.bench.jobctl().args(["push", &name]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("names no registry"),
        "{}",
        ended.stderr
    );
    let mut tag = pusher.bench.jobctl();
    let ended = run(tag.args(["tag", &name, &pusher.name("other")]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ids = [&name, &pusher.name("other")]
        .map(|name| docker(&["image", "inspect", "--format", "{{.Id}}", name]));
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn an_image_is_pushed_whatever_is_wrong_with_the_jobs() {
    let registry = Registry::new();
    let pusher = Pusher::new(registry.address());
    pusher.build("1.0.0");
    pusher.bench.write("jobs.yaml", "version: 1\njobz: {}\n");
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = run(pusher.bench.jobctl().args(["push", "train"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("`jobz`"), "{}", ended.stderr);
}

#[test]
fn a_hundred_names_of_one_image_send_its_layers_once() {
    use crate::support::registry::{Deed, Proxy};

    let registry = Registry::new();
    let proxy = Proxy::start(registry.address(), |_, _, _| Deed::Pass);
    let pusher = Pusher::new(proxy.address);
    pusher.build("1.0.0");
    let id = pusher.name("1.0.0");
    let mut names = Vec::new();
    for number in 0..100 {
        let name = pusher.name(&format!("tag-{number}"));
        docker(&["tag", &id, &name]);
        names.push(name);
    }
    let ended = run(pusher.bench.jobctl().arg("push").args(&names));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(registry.tags(pusher.image.as_str()).len(), 100);
    // The layer and the configuration.
    let uploads = proxy.count("PUT", "/blobs/uploads/");
    assert_eq!(uploads, 2);
}

#[test]
fn a_password_is_found_where_it_was_kept_and_never_shown() {
    let registry = Registry::with_password();
    let pusher = Pusher::new(registry.address());
    pusher.build("1.0.0");
    let ended = pusher.push("1.0.0", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let address = pusher.registry;
    assert_eq!(
        ended.stderr,
        format!(
            "error[push]: the registry {address} does not let anybody without credentials in\n |\n = help: \
             `jobctl login {address}`\n\n"
        )
    );
    let ended = pusher.log_in("wrong");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("does not let `me` in"), "{ended:?}");
    let ended = pusher.log_in(&format!("{PASSWORD}\n"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = pusher.push("1.0.0", &["-vv"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for secret in [PASSWORD, "czNjcmV0P34+cHc", "bWU6czNjcmV0"] {
        assert!(!ended.stderr.contains(secret) && !ended.stdout.contains(secret));
    }
    let mut logout = pusher.bench.jobctl();
    let ended = run(logout.args(["logout", &address.to_string()]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(pusher.push("1.0.0", &[]).code, Some(1));
}

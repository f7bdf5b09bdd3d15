//! Which files travel, and what becomes of them: docker's own client is the judge, on random trees.
//!
//! 20 trees; with `JOBCTL_TEST_FULL` 500. With `JOBCTL_TEST_BUILDX`, docker's build plugin, BuildKit
//! builds for docker too; without, the classic builder, which takes set-user bits away and wants
//! wildcards to match.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, FileTimes, Permissions};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::image::ImageName;
use crate::support::random::Random;
use crate::support::{Bench, Ended, run};

const NAMES: [&[u8]; 12] = [
    b"a",
    b"b",
    b"c.txt",
    b"d.log",
    b"e f",
    b".hidden",
    "\u{e9}t\u{e9}".as_bytes(),
    b"x-y",
    b"a.b",
    b"[z]",
    b"UP",
    b"\xffraw",
];
const PATTERNS: [&str; 20] = [
    "a",
    "b/",
    "*.log",
    "**/*.txt",
    "*/a",
    "**",
    "!a",
    "!**/c.txt",
    "a/**",
    "!a/b",
    "?",
    "[a-c]",
    "[!a]*",
    "**/b",
    "/a",
    "*/*",
    "!*/*/a",
    ".*",
    "# comment",
    "\u{e9}*",
];
const COPIES: [&str; 8] = [
    "COPY . /out/",
    "COPY . /out/",
    "COPY . /out/",
    "COPY a* /out/",
    "COPY a /out/x",
    "COPY */ /out/",
    "COPY b/a c.txt* /out/",
    "COPY [\"e f\", \"/out/\"]",
];

/// Makes a tree; returns how many files it has.
fn plant(folder: &Path, random: &mut Random, depth: u32) {
    for _ in 0..=random.below(5) {
        let path = folder.join(OsStr::from_bytes(random.pick(&NAMES)));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match random.below(10) {
            0..4 if depth < 3 => {
                fs::create_dir(&path).unwrap();
                plant(&path, random, depth + 1);
                let mode = random.pick(&[0o755, 0o700, 0o1777]);
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
            4 => symlink(OsStr::from_bytes(random.pick(&NAMES)), &path).unwrap(),
            5 => {
                let other = folder.join(OsStr::from_bytes(random.pick(&NAMES)));
                if other.symlink_metadata().is_ok_and(|found| found.is_file()) {
                    fs::hard_link(&other, &path).unwrap();
                }
            }
            _ => {
                fs::write(&path, format!("content {}", random.below(4))).unwrap();
                let age = Duration::from_secs(random.below(1_000_000_000));
                let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + age);
                fs::File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_times(times)
                    .unwrap();
                let mode = random.pick(&[0o644, 0o600, 0o755, 0o4755, 0o444]);
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq)]
struct Packed {
    kind: tar::EntryType,
    mode: u32,
    owner: (u64, u64),
    /// Of regular files, in seconds; folders are made anew.
    modified: Option<u64>,
    link: Vec<u8>,
    content: Vec<u8>,
}

type Found = BTreeMap<Vec<u8>, Packed>;

/// All files of an image, over all its layers. Hard links are the files that they are names of.
fn files(image: &str) -> Found {
    let saved = Command::new("docker")
        .args(["save", image])
        .output()
        .unwrap();
    assert!(saved.status.success());
    let mut layers = BTreeMap::new();
    let mut manifest = None;
    for entry in tar::Archive::new(saved.stdout.as_slice())
        .entries()
        .unwrap()
    {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if path == "manifest.json" {
            manifest = Some(serde_json::from_slice::<serde_json::Value>(&content).unwrap());
        } else {
            layers.insert(path, content);
        }
    }
    let mut found = Found::new();
    for layer in manifest.unwrap()[0]["Layers"].as_array().unwrap() {
        let layer = layers[layer.as_str().unwrap()].as_slice();
        for entry in tar::Archive::new(layer).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path_bytes().into_owned();
            let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
            let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let header = entry.header();
            let kind = header.entry_type();
            let file = if kind == tar::EntryType::Link {
                found[&link.unwrap()].clone()
            } else {
                Packed {
                    kind,
                    mode: header.mode().unwrap(),
                    owner: (header.uid().unwrap(), header.gid().unwrap()),
                    modified: kind.is_file().then(|| header.mtime().unwrap()),
                    link: link.unwrap_or_default(),
                    content,
                }
            };
            found.insert(path, file);
        }
    }
    found
}

/// docker's own build.
fn judge(bench: &Bench, plugin: Option<&Path>) -> Command {
    let mut docker = bench.command("docker");
    docker.args(["build", "--quiet", "--no-cache"]);
    if let Some(plugin) = plugin {
        let plugins = bench.path().join("home/.docker/cli-plugins");
        if !plugins.exists() {
            fs::create_dir(&plugins).unwrap();
            symlink(plugin, plugins.join("docker-buildx")).unwrap();
        }
    }
    // Without being told, the client goes by what the engine says, and 20.10 does not say.
    docker.env("DOCKER_BUILDKIT", if plugin.is_some() { "1" } else { "0" });
    docker
}

/// What docker's own build came to.
fn judgement(bench: &Bench, plugin: Option<&Path>, tag: &str) -> Ended {
    let judged = || run(judge(bench, plugin).args(["--tag", tag, "context"]));
    let first = judged();
    // On a busy machine the client now and then cancels a build that has only just begun.
    if first.stderr.contains("context canceled") {
        return judged();
    }
    first
}

#[test]
fn a_build_copies_what_dockers_copies() {
    let trees = match std::env::var_os("JOBCTL_TEST_FULL") {
        Some(_) => 500,
        None => 20,
    };
    let plugin = std::env::var_os("JOBCTL_TEST_BUILDX").map(PathBuf::from);
    let mut compared = 0;
    for seed in 0..trees {
        let random = &mut Random::new(seed);
        let bench = Bench::new();
        let name = ImageName::new();
        let context: PathBuf = bench.path().join("context");
        fs::create_dir(&context).unwrap();
        plant(&context, random, 0);
        let copy = random.pick(&COPIES);
        let label = name.label();
        let dockerfile = format!("FROM scratch\nLABEL {label}\n{copy}\nCMD [\"none\"]\n");
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let lines: Vec<_> = (0..random.below(5))
            .map(|_| random.pick(&PATTERNS))
            .collect();
        // The Dockerfile's own ignore file counts alone.
        let ignore = match random.below(4) {
            0 => "Dockerfile.dockerignore",
            _ => ".dockerignore",
        };
        fs::write(context.join(ignore), lines.join("\n")).unwrap();
        let theirs = format!("{}:theirs", name.as_str());
        let judged = judgement(&bench, plugin.as_deref(), &theirs);
        let ours = run(bench
            .jobctl()
            .args(["--directory", "context", "build", "--no-cache", "--name"])
            .arg(name.as_str()));
        let case = format!(
            "seed {seed}: {copy}, in {ignore}: {lines:?}\n{}\n{}",
            judged.stderr, ours.stderr
        );
        if judged.stderr.contains("no source files") {
            continue;
        }
        assert_eq!(judged.code == Some(0), ours.code == Some(0), "{case}");
        if ours.code == Some(0) {
            let mut own = files(&format!("{}:latest", name.as_str()));
            if plugin.is_none() {
                own.values_mut()
                    .filter(|file| file.kind.is_file())
                    .for_each(|file| file.mode &= !0o6000);
            }
            assert_eq!(files(&theirs), own, "{case}");
            compared += 1;
        }
    }
    assert!(
        compared > trees / 4,
        "only {compared} of {trees} could be built"
    );
}

//! Images of a test's own, on the real engine.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Bench, Ended, run};

/// The image that tests build on where steps are run.
pub(crate) const DEBIAN: &str = "debian:trixie-slim";

/// A name for images, all of which are removed with it.
pub(crate) struct ImageName(String);

impl ImageName {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("jobctl-test-{}-{number}", std::process::id()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The label that tells the images.
    pub(crate) fn label(&self) -> String {
        format!("dev.jobctl.test={}", self.0)
    }

    /// `jobctl build` of the bench's folder, with the name and the label.
    pub(crate) fn build(&self, bench: &Bench, flags: &[&str]) -> Command {
        let mut command = bench.jobctl();
        command
            .args(["build", "--name", &self.0, "--label", &self.label()])
            .args(flags);
        command
    }

    /// The tags of all images, sorted.
    pub(crate) fn tags(&self) -> Vec<String> {
        let filter = format!("label={}", self.label());
        let format = "{{.Repository}}:{{.Tag}}";
        let listed = docker(&["images", "--filter", &filter, "--format", format]);
        let mut tags: Vec<_> = listed.lines().map(str::to_owned).collect();
        tags.sort();
        tags
    }
}

impl Drop for ImageName {
    fn drop(&mut self) {
        remove_images(&format!("label={}", self.label()));
    }
}

/// Removes all images that a filter of `docker images` finds.
pub(crate) fn remove_images(filter: &str) {
    // What docker's old builder made an image from goes only after it, and the list has no order.
    for _ in 0..3 {
        let listed = docker(&["images", "--quiet", "--filter", filter]);
        // An image of several names is listed for each.
        let ids: BTreeSet<&str> = listed.lines().collect();
        if ids.is_empty() {
            break;
        }
        let _ = Command::new("docker")
            .args(["rmi", "--force"])
            .args(ids)
            .output();
    }
}

/// Builds an image from nothing but a Dockerfile, as docker does; its id. It inherits the labels of its base.
pub(crate) fn docker_build(text: &str, tag: &str) -> String {
    let mut build = Command::new("docker")
        .args(["build", "--quiet", "--tag", tag, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = build.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let ended = build.wait_with_output().unwrap();
    assert!(ended.status.success());
    String::from_utf8(ended.stdout).unwrap().trim().to_owned()
}

/// An image of a test's own with a file `/f` and a shell that does nothing. Its ID and `/f` say which.
///
/// A step of a Dockerfile that runs in it takes no time.
pub(crate) fn tiny(name: &ImageName, tag: &str, id: &str) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut file = |path: &str, mode, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        archive.append_data(&mut header, path, content).unwrap();
    };
    file("bin/sh", 0o755, &nothing());
    file("f", 0o644, id.as_bytes());
    let archive = archive.into_inner().unwrap();
    let changes = [format!("LABEL {}", name.label()), format!("ENV ID={id}")];
    let mut import = Command::new("docker")
        .arg("import")
        .args(changes.iter().flat_map(|change| ["--change", change]))
        .args(["-", tag])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(&archive).unwrap();
    drop(stdin);
    assert!(import.wait().unwrap().success());
}

/// A program for Linux that ends at once, without a library: one segment of an ELF file.
fn nothing() -> Vec<u8> {
    const START: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;

    let (machine, code): (u16, &[u8]) = match std::env::consts::ARCH {
        // exit(0)
        "aarch64" => (
            183,
            &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4],
        ),
        _ => (62, &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 5]),
    };
    let length = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |file: &mut Vec<u8>, values: &[u16]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let word = |file: &mut Vec<u8>, values: &[u32]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let long = |file: &mut Vec<u8>, values: &[u64]| {
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    half(&mut file, &[2, machine]);
    word(&mut file, &[1]);
    // Where it starts, where its segments are listed; it has no sections.
    long(&mut file, &[START + HEADERS, 64, 0]);
    word(&mut file, &[0]);
    half(&mut file, &[64, 56, 1, 0, 0, 0]);
    // One segment: it is loaded, read and executed.
    word(&mut file, &[1, 5]);
    long(&mut file, &[0, START, START, length, length, 0x1000]);
    file.extend(code);
    file
}

/// What docker's own client says.
pub(crate) fn docker(args: &[&str]) -> String {
    let Ended {
        code,
        stdout,
        stderr,
    } = run(Command::new("docker").args(args));
    assert_eq!(code, Some(0), "docker {args:?}: {stderr}");
    stdout
}

/// Sees to it that [`DEBIAN`] is there.
pub(crate) fn ensure_debian() {
    static ONCE: Once = Once::new();

    ONCE.call_once(|| {
        let is_there = Command::new("docker")
            .args(["image", "inspect", DEBIAN])
            .output()
            .unwrap()
            .status
            .success();
        if !is_there {
            let program = concat!(env!("CARGO_MANIFEST_DIR"), "/images/debian/bootstrap");
            // Through a pipe, docker would take what a program wrote that failed.
            let file = tempfile::NamedTempFile::new().unwrap();
            let output = file.reopen().unwrap();
            let ended = run(Command::new(program).arg(DEBIAN).stdout(output));
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            docker(&["import", file.path().to_str().unwrap(), DEBIAN]);
        }
    });
}

/// The content of a file of an image.
pub(crate) fn file_of(image: &str, path: &str) -> Vec<u8> {
    let container = docker(&["create", "--label", "dev.jobctl.test=file", image, "none"]);
    let container = container.trim();
    let copied = Command::new("docker")
        .args(["cp", &format!("{container}:{path}"), "-"])
        .output()
        .unwrap();
    docker(&["rm", container]);
    let mut archive = tar::Archive::new(copied.stdout.as_slice());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
    content
}

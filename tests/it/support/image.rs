//! Images of a test's own, on the real engine.

use std::process::Command;
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
        let filter = format!("label={}", self.label());
        let listed = docker(&["images", "--quiet", "--filter", &filter]);
        for id in listed.lines() {
            // An image of several names is listed for each.
            let _ = Command::new("docker").args(["rmi", "--force", id]).output();
        }
    }
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

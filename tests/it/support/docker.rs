//! Images and containers of a test, which end with their values.

use std::process::{Command, Stdio};

/// What everything has that tests make on the engine, so that leftovers are seen.
pub(crate) const LABEL: &str = "dev.jobctl.test=1";

/// An image with nothing in it.
pub(crate) struct EmptyImage {
    id: String,
}

impl EmptyImage {
    pub(crate) fn new() -> Self {
        // An archive with nothing in it is two blocks of zeros. The comment makes the image one of
        // its own: images that are the same have one ID, which another test could remove.
        let message = tempfile::tempdir().unwrap().path().display().to_string();
        let mut import = Command::new("docker")
            .args(["import", "--message", &message])
            .args(["--change", &format!("LABEL {LABEL}")])
            .args(["--change", "CMD [\"/none\"]", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = import.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, &[0; 1024]).unwrap();
        drop(stdin);
        let output = import.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Self {
            id: String::from_utf8(output.stdout).unwrap().trim().to_owned(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for EmptyImage {
    fn drop(&mut self) {
        docker(&["image", "rm", "--force", &self.id]);
    }
}

/// A container that was made and not started.
pub(crate) struct Container(pub(crate) String);

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]);
    }
}

/// Calls docker's client, whatever comes of it.
fn docker(args: &[&str]) {
    let _ = Command::new("docker").args(args).output();
}

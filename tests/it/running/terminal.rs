//! Runs on a terminal: what is typed, its size, and how it is left.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::project::Project;
use crate::support::{run, wait_for};

/// A shell on a terminal of its own, at which the test sits.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    shown: String,
}

impl Terminal {
    /// Calls `jobctl run` with these words in the shell; then it says its code, and whether the terminal
    /// is as it was.
    fn run(project: &Project, flags: &[&str], words: &[&str]) -> Self {
        let command = project.run_image(flags, words);
        let words: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| shell_words::quote(word.to_str().unwrap()).into_owned())
            .collect();
        let script = format!(
            "stty cols 77 rows 33; tty > tty; stty -a > before; {}; echo \"code $?\"; stty -a > after; \
             if cmp before after; then echo same; else echo other; fi",
            words.join(" ")
        );
        // Whoever calls the tests may do so with `nohup`; nobody sits at such a terminal.
        let mut script_command = project.bench.command("env");
        let mut child = script_command
            .args(["--default-signal=HUP", "script", "-qefc", &script])
            .arg("/dev/null")
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            keys: child.stdin.take().unwrap(),
            screen: child.stdout.take().unwrap(),
            child,
            shown: String::new(),
        }
    }

    fn types(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
        self.keys.flush().unwrap();
    }

    /// Reads until the screen has shown a text.
    fn shows(&mut self, text: &str) {
        while !self.shown.contains(text) {
            let mut bytes = [0; 1024];
            let length = self.screen.read(&mut bytes).unwrap();
            assert_ne!(length, 0, "it ends without `{text}`: {}", self.shown);
            let bytes = String::from_utf8_lossy(&bytes[..length]);
            self.shown.push_str(&bytes.replace('\r', ""));
        }
    }

    /// Reads to the end: all that it has shown.
    fn ends(mut self) -> String {
        self.shows("same\n");
        drop(self.keys);
        self.child.wait().unwrap();
        self.shown
    }
}

/// Says `ready`, and then each line that it is given.
const JOB: &str = "trap 'echo caught; exit 9' INT; echo ready; \
                   while :; do read -r line && echo \"got $line\"; done";

#[test]
fn ctrl_c_on_a_terminal_is_a_key_of_the_job() {
    let project = Project::empty();
    let mut terminal = Terminal::run(&project, &["-it"], &["bash", "-c", JOB]);
    terminal.shows("ready\n");
    terminal.types(b"word\r");
    terminal.shows("got word\n");
    terminal.types(b"\x03");
    let shown = terminal.ends();
    assert!(shown.contains("caught\n"), "{shown}");
    assert!(shown.contains("code 9\nsame\n"), "{shown}");
    let record = project.record();
    assert_eq!(record["ending"], "error", "{record:#}");
    project.assert_clean();
}

#[test]
fn a_terminal_that_changes_its_size_changes_the_jobs() {
    let project = Project::empty();
    let script = "trap 'exit 9' INT; while :; do stty size; sleep 0.1; done";
    let mut terminal = Terminal::run(&project, &["-it"], &["bash", "-c", script]);
    terminal.shows("33 77\n");
    let tty = std::fs::read_to_string(project.bench.path().join("tty")).unwrap();
    let resize = |columns, rows| {
        let size = ["-F", tty.trim(), "cols", columns, "rows", rows];
        let ended = run(Command::new("stty").args(size));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    };
    resize("91", "44");
    terminal.shows("44 91\n");
    // As it was, so that nothing else differs.
    resize("77", "33");
    terminal.types(b"\x03");
    let shown = terminal.ends();
    assert!(shown.contains("code 9\nsame\n"), "{shown}");
}

#[test]
fn the_keys_that_let_go_leave_job_and_terminal_as_they_were() {
    let project = Project::empty();
    let mut terminal = Terminal::run(&project, &["-it"], &["bash", "-c", JOB]);
    terminal.shows("ready\n");
    terminal.types(b"\x10\x11");
    let shown = terminal.ends();
    assert!(shown.contains("code 0\nsame\n"), "{shown}");
    let listed = project.output(&["ps"]);
    assert!(listed.contains("running (unattended)"), "{listed}");
    let id = project.record()["id"].as_str().unwrap().to_owned();
    project.output(&["stop", "-t", "1", &id]);
    project.assert_clean();
}

#[test]
fn a_lost_connection_leaves_a_job_on_a_terminal_running() {
    let project = Project::empty();
    let mut terminal = Terminal::run(&project, &["-it"], &["bash", "-c", JOB]);
    terminal.shows("ready\n");
    // With it goes the terminal, as with the connection of whoever sat at it.
    terminal.child.kill().unwrap();
    terminal.child.wait().unwrap();
    wait_for(|| project.output(&["ps"]).contains("running (unattended)"));
    let id = project.record()["id"].as_str().unwrap().to_owned();
    project.output(&["stop", "-t", "1", &id]);
    project.assert_clean();
}

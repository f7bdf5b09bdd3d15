//! Names, labels and answers that a terminal would act on: nothing of them does where jobctl shows
//! them, and what a job writes is the job's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::support::project::Project;
use crate::support::{Bench, Ended, run};

/// An escape that sets the title, one of a single byte that clears, one that turns the writing.
const HOSTILE: &str = "\u{1b}]0;pwned\u{7}\u{9b}2J\u{202e}evil\u{8}";

fn assert_harmless(text: &str, what: &str) {
    let acts = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(acts), "{what}: {text:?}");
}

fn assert_shown(ended: &Ended, what: &str) {
    assert_harmless(&ended.stdout, what);
    assert_harmless(&ended.stderr, what);
}

/// An engine that refuses everything in hostile words.
fn engine(folder: &std::path::Path) -> String {
    let socket = folder.join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || refuse(&client));
        }
    });
    format!("unix://{}", socket.display())
}

fn refuse(mut client: &UnixStream) -> Option<()> {
    let mut asked = BufReader::new(client.try_clone().ok()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if asked.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let (status, body) = if head.contains("/_ping ") {
            ("200 OK", "OK".to_owned())
        } else {
            let message = format!("no {HOSTILE} way");
            let body = serde_json::json!({ "message": message }).to_string();
            ("500 Internal Server Error", body)
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nApi-Version: 1.41\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        client.write_all(answer.as_bytes()).ok()?;
    }
}

#[test]
fn the_words_of_an_engine_are_only_words() {
    let bench = Bench::new();
    let host = engine(bench.path());
    for style in ["plain", "json", "quiet"] {
        for args in [
            &["run", "--image", "debian", "true"][..],
            &["images"],
            &["doctor"],
            &["--format", "json", "doctor"],
            &["pull", "debian"],
            &["--format", "json", "run", "--image", "debian", "true"],
        ] {
            let mut command = bench.jobctl();
            command
                .args(["--host", &host, "--progress", style])
                .args(args);
            let ended = run(&mut command);
            assert_ne!(ended.code, Some(0), "{args:?}: {ended:?}");
            assert_shown(&ended, &format!("{style} {args:?}"));
        }
    }
}

#[test]
fn names_of_files_and_values_are_only_text() {
    let project = Project::new(
        "train:\n  image: IMAGE\n  outputs: { model: /model }\n  \
         command: [sh, -c, 'mkdir /model; cp /name /model/\"$$(cat /name)\"; cat /name']",
    );
    project.bench.write("name", HOSTILE);
    let volume = "./name:/name:ro";
    let label = format!("hostile={HOSTILE}");
    let variable = format!("HOSTILE={HOSTILE}");
    let mut command = project.run(&["--volume", volume, "--label", &label, "--env", &variable]);
    let ended = run(command.arg("train"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // The job's own output is the job's.
    assert_eq!(ended.stdout, HOSTILE);
    let id = project.record()["id"].as_str().unwrap().to_owned();
    assert_eq!(project.output(&["logs", &id]), HOSTILE);
    for args in [
        &["show", &id][..],
        &["--format", "json", "show", &id],
        &["runs"],
        &["get", &id, "model", "--to", "out"],
        &["get", &id, HOSTILE],
        &["show", HOSTILE],
        &["--format", "json", "show", HOSTILE],
        &["--file", HOSTILE, "validate"],
    ] {
        let ended = run(&mut project.jobctl(args));
        assert_shown(&ended, &format!("{args:?}"));
    }
    let written = project.output(&["--format", "json", "show", &id]);
    assert!(written.contains("\\u009b"), "{written}");

    project.bench.write(
        "bad.yaml",
        "version: 1\nname: \"a\u{9b}2J\u{202e}\"\nb\u{1b}[2J: 1\n",
    );
    let ended = run(&mut project.jobctl(&["--file", "bad.yaml", "validate"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_shown(&ended, "bad.yaml");
    project.assert_clean();
}

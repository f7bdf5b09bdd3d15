//! How progress is shown: on terminals, in logs, for programs, and hardly at all.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::InMemoryTerm;
use jobctl::event::{Event, Outcome, StepId, Stream, Unit};
use jobctl::report::{Json, Plain, Reporter, Terminal};
use serde_json::Value;

use crate::support::results::assert_documented;
use crate::support::{Bench, jobctl, run};

/// A writer whose text can be read while a reporter has it.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn started(step: u64, parent: Option<u64>, name: &str) -> Event {
    Event::StepStarted {
        step: StepId(step),
        parent: parent.map(StepId),
        name: name.to_owned(),
    }
}

fn progress(step: u64, current: u64, total: Option<u64>, unit: Unit) -> Event {
    Event::StepProgress {
        step: StepId(step),
        current,
        total,
        unit,
    }
}

fn log(step: u64, line: &str) -> Event {
    Event::StepLog {
        step: StepId(step),
        stream: Stream::Stdout,
        line: line.to_owned(),
    }
}

fn finished(step: u64, outcome: Outcome) -> Event {
    Event::StepFinished {
        step: StepId(step),
        outcome,
        elapsed: Duration::from_millis(1200),
    }
}

/// Work in which everything happens, under way and done.
fn work() -> (Vec<Event>, Vec<Event>) {
    let long = "compile the job and everything that it needs to be trained on a graphics card";
    let under_way = vec![
        Event::Note("two \u{1b}[1mimages\u{1b}[0m".to_owned()),
        started(1, None, "build train"),
        started(2, Some(1), "send the context"),
        progress(2, 25_000_000, Some(100_000_000), Unit::Bytes),
        started(3, Some(1), long),
        log(3, "Downloading 10%\rDownloading \u{1b}[32m20%\u{1b}[0m\r"),
        started(4, Some(1), "look at files"),
        progress(4, 7, Some(12), Unit::Count),
        started(5, None, "pull"),
        progress(5, 3_000, None, Unit::Bytes),
    ];
    let done = vec![
        finished(2, Outcome::Done),
        finished(3, Outcome::Failed("exit code 1".to_owned())),
        finished(4, Outcome::Cached),
        finished(
            5,
            Outcome::Skipped("it is \u{1b}[1mthere\u{1b}[0m".to_owned()),
        ),
        finished(1, Outcome::Failed(String::new())),
        Event::Warning("the clock is \u{7}wrong".to_owned()),
    ];
    (under_way, done)
}

/// What a terminal of so many columns shows in the middle of the work and at its end.
fn drawn(columns: u16) -> (String, String) {
    let term = InMemoryTerm::new(40, columns);
    let mut reporter = Terminal::term(Box::new(term.clone()));
    let (under_way, done) = work();
    for event in &under_way {
        reporter.event(event).unwrap();
    }
    reporter.tick().unwrap();
    // On a busy machine a second may have gone by.
    let seconds = regex::Regex::new(r"[ \d]\d+s").unwrap();
    let middle = term.contents();
    let middle = seconds.replace_all(&middle, " 0s");
    let rate = regex::Regex::new(r" *[0-9.]+ [kMGTP]?B/s").unwrap();
    let middle = rate.replace_all(&middle, " a rate in B/s").into_owned();
    for event in &done {
        reporter.event(event).unwrap();
    }
    reporter.finish().unwrap();
    (middle, term.contents())
}

#[test]
fn a_terminal_of_80_columns_has_bars() {
    let (middle, end) = drawn(80);
    insta::assert_snapshot!(format!("{middle}\n== at the end\n{end}"));
}

#[test]
fn a_terminal_of_40_columns_has_none() {
    let (middle, end) = drawn(40);
    // What is under way is a line each; a longer one could not be drawn over.
    assert_eq!(middle.lines().count(), 6, "{middle}");
    insta::assert_snapshot!(format!("{middle}\n== at the end\n{end}"));
}

#[test]
fn a_terminal_survives_what_engines_may_send() {
    let term = InMemoryTerm::new(10, 40);
    let mut reporter = Terminal::term(Box::new(term.clone()));
    for event in [
        progress(1, 5, Some(3), Unit::Count),
        log(1, "nobody's"),
        started(1, Some(9), "a\nb"),
        started(1, None, "again"),
        progress(1, 5, Some(3), Unit::Count),
        progress(1, u64::MAX, Some(0), Unit::Bytes),
        finished(1, Outcome::Done),
        finished(1, Outcome::Done),
    ] {
        reporter.event(&event).unwrap();
    }
    reporter.finish().unwrap();
    assert_eq!(term.contents(), "✓ b 1.2s");
}

#[test]
fn plain_lines_have_no_control_characters() {
    let written = Written::default();
    let mut reporter = Plain::new(Box::new(written.clone()));
    let (under_way, done) = work();
    for event in under_way.iter().chain(&done) {
        reporter.event(event).unwrap();
    }
    reporter.finish().unwrap();
    let text = written.text();
    let controls = text.chars().filter(|c| c.is_control() && *c != '\n');
    assert_eq!(controls.count(), 0, "{text:?}");
    insta::assert_snapshot!(text);
}

#[test]
fn quiet_says_what_went_wrong_and_nothing_else() {
    let written = Written::default();
    let mut reporter = Plain::quiet(Box::new(written.clone()));
    let (under_way, done) = work();
    for event in under_way.iter().chain(&done) {
        reporter.event(event).unwrap();
    }
    reporter.tick().unwrap();
    reporter.finish().unwrap();
    insta::assert_snapshot!(written.text());
}

#[test]
fn json_is_an_object_a_line_with_its_schema() {
    let written = Written::default();
    let mut reporter = Json::new(Box::new(written.clone()));
    let (under_way, done) = work();
    for event in under_way.iter().chain(&done) {
        reporter.event(event).unwrap();
    }
    let text = written.text();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), under_way.len() + done.len());
    for line in &lines {
        assert_documented(&line.to_string());
    }
    insta::assert_snapshot!(text);
}

/// Fails from the second write on, as a pipe does that nobody reads.
struct Broken(bool);

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.0, true) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn who_does_not_listen_stops_nothing() {
    let (events, received) = jobctl::event::Events::channel();
    let drawing = jobctl::report::spawn(Box::new(Plain::new(Box::new(Broken(false)))), received);
    for number in 0..1000 {
        events.send(Event::Note(number.to_string()));
    }
    drop(events);
    drawing.unwrap().join().unwrap();
}

/// On a terminal of its own: whatever hides the cursor shows it again before the end.
#[test]
fn the_cursor_is_left_visible() {
    let bench = Bench::new();
    bench.write("jobs.yaml", "version: 1\nname: demo\n");
    let line = format!("{} --progress tty doctor", jobctl().display());
    let ended = run(bench.command("script").env("TERM", "xterm").args([
        "--quiet",
        "--return",
        "--command",
        &line,
        "/dev/null",
    ]));
    let text = ended.stdout;
    assert!(text.contains("look at this machine"), "{text:?}");
    let hidden = text.rfind("\u{1b}[?25l");
    let shown = text.rfind("\u{1b}[?25h");
    assert!(hidden.is_none() || hidden < shown, "{text:?}");
}

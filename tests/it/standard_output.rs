//! Standard output that does not take all at once, or nothing at all.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::process::{Command, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::support::project::Project;
use crate::support::{Ended, run, wait_for};

/// So much a pipe takes that nobody reads.
const PIPE: usize = 64 << 10;
const FULL: &str = "No space left on device";

fn bytes(count: usize) -> String {
    format!("yes 123456789 | head -c {count}")
}

/// A pipe whose writer is told to come again later where it is full.
fn hasty_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    (reader, writer)
}

fn read_all(mut reader: PipeReader) -> usize {
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    read.len()
}

/// jobctl, writing to a file that takes nothing.
fn into_full(command: &mut Command) -> Ended {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = command.stdout(full).stderr(Stdio::piped()).spawn();
    child.unwrap().wait_with_output().unwrap().into()
}

#[test]
fn a_pipe_that_does_not_block_is_waited_for() {
    let project = Project::empty();
    let (reader, writer) = hasty_pipe();
    let script = bytes(10_000_000);
    let mut command = project.run_image(&[], &["sh", "-c", &script]);
    let mut child = command.stdout(writer).spawn().unwrap();
    drop(command);
    // More than the pipe takes.
    wait_for(|| match &project.records()[..] {
        [record] => {
            let id = record["id"].as_str().unwrap();
            let log = project.bench.path().join(".jobctl/runs").join(id);
            log.join("stdout.log")
                .metadata()
                .is_ok_and(|log| log.len() > PIPE as u64)
        }
        _ => false,
    });
    assert_eq!(read_all(reader), 10_000_000);
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let id = project.record()["id"].as_str().unwrap().to_owned();
    let (reader, writer) = hasty_pipe();
    let mut command = project.jobctl(&["logs", &id]);
    let mut child = command.stdout(writer).spawn().unwrap();
    drop(command);
    assert_eq!(read_all(reader), 10_000_000);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    project.assert_clean();
}

#[test]
fn a_result_waits_for_its_pipe_too() {
    let project = Project::empty();
    for (args, least) in [(&["schema"][..], 20_000), (&["--help"], 1_000)] {
        let (reader, mut writer) = hasty_pipe();
        writer.write_all(&vec![0; PIPE]).unwrap();
        let mut command = project.jobctl(args);
        let mut child = command.stdout(writer).spawn().unwrap();
        drop(command);
        let length = read_all(reader) - PIPE;
        assert!(length > least, "{args:?}: {length}");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_job_whose_output_can_not_be_shown_goes_on_and_is_kept() {
    let project = Project::new(
        "train:\n  image: IMAGE\n  outputs: { model: /model }\n  \
         command: [sh, -c, 'yes | head -c 200000; echo m > /model/m; exit 3']",
    );
    let said = format!("error: can't write the job's output: {FULL}\n");
    let ended = into_full(&mut project.run(&["train"]));
    assert_eq!((ended.code, &ended.stderr), (Some(1), &said));
    let record = project.record();
    assert_eq!(record["exit_code"], 3);
    assert_eq!(record["outputs"]["model"]["file_count"], 1);
    assert_eq!(project.file("stdout.log").len(), 200_000);
    let id = record["id"].as_str().unwrap();
    let ended = into_full(&mut project.jobctl(&["logs", id]));
    assert_eq!((ended.code, &ended.stderr), (Some(1), &said));
    project.assert_clean();
}

#[test]
fn a_job_goes_on_whose_output_nobody_reads_any_more() {
    let project = Project::empty();
    let script = format!("{}; exit 3", bytes(1_000_000));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = project.run_image(&[], &["sh", "-c", &script]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn();
    drop(command);
    reader.read_exact(&mut [0; 10]).unwrap();
    drop(reader);
    let ended: Ended = child.unwrap().wait_with_output().unwrap().into();
    let said = "error: can't write the job's output: Broken pipe\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), said));
    assert_eq!(project.record()["exit_code"], 3);
    assert_eq!(project.file("stdout.log").len(), 1_000_000);

    let id = project.record()["id"].as_str().unwrap().to_owned();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = project.jobctl(&["logs", &id]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn();
    drop(command);
    reader.read_exact(&mut [0; 10]).unwrap();
    drop(reader);
    let ended: Ended = child.unwrap().wait_with_output().unwrap().into();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    project.assert_clean();
}

#[test]
fn every_verb_says_that_its_result_was_not_written() {
    let project = Project::empty();
    let started = run(&mut project.run_image(&["-d"], &["sleep", "600"]));
    let id = started.stdout.trim().to_owned();
    let shows: [&[&str]; 9] = [
        &["--help"],
        &["run", "--help"],
        &["--version"],
        &["ps"],
        &["runs"],
        &["show", &id],
        &["--format", "json", "show", &id],
        &["schema"],
        &["validate"],
    ];
    for args in shows {
        let ended = into_full(&mut project.jobctl(args));
        let said = format!("error: can't write: {FULL}\n");
        assert_eq!((ended.code, ended.stderr), (Some(1), said), "{args:?}");
    }
    let ended = into_full(&mut project.jobctl(&["exec", &id, "echo", "hello"]));
    let said = format!("error: can't write the job's output: {FULL}\n");
    assert_eq!((ended.code, ended.stderr), (Some(1), said));
    project.output(&["kill", &id]);
    project.assert_clean();
}

/// What is shown of a run's log where a bit of its index has flipped.
#[test]
fn a_damaged_index_hides_nothing_and_is_reported_of() {
    let project = Project::empty();
    let ended = run(&mut project.run_image(&[], &["sh", "-c", "echo a; echo b >&2; echo c"]));
    assert_eq!(ended.code, Some(0));
    let id = project.record()["id"].as_str().unwrap().to_owned();
    let index = project.bench.path().join(".jobctl/runs").join(&id);
    let index = index.join("log.index");
    let sound = project.file("log.index");
    for bit in [0, 40, 66, 100, 120] {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&index, flipped).unwrap();
        for verb in [&["logs"][..], &["logs", "-f"], &["logs", "--since", "10m"]] {
            let ended = run(project.jobctl(verb).arg(&id));
            let shown = (ended.code, ended.stdout.as_str());
            assert_eq!(shown, (Some(0), "a\nc\n"), "{bit} {verb:?}");
            let said = "b\nwarning: the run's `log.index` is damaged: the whole log is shown, but \
                        its order and times are unknown from where the damage begins\n";
            assert_eq!(ended.stderr, said, "{bit} {verb:?}");
        }
    }
    std::fs::write(&index, sound).unwrap();
    let ended = run(&mut project.jobctl(&["logs", &id]));
    let shown = (ended.stdout.as_str(), ended.stderr.as_str());
    assert_eq!(shown, ("a\nc\n", "b\n"));
}

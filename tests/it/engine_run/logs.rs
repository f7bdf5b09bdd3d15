//! What containers wrote before.

use jiff::Timestamp;
use jobctl::engine::run::{Chunk, LogRequest, Stream};

use crate::support::container::{Runner, drain, shell};

async fn lines(runner: &Runner, id: &str, which: &LogRequest) -> String {
    let output = runner.engine.logs(id, false, which).await.unwrap();
    String::from_utf8(drain(output).await.0).unwrap()
}

#[tokio::test]
async fn the_last_lines_are_given_when_asked_for() {
    let runner = Runner::new().await;
    let id = runner.create(&shell("seq 1 100; printf end")).await;
    runner.finish(&id, false).await;
    for (tail, expected) in [(0, ""), (1, "end"), (3, "99\n100\nend")] {
        let which = LogRequest {
            tail: Some(tail),
            ..LogRequest::default()
        };
        assert_eq!(lines(&runner, &id, &which).await, expected, "{tail}");
    }
}

#[tokio::test]
async fn each_piece_has_its_time_and_can_be_asked_for_by_it() {
    let before = Timestamp::now();
    let runner = Runner::new().await;
    let id = runner
        .create(&shell(
            "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three",
        ))
        .await;
    runner.finish(&id, false).await;
    let stamped = LogRequest {
        timestamps: true,
        ..LogRequest::default()
    };
    let mut output = runner.engine.logs(&id, false, &stamped).await.unwrap();
    let mut pieces = Vec::new();
    while let Some(chunk) = output.next().await {
        pieces.push(chunk.unwrap());
    }
    let said = |chunk: &Chunk| (chunk.stream, chunk.bytes.to_vec());
    assert_eq!(
        pieces.iter().map(said).collect::<Vec<_>>(),
        [
            (Stream::Stdout, b"one\n".to_vec()),
            (Stream::Stderr, b"two\n".to_vec()),
            (Stream::Stdout, b"three\n".to_vec()),
        ]
    );
    let times: Vec<Timestamp> = pieces.iter().map(|chunk| chunk.time.unwrap()).collect();
    assert!(times.is_sorted());
    assert!(before < times[0] && times[2] < Timestamp::now());

    // The piece of that very time is among them.
    let since = LogRequest {
        since: Some(times[2]),
        ..LogRequest::default()
    };
    assert_eq!(lines(&runner, &id, &since).await, "three\n");
    let until = LogRequest {
        until: Some(times[1]),
        ..LogRequest::default()
    };
    assert_eq!(lines(&runner, &id, &until).await, "one\n");
}

#[tokio::test]
async fn a_log_is_followed_to_the_end() {
    let runner = Runner::new().await;
    let mut spec = shell("echo ready; read line; echo \"$line\"");
    spec.tty = true;
    spec.stdin = true;
    let id = runner.up(&spec).await;
    let following = LogRequest {
        follow: true,
        timestamps: true,
        ..LogRequest::default()
    };
    let mut output = runner.engine.logs(&id, true, &following).await.unwrap();
    let first = output.next().await.unwrap().unwrap();
    assert_eq!(first.bytes, "ready\r\n");
    assert!(first.time.is_some());

    let how = jobctl::engine::run::AttachRequest {
        tty: true,
        stdin: true,
        detach_keys: None,
    };
    let attachment = runner.engine.attach(&id, &how).await.unwrap();
    let mut input = attachment.input.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut input, b"go\n")
        .await
        .unwrap();
    let (rest, _) = drain(output).await;
    // The terminal shows what is typed.
    assert_eq!(rest, b"go\r\ngo\r\n");
}

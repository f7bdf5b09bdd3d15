//! What containers write and read.

use jobctl::engine::docker::Address;
use jobctl::engine::docker::endpoint::SshTarget;
use jobctl::engine::run::{AttachRequest, LogRequest, Until};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::support::container::{Runner, drain, shell};
use crate::support::image::ensure_debian;
use crate::support::ssh::SshServer;
use crate::support::{Bench, SOCKET, is_root};

#[tokio::test]
async fn the_streams_are_kept_apart_from_the_first_byte_to_the_last() {
    let runner = Runner::new().await;
    let finished = runner
        .run(&shell(
            "printf first; printf 'other\\n' >&2; seq 1 20000; printf last",
        ))
        .await;
    let numbers: Vec<_> = (1..=20000).map(|number: u32| number.to_string()).collect();
    assert_eq!(
        String::from_utf8(finished.stdout).unwrap(),
        format!("first{}\nlast", numbers.join("\n"))
    );
    assert_eq!(finished.stderr, b"other\n");
}

#[tokio::test]
async fn bytes_are_bytes_both_now_and_later() {
    let runner = Runner::new().await;
    let spec = shell(
        "head -c 5000000 /dev/urandom > /tmp/bytes; cat /tmp/bytes; \
         sha256sum < /tmp/bytes | cut -c -64 | tr -d '\\n' >&2",
    );
    let id = runner.create(&spec).await;
    let finished = runner.finish(&id, false).await;
    let hash = |bytes: &[u8]| format!("{:x}", Sha256::digest(bytes));
    assert_eq!(finished.stdout.len(), 5_000_000);
    assert_eq!(
        hash(&finished.stdout),
        String::from_utf8(finished.stderr).unwrap()
    );

    let logs = runner.engine.logs(&id, false, &LogRequest::default()).await;
    let (stdout, _) = drain(logs.unwrap()).await;
    assert_eq!(hash(&stdout), hash(&finished.stdout));
}

#[tokio::test]
async fn a_terminals_bytes_are_not_taken_for_frames() {
    let runner = Runner::new().await;
    let mut spec =
        shell("printf '\\001abc\\n'; test -t 1 && printf '\\002\\0\\0\\0\\0\\0\\0\\001x'");
    spec.tty = true;
    let finished = runner.run(&spec).await;
    assert_eq!(finished.code, 0);
    assert_eq!(finished.stdout, b"\x01abc\r\n\x02\0\0\0\0\0\0\x01x");
}

/// Sends more than any buffer on the way holds, and ends the input.
async fn assert_input_arrives(runner: &Runner) {
    let mut spec = shell("cat; echo over >&2");
    spec.stdin = true;
    let id = runner.create(&spec).await;
    let how = AttachRequest {
        stdin: true,
        ..AttachRequest::default()
    };
    let attachment = runner.engine.attach(&id, &how).await.unwrap();
    let waiting = runner.engine.wait(&id, Until::NextExit).await.unwrap();
    runner.engine.start(&id).await.unwrap();
    let mut input = attachment.input.unwrap();
    let sent: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let sending = async {
        input.write_all(&sent).await.unwrap();
        input.shutdown().await.unwrap();
    };
    let ((stdout, stderr), ()) = tokio::join!(drain(attachment.output), sending);
    assert!(stdout == sent, "{} bytes came back", stdout.len());
    assert_eq!(stderr, b"over\n");
    assert_eq!(waiting.exit().await.unwrap(), 0);
}

#[tokio::test]
async fn the_end_of_the_input_reaches_the_job() {
    assert_input_arrives(&Runner::new().await).await;
}

#[tokio::test]
async fn the_end_of_the_input_reaches_the_job_on_another_machine() {
    if !is_root("the_end_of_the_input_reaches_the_job_on_another_machine") {
        return;
    }
    ensure_debian();
    let bench = Bench::new();
    let server = SshServer::start(&bench);
    let there = Address::Ssh(SshTarget {
        user: Some("root".to_owned()),
        host: "127.0.0.1".to_owned(),
        port: Some(server.port),
        socket: None,
    });
    let ssh = server.client.join("ssh");
    let runner = Runner::through(there, Some(ssh), SOCKET.into()).await;
    assert_input_arrives(&runner).await;
}

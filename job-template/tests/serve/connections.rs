//! Clients that are slow, or too many.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::client::{read_all, read_answer};
use crate::fake::{Server, load, options};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn half_a_head_is_not_waited_for() {
    let mut options = options();
    options.connections.head_time = SHORT;
    let server = Server::start(options).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nho")
        .await
        .unwrap();
    read_all(&mut stream).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let mut options = options();
    options.connections.head_time = SHORT;
    let server = Server::start(options).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: here\r\n\r\n")
        .await
        .unwrap();
    assert!(
        read_all(&mut stream)
            .await
            .ends_with(r#"{"status":"live"}"#)
    );
}

#[tokio::test]
async fn half_a_body_is_not_waited_for() {
    let mut options = options();
    options.connections.body_time = SHORT;
    let server = Server::start(options).await;
    let mut stream = server.connect().await;
    let half = b"POST /inference HTTP/1.1\r\nhost: here\r\ncontent-length: 20\r\n\r\n{\"text\"";
    stream.write_all(half).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert_eq!(
        (answer.status, answer.error().0.as_str()),
        (408, "body_timeout")
    );
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let mut options = options();
    options.connections.connections = 1;
    let server = Server::start(options).await;
    let mut busy = server.begin("wait").await;
    server.watched.batches(1).await;
    let refused = server.get("/livez").await;
    assert_eq!(
        (refused.status, refused.error().0.as_str()),
        (503, "too_many_connections")
    );
    assert_eq!(refused.headers["retry-after"], "1");
    server.watched.open();
    assert_eq!(read_answer(&mut busy).await.status, 200);
    server.until("/livez", 200).await;
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_nobody_out() {
    let mut options = options();
    options.connections.connections = 2;
    let server = Server::start(options).await;
    let mut half = Vec::new();
    for _ in 0..50 {
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nho")
            .await
            .unwrap();
        half.push(stream);
        assert_eq!(server.get("/livez").await.status, 200);
    }
    for mut stream in half {
        stream.shutdown().await.ok();
        read_all(&mut stream).await;
    }
}

/// It holds the only place, so that the next client tells when it's gone.
#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let mut options = options();
    options.connections.connections = 1;
    options.connections.write_time = SHORT;
    let server = Server::start_with(options, load).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = socket.connect(server.address).await.unwrap();
    let request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: here\r\n\r\n".repeat(20);
    stalled.write_all(&request).await.unwrap();
    // The answer has begun.
    stalled.readable().await.unwrap();
    assert_eq!(server.get("/livez").await.status, 503);
    server.until("/livez", 200).await;
}

//! Clients that are slow, or too many.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::client::{exchange, read_all, read_answer, with_body, with_texts};
use crate::fake::{Server, config, load};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn half_a_head_is_not_waited_for() {
    let mut config = config();
    config.timeouts.head = SHORT;
    let server = Server::start(config).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nho")
        .await
        .unwrap();
    read_all(&mut stream).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let mut config = config();
    config.timeouts.head = SHORT;
    let server = Server::start(config).await;
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
    let mut config = config();
    config.timeouts.body = SHORT;
    let server = Server::start(config).await;
    let mut stream = server.connect().await;
    let half = b"POST /inference HTTP/1.1\r\nhost: here\r\ncontent-length: 20\r\n\r\n{\"text\"";
    stream.write_all(half).await.unwrap();
    let answer = read_answer(&mut stream).await;
    answer.assert_error(408, "body_timeout");
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn one_connection_too_many_is_refused() {
    let mut config = config();
    config.limits.connections = 1;
    let server = Server::start(config).await;
    let mut busy = server.begin("wait").await;
    server.watched.batches(1).await;
    let mut other = server.connect_from("127.0.0.2").await;
    let refused = exchange(&mut other, &with_body("GET", "/", "", b"")).await;
    refused.assert_error(503, "too_many_connections");
    assert_eq!(refused.headers["retry-after"], "1");
    server.watched.open();
    assert_eq!(read_answer(&mut busy).await.status, 200);
    server.until("/", 200).await;
}

#[tokio::test]
async fn one_client_gets_half_of_the_connections() {
    let mut config = config();
    config.limits.connections = 4;
    let server = Server::start(config).await;
    let mut busy = vec![server.begin("wait").await];
    server.watched.batches(1).await;
    busy.push(server.begin("good").await);
    // Not from its own address: that would end the new connection before anything is asked on it.
    let waits = async || {
        let mut other = server.connect_from("127.0.0.9").await;
        let metrics = exchange(&mut other, &with_body("GET", "/metrics", "", b"")).await;
        metrics.body.contains("job_queue_texts 1\n")
    };
    while !waits().await {}
    let refused = server.ask("good").await;
    refused.assert_error(429, "too_many_connections");
    assert_eq!(refused.headers["retry-after"], "1");
    let mut other = server.connect_from("127.0.0.2").await;
    let page = exchange(&mut other, &with_body("GET", "/", "", b"")).await;
    assert_eq!(page.status, 200);
    server.watched.open();
    for stream in &mut busy {
        assert_eq!(read_answer(stream).await.status, 200);
    }
    server.until("/", 200).await;
}

#[tokio::test]
async fn a_trusted_proxy_has_the_connections_and_the_texts_of_many_clients() {
    let mut config = config();
    config.limits.connections = 4;
    config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let server = Server::start(config).await;
    let mut busy = vec![server.begin("wait").await];
    server.watched.batches(1).await;
    let ask = async |client: &str, texts: &[u8]| {
        let header = format!("x-forwarded-for: 6.6.6.6, {client}\r\n");
        let mut stream = server.connect().await;
        let request = with_body("POST", "/inference", &header, texts);
        stream.write_all(&request).await.unwrap();
        stream
    };
    // Half of the queue, of one client; then another's one.
    busy.push(ask("1.2.3.4", br#"{"texts": ["a", "b", "c", "d"]}"#).await);
    server.until_counted("job_queue_texts", 4).await;
    let refused = read_answer(&mut ask("1.2.3.4", br#"{"text": "e"}"#).await).await;
    refused.assert_error(429, "over_your_share");
    busy.push(ask("5.6.7.8", br#"{"text": "e"}"#).await);
    server.until_counted("job_queue_texts", 5).await;
    server.watched.open();
    for stream in &mut busy {
        assert_eq!(read_answer(stream).await.status, 200);
    }
}

/// All connections are busy, many more come and say nothing, and the model's queue is full.
#[tokio::test]
async fn probes_are_answered_whatever_the_load() {
    let mut config = config();
    config.limits.connections = 2;
    let server = Server::start(config).await;
    let mut busy = vec![server.begin("wait").await];
    server.watched.batches(1).await;
    let mut other = server.connect_from("127.0.0.2").await;
    let texts = with_texts(br#"{"texts": ["a", "b", "c", "d"]}"#);
    other.write_all(&texts).await.unwrap();
    busy.push(other);
    server.until_counted("job_queue_texts", 4).await;
    let mut silent = Vec::new();
    for number in 0..100 {
        let address = format!("127.0.1.{number}");
        let mut stream = server.connect_from(&address).await;
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nho")
            .await
            .unwrap();
        silent.push(stream);
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(server.get(path).await.status, 200, "{path}");
        }
    }
    server.watched.open();
    for stream in &mut busy {
        assert_eq!(read_answer(stream).await.status, 200);
    }
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_no_other_out() {
    let mut config = config();
    config.limits.connections = 2;
    let server = Server::start(config).await;
    let mut half = Vec::new();
    for _ in 0..10 {
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nho")
            .await
            .unwrap();
        half.push(stream);
        // At once, as on any connection; and what is no probe, as soon as the other had its time to ask.
        assert_eq!(server.get("/livez").await.status, 200);
        server.until("/", 200).await;
    }
    for mut stream in half {
        stream.shutdown().await.ok();
        read_all(&mut stream).await;
    }
}

#[tokio::test]
async fn half_a_body_keeps_no_other_out_either() {
    let mut config = config();
    config.limits.connections = 2;
    let server = Server::start(config).await;
    let mut half = Vec::new();
    for address in ["127.0.0.2", "127.0.0.3"] {
        let mut stream = server.connect_from(address).await;
        stream
            .write_all(b"POST /inference HTTP/1.1\r\nhost: here\r\ncontent-length: 17\r\n\r\n{")
            .await
            .unwrap();
        half.push(stream);
    }
    // Well before a body has to be there.
    server.until("/", 200).await;
    assert_eq!(read_all(&mut half[0]).await, "");
}

/// It holds the only slot: the next client is answered when it is gone.
#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let mut config = config();
    config.limits.connections = 1;
    config.timeouts.write = SHORT;
    let server = Server::start_with(config, load).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = socket.connect(server.address).await.unwrap();
    let request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: here\r\n\r\n".repeat(20);
    stalled.write_all(&request).await.unwrap();
    // The answer has begun.
    stalled.readable().await.unwrap();
    assert_eq!(server.get("/openapi.json").await.status, 429);
    server.until("/openapi.json", 200).await;
}

//! From loading to the end.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use text_server::{End, ForcedEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{read_all, read_answer};
use crate::fake::{Server, config, load};

#[tokio::test]
async fn it_lives_but_is_not_ready_while_the_model_loads() {
    let (go_on, wait) = mpsc::channel();
    let server = Server::start_with(config(), |watched| {
        let load = load(watched);
        Box::new(move || {
            wait.recv().unwrap();
            load()
        })
    })
    .await;
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.get("/metrics").await.status, 200);
    let answer = server.get("/readyz").await;
    answer.assert_error(503, "loading");
    let answer = server.ask("good").await;
    answer.assert_error(503, "loading");
    assert_eq!(answer.headers["retry-after"], "1");
    go_on.send(()).unwrap();
    server.until("/readyz", 200).await;
    assert_eq!(server.ask("good").await.status, 200);
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_ends_it() {
    let failing =
        |_: &_| -> crate::fake::Load { Box::new(|| Err("model.safetensors: cut".into())) };
    let mut server = Server::start_with(config(), failing).await;
    let error = (&mut server.ended).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "can't load the model: model.safetensors: cut"
    );

    let panicking = |_: &_| -> crate::fake::Load { Box::new(|| panic!("as it should")) };
    let mut server = Server::start_with(config(), panicking).await;
    let error = (&mut server.ended).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "can't load the model: loading it panicked"
    );
}

#[tokio::test]
async fn what_was_asked_is_answered_before_the_end() {
    let mut server = Server::start(config()).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: here\r\n\r\n")
        .await
        .unwrap();
    idle.read_exact(&mut [0; 15]).await.unwrap();
    let mut computed = server.begin("wait").await;
    server.watched.batches(1).await;
    let mut waiting = server.begin("good").await;
    server.until_counted("job_queue_texts", 1).await;

    server.stop.send(()).await.unwrap();
    assert!(read_all(&mut idle).await.ends_with(r#"{"status":"live"}"#));
    let answer = server.get("/readyz").await;
    answer.assert_error(503, "draining");
    assert_eq!(server.ask("good").await.error().0, "draining");
    assert_eq!(server.get("/livez").await.status, 200);

    server.watched.open();
    assert_eq!(read_answer(&mut computed).await.status, 200);
    assert_eq!(read_answer(&mut waiting).await.status, 200);
    let began = Instant::now();
    assert_eq!((&mut server.ended).await.unwrap().unwrap(), End::Graceful);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "clients that don't close don't count"
    );
}

#[tokio::test]
async fn clients_that_stall_do_not_keep_it_from_ending() {
    let mut config = config();
    config.timeouts.grace = Duration::from_millis(300);
    let mut server = Server::start(config).await;
    let mut stalled = server.connect().await;
    stalled
        .write_all(b"POST /inference HTTP/1.1\r\ncontent-length: 9\r\n\r\n")
        .await
        .unwrap();
    server.until_counted("job_requests_in_flight", 2).await;
    let began = Instant::now();
    server.stop.send(()).await.unwrap();
    assert_eq!((&mut server.ended).await.unwrap().unwrap(), End::Graceful);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_is_not_answered_in_time_makes_the_end_a_forced_one() {
    let mut config = config();
    config.timeouts.grace = Duration::ZERO;
    let mut server = Server::start(config.clone()).await;
    server.stop.send(()).await.unwrap();
    assert_eq!((&mut server.ended).await.unwrap().unwrap(), End::Graceful);

    let mut server = Server::start(config).await;
    let _computed = server.begin("wait").await;
    server.watched.batches(1).await;
    server.stop.send(()).await.unwrap();
    let end = (&mut server.ended).await.unwrap().unwrap();
    assert_eq!(end, End::Forced(ForcedEnd::GraceOver));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(config()).await;
    let _computed = server.begin("wait").await;
    server.watched.batches(1).await;
    server.stop.send(()).await.unwrap();
    server.stop.send(()).await.unwrap();
    let end = (&mut server.ended).await.unwrap().unwrap();
    assert_eq!(end, End::Forced(ForcedEnd::StoppedTwice));
}

#[tokio::test]
async fn a_signal_while_the_model_loads_is_not_kept_waiting() {
    let (go_on, wait) = mpsc::channel::<()>();
    let mut server = Server::start_with(config(), |watched| {
        let load = load(watched);
        Box::new(move || {
            // Until the test is over.
            let _ = wait.recv();
            load()
        })
    })
    .await;
    server.stop.send(()).await.unwrap();
    let end = (&mut server.ended).await.unwrap().unwrap();
    assert_eq!(end, End::Forced(ForcedEnd::Loading));
    drop(go_on);
}

#[tokio::test]
async fn a_model_that_cannot_compute_is_never_ready() {
    let mut server = Server::start_with(config(), |watched| {
        watched.is_broken.store(true, Ordering::Relaxed);
        load(watched)
    })
    .await;
    let error = (&mut server.ended).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "can't load the model: it can't compute a sample text: its weights may be damaged"
    );
}

#[tokio::test]
async fn a_model_with_other_labels_than_logits_is_never_ready() {
    let mut server = Server::start_with(config(), |watched| {
        let load = load(watched);
        Box::new(|| {
            let mut loaded = load()?;
            loaded.info.labels.push("neutral".to_owned());
            Ok(loaded)
        })
    })
    .await;
    let error = (&mut server.ended).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "can't load the model: it computes 2 logits for a text, and has 3 labels"
    );
}

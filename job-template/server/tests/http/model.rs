//! What comes of a model that is busy, or fails.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use text_server::Processor;

use crate::client::{exchange, read_answer, with_texts};
use crate::fake::{Server, config, niceness};

#[tokio::test]
async fn what_waited_is_the_next_batch() {
    let server = Server::start(config()).await;
    let mut first = server.begin("wait").await;
    server.watched.batches(1).await;
    let mut second = server.begin("good").await;
    server.until_counted("job_queue_texts", 1).await;
    let mut third = server.begin("bad bad").await;
    server.until_counted("job_queue_texts", 2).await;
    server.watched.open();
    for stream in [&mut first, &mut second, &mut third] {
        assert_eq!(read_answer(stream).await.status, 200);
    }
    assert_eq!(
        server.watched.batches(2).await,
        [(1, vec![1]), (1, vec![1, 2])]
    );
}

#[tokio::test]
async fn a_text_alone_gets_all_threads_and_several_get_one_each() {
    let mut config = config();
    config.compute.processor = Processor::Cpu { threads: 3 };
    let server = Server::start(config).await;
    server.ask("good").await;
    assert_eq!(server.watched.batches(1).await, [(3, vec![1])]);
    let mut stream = server.connect().await;
    let two = with_texts(br#"{"texts": ["wait", "good bad"]}"#);
    let two = tokio::spawn(async move { exchange(&mut stream, &two).await });
    let mut batches = server.watched.batches(3).await.split_off(1);
    batches.sort();
    assert_eq!(batches, [(1, vec![1]), (1, vec![2])]);
    // One that comes meanwhile has a thread, too.
    assert_eq!(server.ask("good good bad").await.status, 200);
    assert_eq!(server.watched.batches(4).await[3], (1, vec![3]));
    server.watched.open();
    assert_eq!(two.await.unwrap().status, 200);
    // The threads come together again.
    server.watched.forget();
    server.ask("good").await;
    assert_eq!(server.watched.batches(1).await, [(3, vec![1])]);
}

/// Else they wait for a core with those that compute.
#[tokio::test]
async fn threads_that_answer_come_before_those_that_compute_on_a_cpu() {
    for (processor, nicer) in [(Processor::Cpu { threads: 1 }, 10), (Processor::Gpu, 0)] {
        let mut config = config();
        config.compute.processor = processor;
        let server = Server::start(config).await;
        server.ask("good").await;
        let computing = server.watched.niceness.load(Ordering::Relaxed);
        assert_eq!(computing, (niceness() + nicer).min(19), "{processor:?}");
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let server = Server::start(config()).await;
    let mut computed = server.begin("wait").await;
    server.watched.batches(1).await;
    let four = with_texts(br#"{"texts": ["a", "b", "c", "d"]}"#);
    let mut waiting = Vec::new();
    for address in ["127.0.0.2", "127.0.0.3"] {
        let mut stream = server.connect_from(address).await;
        let four = four.clone();
        waiting.push(tokio::spawn(
            async move { exchange(&mut stream, &four).await },
        ));
    }
    server.until_counted("job_queue_texts", 8).await;

    let began = Instant::now();
    let refused = server.ask("good").await;
    assert!(began.elapsed() < Duration::from_secs(1));
    refused.assert_error(503, "queue_full");
    assert_eq!(refused.headers["retry-after"], "1");

    server.watched.open();
    assert_eq!(read_answer(&mut computed).await.status, 200);
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn one_client_gets_half_of_the_queue() {
    let server = Server::start(config()).await;
    let _computed = server.begin("wait").await;
    server.watched.batches(1).await;
    let mut waiting = server.connect().await;
    let four = with_texts(br#"{"texts": ["a", "b", "c", "d"]}"#);
    let waiting = tokio::spawn(async move { exchange(&mut waiting, &four).await });
    server.until_counted("job_queue_texts", 4).await;

    let refused = server.ask("good").await;
    refused.assert_error(429, "over_your_share");
    assert_eq!(refused.headers["retry-after"], "1");

    let mut other = server.connect_from("127.0.0.2").await;
    let one = with_texts(br#"{"text": "good"}"#);
    let other = tokio::spawn(async move { exchange(&mut other, &one).await });
    server.until_counted("job_queue_texts", 5).await;
    server.watched.open();
    assert_eq!(
        (other.await.unwrap().status, waiting.await.unwrap().status),
        (200, 200)
    );
}

#[tokio::test]
async fn a_client_that_left_is_not_computed() {
    let server = Server::start(config()).await;
    let mut first = server.begin("wait").await;
    server.watched.batches(1).await;
    let second = server.begin("good good good").await;
    server.until_counted("job_queue_texts", 1).await;
    drop(second);
    // The first, and the one that asks for the counts.
    server.until_counted("job_requests_in_flight", 2).await;
    server.watched.open();
    assert_eq!(read_answer(&mut first).await.status, 200);
    assert_eq!(server.ask("good bad").await.status, 200);
    assert_eq!(
        server.watched.batches(2).await,
        [(1, vec![1]), (1, vec![2])]
    );
}

/// The statuses of texts that are one batch, as they wait while the model computes another text.
async fn ask_together(server: &Server, texts: [&str; 3]) -> [u16; 3] {
    let mut first = server.begin("wait").await;
    server.watched.batches(1).await;
    let mut together = Vec::new();
    for (number, text) in (1..).zip(texts) {
        together.push(server.begin(text).await);
        server.until_counted("job_queue_texts", number).await;
    }
    server.watched.open();
    assert_eq!(read_answer(&mut first).await.status, 200);
    let mut statuses = [0; 3];
    for (stream, status) in together.iter_mut().zip(&mut statuses) {
        *status = read_answer(stream).await.status;
    }
    statuses
}

#[tokio::test]
async fn an_answer_that_is_no_number_fails_its_own_request_only() {
    let server = Server::start(config()).await;
    let statuses = ask_together(&server, ["good", "nan", "infinite"]).await;
    assert_eq!(statuses, [200, 500, 500]);
    assert_eq!(server.watched.batches(2).await[1].1.len(), 3);
    assert_eq!(server.ask("nan").await.error().0, "model_error");
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_text_that_makes_the_model_panic_fails_alone() {
    for processor in [Processor::Gpu, Processor::Cpu { threads: 2 }] {
        let mut config = config();
        config.compute.processor = processor;
        let server = Server::start(config).await;
        let statuses = ask_together(&server, ["good", "panic", "bad"]).await;
        assert_eq!(statuses, [200, 500, 200], "{processor:?}");
    }
}

#[tokio::test]
async fn a_text_that_makes_the_model_panic_can_come_again_and_again() {
    let server = Server::start(config()).await;
    let mut ids = BTreeSet::new();
    for _ in 0..5 {
        let answer = server.ask("panic").await;
        let id = answer.json()["error"]["id"].as_str().unwrap().to_owned();
        assert!(id.len() == 16 && ids.insert(id));
        answer.assert_error(500, "model_error");
    }
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.ask("good").await.status, 200);
    assert_eq!(server.count("job_model_restarts_total").await, Some(5));
}

#[tokio::test]
async fn a_text_without_a_token_fails_by_itself() {
    let server = Server::start(config()).await;
    let mut first = server.begin("wait").await;
    server.watched.batches(1).await;
    let answer = server.ask("\u{1}").await;
    let no_tokens = |field: &str| (422, ("no_tokens".to_owned(), field.to_owned()));
    assert_eq!((answer.status, answer.error()), no_tokens("text"));
    let answer = server.post(r#"{"texts": ["good", "\u0001"]}"#).await;
    assert_eq!((answer.status, answer.error()), no_tokens("texts[1]"));
    let answer = server.get("/predict?sentence=%01").await;
    assert_eq!((answer.status, answer.error()), no_tokens("sentence"));
    server.watched.open();
    assert_eq!(read_answer(&mut first).await.status, 200);
    assert_eq!(server.count("job_model_restarts_total").await, Some(0));
}

#[tokio::test]
async fn a_text_that_the_tokenizer_fails_with_fails_by_itself() {
    let server = Server::start(config()).await;
    for (text, message) in [
        ("\u{2}", "the tokenizer failed: U+0002 is no text"),
        ("\u{3}", "the tokenizer panicked"),
    ] {
        let answer = server.ask(text).await;
        answer.assert_error(500, "model_error");
        assert_eq!(answer.json()["error"]["message"], message);
        assert_eq!(server.ask("good").await.status, 200);
    }
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_model_that_panics_with_every_text_is_given_up() {
    for processor in [Processor::Gpu, Processor::Cpu { threads: 2 }] {
        let mut config = config();
        config.compute.processor = processor;
        let server = Server::start(config).await;
        server.watched.is_broken.store(true, Ordering::Relaxed);
        assert_eq!(server.get("/livez").await.status, 200);
        assert_eq!(server.ask("good").await.status, 500);
        for path in ["/livez", "/readyz"] {
            let answer = server.get(path).await;
            answer.assert_error(503, "model_broken");
        }
        assert_eq!(server.ask("good").await.error().0, "model_broken");
        assert_eq!(server.get("/metrics").await.status, 200);
    }
}

#[tokio::test]
async fn a_model_that_hangs_is_reported() {
    let mut config = config();
    config.timeouts.batch = Duration::from_millis(200);
    let server = Server::start(config).await;
    let mut hanging = server.begin("wait").await;
    server.until("/livez", 503).await;
    assert_eq!(server.get("/readyz").await.error().0, "model_hangs");
    server.watched.open();
    assert_eq!(read_answer(&mut hanging).await.status, 200);
    server.until("/livez", 200).await;
}

//! What can be asked, and what is wrong with what can't.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::client::{read_all, read_answer, with_body};
use crate::fake::{MOST_TOKENS, Server, config};

/// How sure the fake is of a text with so many more good words than bad ones.
fn sure(score: f64) -> f64 {
    1.0 / (1.0 + (-2.0 * score).exp())
}

fn assert_near(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap();
    assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
}

#[tokio::test]
async fn a_text_gets_an_object_and_texts_get_a_list_in_their_order() {
    let server = Server::start(config()).await;
    let one = server.post(r#"{"text": "good"}"#).await;
    assert_eq!(
        (one.status, one.headers["content-type"].as_str()),
        (200, "application/json")
    );
    assert_near(&one.json()["positive"], sure(1.0));
    assert_near(&one.json()["negative"], 1.0 - sure(1.0));
    assert_eq!(one.json().as_object().unwrap().len(), 2);

    let many = server
        .post(r#"{"texts": ["bad", "good", "so so", "good good"]}"#)
        .await
        .json();
    let many = many.as_array().unwrap();
    for (answer, score) in many.iter().zip([-1.0, 1.0, 0.0, 2.0]) {
        assert_near(&answer["positive"], sure(score));
    }
    assert_eq!(many.len(), 4);
}

#[tokio::test]
async fn predict_answers_as_the_book_has_it() {
    let server = Server::start(config()).await;
    let answer = server.get("/predict?sentence=good%20bad+bad").await.json();
    let response = answer["response"].as_object().unwrap();
    let names: Vec<_> = response.keys().collect();
    assert_eq!(names, ["negative", "positive", "sentence", "time_taken"]);
    assert_eq!(response["sentence"], "good bad bad");
    assert_near(&response["positive"], sure(-1.0));
    assert!(response["time_taken"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_text_that_was_cut_is_marked() {
    let server = Server::start(config()).await;
    let text = |words| json!({ "text": vec!["good"; words].join(" ") }).to_string();
    assert_eq!(
        server
            .post(&text(MOST_TOKENS))
            .await
            .json()
            .get("truncated"),
        None
    );
    let cut = server.post(&text(MOST_TOKENS + 1)).await.json();
    assert_eq!(cut["truncated"], true);
}

#[tokio::test]
async fn what_is_wrong_is_reported_with_the_field() {
    let server = Server::start(config()).await;
    let long = json!({ "text": "x".repeat(1001) }).to_string();
    let cases: &[(&str, u16, &str, &str)] = &[
        ("", 400, "bad_json", ""),
        ("{", 400, "bad_json", ""),
        ("{\"text\": \"\\ud800\"}", 400, "bad_json", ""),
        ("{\"text\": NaN}", 400, "bad_json", ""),
        ("[\"good\"]", 422, "wrong_type", ""),
        ("{}", 422, "missing_field", "text"),
        (r#"{"text": 3}"#, 422, "wrong_type", "text"),
        (r#"{"text": null}"#, 422, "wrong_type", "text"),
        (r#"{"text": ""}"#, 422, "empty_text", "text"),
        ("{\"text\": \" \\n\u{a0}\"}", 422, "empty_text", "text"),
        (r#"{"texts": "good"}"#, 422, "wrong_type", "texts"),
        (r#"{"texts": []}"#, 422, "empty_list", "texts"),
        (r#"{"texts": ["good", 3]}"#, 422, "wrong_type", "texts[1]"),
        (r#"{"texts": ["good", " "]}"#, 422, "empty_text", "texts[1]"),
        (
            r#"{"texts": ["a", "b", "c", "d", "e"]}"#,
            413,
            "too_many_texts",
            "texts",
        ),
        (
            r#"{"text": "good", "texts": ["bad"]}"#,
            422,
            "wrong_type",
            "texts",
        ),
        (
            r#"{"text": "good", "temperature": 1}"#,
            422,
            "unknown_field",
            "temperature",
        ),
        (&long, 413, "text_too_long", "text"),
    ];
    for (body, status, code, field) in cases {
        let answer = server.post(body).await;
        let found = (answer.status, answer.error());
        assert_eq!(
            found,
            (*status, ((*code).to_owned(), (*field).to_owned())),
            "{body}"
        );
    }
    let queries: &[(&str, u16, &str)] = &[
        ("", 422, "missing_field"),
        ("?sentence=", 422, "empty_text"),
        ("?sentence=%20", 422, "empty_text"),
        ("?sentence=good&sentence=bad", 422, "wrong_type"),
    ];
    for (query, status, code) in queries {
        let answer = server.get(&format!("/predict{query}")).await;
        let expected = (*status, ((*code).to_owned(), "sentence".to_owned()));
        assert_eq!((answer.status, answer.error()), expected, "{query}");
    }
}

#[tokio::test]
async fn bad_json_is_reported_with_its_line_and_column() {
    let server = Server::start(config()).await;
    let answer = server.post("{\n  \"text\": 'good'\n}").await;
    let message = "not JSON: expected value at line 2 column 11";
    assert_eq!(answer.json()["error"]["message"], message);
    let answer = server
        .send(&with_body(
            "POST",
            "/inference",
            "",
            b"{\"text\": \"\xff\"}",
        ))
        .await;
    answer.assert_error(400, "bad_json");
}

#[tokio::test]
async fn odd_characters_are_text_like_any_other() {
    let server = Server::start(config()).await;
    for text in [
        "\0",
        "good\0",
        "\u{200b}",
        "\u{202e}doog",
        &"🎬".repeat(250),
        "\u{feff}",
    ] {
        assert_eq!(server.ask(text).await.status, 200, "{text:?}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_have_the_form_of_every_error() {
    let server = Server::start(config()).await;
    let answer = server.get("/inference/").await;
    answer.assert_error(404, "unknown_path");
    let answer = server.get("/docs/nothing/here").await;
    answer.assert_error(404, "unknown_path");
    let answer = server.get("/inference").await;
    answer.assert_error(405, "wrong_method");
    assert_eq!(answer.headers["allow"], "POST");
    let answer = server.send(&with_body("DELETE", "/predict", "", b"")).await;
    assert_eq!(
        (answer.status, answer.headers["allow"].as_str()),
        (405, "GET,HEAD")
    );
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_sent() {
    let server = Server::start(config()).await;
    let head = b"POST /inference HTTP/1.1\r\nhost: here\r\ncontent-length: 104857600\r\n\r\n";
    let answer = server.send(head).await;
    answer.assert_error(413, "body_too_large");
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn a_body_without_a_length_is_refused_where_it_gets_too_large() {
    let server = Server::start(config()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"POST /inference HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..17 {
        // The server may have closed already.
        let _ = stream.write_all(&chunk).await;
    }
    let answer = read_answer(&mut stream).await;
    answer.assert_error(413, "body_too_large");
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let server = Server::start(config()).await;
    let request = with_body(
        "POST",
        "/inference",
        "content-encoding: gzip\r\n",
        b"\x1f\x8b",
    );
    let answer = server.send(&request).await;
    answer.assert_error(415, "encoded_body");
}

#[tokio::test]
async fn a_head_that_cannot_be_read_has_the_form_of_every_error() {
    let server = Server::start(config()).await;
    let long = format!("x-long: {}\r\n", "x".repeat(70_000));
    let path = format!("/{}", "x".repeat(65_600));
    for (request, status, code) in [
        (
            with_body("GET", "/livez", &long, b""),
            431,
            "head_too_large",
        ),
        (
            with_body("GET", "/livez", &"x-short: x\r\n".repeat(200), b""),
            431,
            "head_too_large",
        ),
        (with_body("GET", &path, "", b""), 431, "head_too_large"),
        (b"hello\r\n\r\n".to_vec(), 400, "bad_request"),
        (
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            400,
            "bad_request",
        ),
        (
            b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n".to_vec(),
            400,
            "bad_request",
        ),
        (b"GET /livez HTTP/3.0\r\n\r\n".to_vec(), 400, "bad_request"),
    ] {
        let answer = server.send(&request).await;
        answer.assert_error(status, code);
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["connection"], "close");
    }
    // After an answer on the same connection, too.
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nhost: here\r\n\r\n")
        .await
        .unwrap();
    stream.readable().await.unwrap();
    let _ = stream.write_all(b"\0\r\n\r\n").await;
    let both = read_all(&mut stream).await;
    assert!(both.starts_with("HTTP/1.1 200 OK\r\n"), "{both}");
    assert!(
        both.contains(r#"{"status":"live"}HTTP/1.1 400 Bad Request"#),
        "{both}"
    );
    assert!(both.contains(r#"{"error":{"code":"bad_request""#), "{both}");
}

#[tokio::test]
async fn the_document_lists_exactly_the_routes() {
    let server = Server::start(config()).await;
    let document = server.get("/openapi.json").await.json();
    assert_eq!(document["info"]["version"], "1.2.3");
    let paths = document["paths"].as_object().unwrap();
    let found: BTreeSet<_> = paths.keys().map(String::as_str).collect();
    let expected = BTreeSet::from([
        "/",
        "/inference",
        "/info",
        "/livez",
        "/metrics",
        "/predict",
        "/readyz",
    ]);
    assert_eq!(found, expected);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let request = with_body(&method.to_uppercase(), path, "", b"");
            let status = server.send(&request).await.status;
            assert!(
                methods[method]["responses"]
                    .get(status.to_string())
                    .is_some(),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn the_pages_need_nothing_from_elsewhere() {
    let server = Server::start(config()).await;
    let page = server.get("/").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.body.contains("<title>positive or negative?</title>"));
    let docs = server.get("/docs/").await;
    assert_eq!((page.status, docs.status), (200, 200));
    for page in [page, docs] {
        assert!(!page.body.contains("http://") && !page.body.contains("https://"));
    }
}

#[tokio::test]
async fn counts_do_not_grow_with_what_clients_make_up() {
    let server = Server::start(config()).await;
    server.ask("good bad").await;
    server.get("/nothing/here").await;
    server.get("/nothing/there").await;
    server.get("/docs/nothing").await;
    let metrics = server.get("/metrics").await;
    assert_eq!(
        metrics.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        "job_requests_total{route=\"/inference\",status=\"200\"} 1",
        "job_requests_total{route=\"other\",status=\"404\"} 2",
        "job_tokens_total 2",
        "job_inference_duration_seconds_count 1",
        "job_queue_duration_seconds_count 1",
        "job_request_duration_seconds_count{route=\"/inference\"} 1",
        "job_request_duration_seconds_count{route=\"other\"} 2",
    ] {
        assert!(
            metrics.body.lines().any(|found| found == line),
            "{line}\n{}",
            metrics.body
        );
    }
    assert!(!metrics.body.contains("nothing"));
}

#[tokio::test]
async fn info_names_the_model_and_its_limits() {
    let server = Server::start(config()).await;
    let answer = server.get("/info").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "version": "1.2.3",
            "model": {"sha256": "5f0c".repeat(16), "labels": ["positive", "negative"]},
            "compute": {"device": "cpu", "precision": "fp32", "threads": 1},
            "limits": {
                "text_bytes": 1000, "text_tokens": MOST_TOKENS, "request_texts": 4,
                "request_bytes": 1 << 20, "queue_texts": 8, "client_texts": 4, "connections": 64,
            },
        })
    );
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let server = Server::start(config()).await;
    let ask = async |headers: &str| {
        let answer = server.send(&with_body("GET", "/livez", headers, b"")).await;
        answer.headers["x-request-id"].clone()
    };
    assert_eq!(ask("x-request-id: Order-7/a_b\r\n").await, "Order-7/a_b");
    let long = format!("x-request-id: {}\r\n", "x".repeat(129));
    let mut made = BTreeSet::new();
    for headers in [
        "",
        "x-request-id: \r\n",
        "x-request-id: a b\r\n",
        long.as_str(),
    ] {
        let id = ask(headers).await;
        assert!(
            id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{id}"
        );
        assert!(made.insert(id));
    }
    let body = br#"{"text": "nan"}"#;
    let request = with_body("POST", "/inference", "x-request-id: mine\r\n", body);
    assert_eq!(server.send(&request).await.json()["error"]["id"], "mine");
}

use proptest::prelude::*;

use super::ImageRef;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parts(text: &str) -> (Option<String>, String, Option<String>, bool) {
    let image: ImageRef = text
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(image.to_string(), text);
    (
        image.domain().map(str::to_owned),
        image.path().to_owned(),
        image.tag().map(ToString::to_string),
        image.digest().is_some(),
    )
}

#[test]
fn what_the_distribution_project_takes_is_taken() {
    let part = |text: &str| Some(text.to_owned());
    for (text, expected) in [
        ("test_com".to_owned(), (None, "test_com", None, false)),
        (
            "test.com:tag".to_owned(),
            (None, "test.com", part("tag"), false),
        ),
        (
            "test.com:5000".to_owned(),
            (None, "test.com", part("5000"), false),
        ),
        (
            "test.com/repo:tag".to_owned(),
            (part("test.com"), "repo", part("tag"), false),
        ),
        (
            "test:5000/repo".to_owned(),
            (part("test:5000"), "repo", None, false),
        ),
        (
            "test:5000/repo:tag".to_owned(),
            (part("test:5000"), "repo", part("tag"), false),
        ),
        (
            format!("test:5000/repo@sha256:{HEX}"),
            (part("test:5000"), "repo", None, true),
        ),
        (
            format!("test:5000/repo:tag@sha256:{HEX}"),
            (part("test:5000"), "repo", part("tag"), true),
        ),
        (
            "sub-dom1.foo.com/bar/baz/quux".to_owned(),
            (part("sub-dom1.foo.com"), "bar/baz/quux", None, false),
        ),
        (
            "b.gcr.io/test.example.com/my-app:test.example.com".to_owned(),
            (
                part("b.gcr.io"),
                "test.example.com/my-app",
                part("test.example.com"),
                false,
            ),
        ),
        (
            "xn--n3h.com/myimage:xn--n3h.com".to_owned(),
            (part("xn--n3h.com"), "myimage", part("xn--n3h.com"), false),
        ),
        (
            "foo_bar.com:8080".to_owned(),
            (None, "foo_bar.com", part("8080"), false),
        ),
        (
            "foo/foo_bar.com:8080".to_owned(),
            (None, "foo/foo_bar.com", part("8080"), false),
        ),
        (
            "[2001:db8::1]:5000/repo".to_owned(),
            (part("[2001:db8::1]:5000"), "repo", None, false),
        ),
        (
            "a__b/c-----d".to_owned(),
            (None, "a__b/c-----d", None, false),
        ),
        ("Foo/bar".to_owned(), (part("Foo"), "bar", None, false)),
        (
            "localhost/a".to_owned(),
            (part("localhost"), "a", None, false),
        ),
    ] {
        let (domain, path, tag, has_digest) = expected;
        assert_eq!(
            parts(&text),
            (domain, path.to_owned(), tag, has_digest),
            "{text}"
        );
    }
}

#[test]
fn what_the_distribution_project_refuses_is_refused() {
    for text in [
        "",
        ":justtag",
        "@sha256:ffff",
        "Uppercase:tag",
        "test:5000/Uppercase/lowercase:tag",
        "aa/asdf$$^/aa",
        "repo@sha256:ffff",
        "a//b",
        "a/",
        "/a",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a_.b",
        "[2001:db8::1]",
        "[fe80::1%eth0]:5000/repo",
        "repo:",
        "repo:a b",
        "https://a/b",
        HEX,
    ] {
        assert!(text.parse::<ImageRef>().is_err(), "{text}");
    }
    assert!(
        "a/".repeat(128)
            .trim_end_matches('/')
            .parse::<ImageRef>()
            .is_ok()
    );
    assert!(
        format!("{}a", "a/".repeat(128))
            .parse::<ImageRef>()
            .is_err()
    );
}

#[test]
fn names_have_a_short_and_a_full_form() {
    for (text, full, short) in [
        ("debian", "docker.io/library/debian", "debian"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("docker.io/debian", "docker.io/library/debian", "debian"),
        (
            "index.docker.io/library/debian",
            "docker.io/library/debian",
            "debian",
        ),
        ("team/app", "docker.io/team/app", "team/app"),
        ("quay.io/a", "quay.io/a", "quay.io/a"),
        ("localhost/a", "localhost/a", "localhost/a"),
    ] {
        let image: ImageRef = text.parse().unwrap();
        assert_eq!(image.canonical().to_string(), full);
        assert_eq!(image.familiar().to_string(), short);
    }
}

#[test]
fn an_upper_case_name_is_answered_with_the_lower_case_one() {
    let error = "Python:3.13"
        .parse::<ImageRef>()
        .expect_err("it is upper-case");
    assert_eq!(error.help.as_deref(), Some("write `python:3.13`"));
}

proptest! {
    #[test]
    fn what_is_read_is_written_the_same(text in "[a-zA-Z0-9.:/@_-]{0,40}") {
        if let Ok(image) = text.parse::<ImageRef>() {
            prop_assert_eq!(image.to_string(), text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = text.parse::<ImageRef>();
    }
}

use std::borrow::Cow;

use super::Masker;
use crate::model::Secret;

fn masker(secrets: &[&str]) -> Masker {
    let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    Masker::new(&secrets)
}

fn mask(secrets: &[&str], text: &str) -> String {
    fed(&mut masker(secrets), [text.as_bytes()])
}

fn fed<'a>(masker: &mut Masker, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut shown = Vec::new();
    for piece in pieces {
        shown.extend_from_slice(&masker.feed(piece));
    }
    shown.extend(masker.finish());
    String::from_utf8(shown).unwrap()
}

#[test]
fn values_are_starred_out() {
    for (secrets, text, expected) in [
        (&["hunter2"][..], "", ""),
        (&["hunter2"], "no secret", "no secret"),
        (&["hunter2"], "a hunter2 b", "a *** b"),
        (&["hunter2"], "hunter2", "***"),
        (&["hunter2"], "hunter", "hunter"),
        (&["hunter2"], "hunterhunter2", "hunter***"),
        (&["hunter2", "password"], "password=hunter2", "***=***"),
        (&["abcd", "abcdef"], "abcde abcdef", "***e ***"),
        (&["abcdXY", "XYefgh"], "-abcdXYefgh-", "-***-"),
        (&["aaaa"], "-aaaaaa-", "-***-"),
        (&["one\ntwo"], "-one\ntwo-one\r\ntwo-", "-***-***-"),
        (&["token\n"], "token; token\n", "***; ***"),
        (&["abc"], "abc is too short", "abc is too short"),
        (&["", "   "], "nothing", "nothing"),
    ] {
        assert_eq!(mask(secrets, text), expected, "{secrets:?} {text:?}");
    }
}

#[test]
fn encoded_values_are_starred_out() {
    let secret = "p@ss w/rd\"é+~";
    for (text, expected) in [
        // printf '%s' "$SECRET" | base64
        ("cEBzcyB3L3JkIsOpK34=", "***"),
        ("cEBzcyB3L3JkIsOpK34 ", "*** "),
        // printf 'user:%s!' "$SECRET" | base64, and with one and two letters before
        ("dXNlcjpwQHNzIHcvcmQiw6krfiE=", "dXNlcjp***iE="),
        ("eHBAc3Mgdy9yZCLDqSt+", "eH***"),
        ("eHhwQHNzIHcvcmQiw6krfg==", "eHh***g=="),
        ("eHBAc3Mgdy9yZCLDqSt-", "eH***"),
        ("?a=p%40ss%20w%2Frd%22%C3%A9%2B%7E&", "?a=***&"),
        ("?a=p%40ss+w%2frd%22%c3%a9%2b~&", "?a=***&"),
        ("/p%40ss%20w/rd%22%C3%A9%2B~/", "/***/"),
        (r#"{"a":"p@ss w/rd\"é+~"}"#, r#"{"a":"***"}"#),
    ] {
        assert_eq!(mask(&[secret], text), expected, "{text}");
    }
}

#[test]
fn without_secrets_nothing_is_copied() {
    let mut masker = masker(&[]);
    assert!(matches!(
        masker.feed(b"anything"),
        Cow::Borrowed(b"anything")
    ));
    assert_eq!(masker.finish(), b"");
}

#[test]
fn only_what_may_be_a_secret_is_held_back() {
    let mut masker = masker(&["hunter2"]);
    assert!(matches!(masker.feed(b"Continue? [y/n] "), Cow::Borrowed(_)));
    assert_eq!(&*masker.feed(b"the hun"), b"the ");
    assert_eq!(&*masker.feed(b"dred"), b"hundred");
    assert_eq!(&*masker.feed(b"hunter"), b"");
    assert_eq!(&*masker.feed(b"2"), b"***");
    assert_eq!(&*masker.feed(b"2"), b"2");
    assert_eq!(&*masker.feed(b"h"), b"");
    assert_eq!(masker.finish(), b"h");
}

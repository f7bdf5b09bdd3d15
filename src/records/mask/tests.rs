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
        (
            &["first\nsecond\n\tthird"],
            "> first\n    second\n|third",
            "> ***\n    ***\n|***",
        ),
        (
            &["first\\nsecond"],
            "first\nsecond first\\nsecond",
            "***\n*** ***",
        ),
        (&["first\r\nsecond\r\n"], "second, first", "***, ***"),
        (&["a\nlonger"], "a\nb longer", "a\nb ***"),
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
        (r#"{"a":"p@ss w/rd\"\u00e9+~"}"#, r#"{"a":"***"}"#),
        (r#"{"a":"p@ss w\/rd\"é+~"}"#, r#"{"a":"***"}"#),
        (
            r#"{"a":"{\"b\":\"p@ss w/rd\\\"é+~\"}"}"#,
            r#"{"a":"{\"b\":\"***\"}"}"#,
        ),
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

/// What `printf %q`, `set -x`, `declare -p` and `shlex.quote` make of it.
#[test]
fn quoted_values_are_starred_out() {
    let secret = "it's \"a\" $b\\!";
    for text in [
        r#"it\'s\ \"a\"\ \$b\\\!"#,
        r#"'it'\''s "a" $b\!'"#,
        r#""it's \"a\" \$b\\!""#,
        r#"'it'"'"'s "a" $b\!'"#,
        r#"$'it\'s "a" $b\\!'"#,
    ] {
        let shown = mask(&[secret], text);
        assert_eq!(shown.trim_matches(['\'', '"', '$']), "***", "{text}");
    }
    assert_eq!(mask(&["one\ntwo three"], r"$'one\ntwo three'"), "$'***'");
}

/// base64 breaks lines at 76, openssl and PEM at 64, and people where they like.
#[test]
fn base64_is_found_in_lines_of_any_length() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let secret = ["k1-", "k2+", "k3~", "k4/"]
        .map(|word| word.repeat(13))
        .concat();
    let usual = masker(&[&secret]);
    for before in (0..60).step_by(5) {
        let plain = format!("{}{secret} and more", "#".repeat(before));
        let encoded = STANDARD.encode(&plain);
        for (width, end) in [
            (64, "\n"),
            (76, "\n"),
            (76, "\r\n"),
            (20, "\n  "),
            (1000, "\n"),
        ] {
            let lines: Vec<_> = encoded
                .as_bytes()
                .chunks(width)
                .map(|line| std::str::from_utf8(line).unwrap())
                .collect();
            let text = format!("begin\n{}\nend\n", lines.join(end));
            // In one piece, and as a program writes it that ends each line by itself.
            let pieces = text.split_inclusive('\n').map(str::as_bytes);
            for shown in [usual.masked(&text), fed(&mut usual.clone(), pieces)] {
                let shown: String = shown.split_whitespace().collect();
                assert!(
                    shown.starts_with("begin") && shown.ends_with("end"),
                    "{shown}"
                );
                for at in (0..encoded.len() - 8).filter(|at| (before * 4 / 3 + 4..).contains(at)) {
                    let piece = &encoded[at..at + 8];
                    let inside = at + 8 <= (before + secret.len()) * 4 / 3;
                    assert!(
                        !inside || !shown.contains(piece),
                        "{before} {width}: {shown}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_end_of_a_line_is_not_kept_back() {
    let mut masker = masker(&["hunter2hunter2"]);
    assert_eq!(&*masker.feed(b"value=a\n"), b"value=a\n");
    assert_eq!(&*masker.feed(b"done: aH\n"), b"done: aH\n");
    // It was the beginning of the value after all.
    assert_eq!(&*masker.feed(b"  VudGVyMmh1bnRlcjI=\n"), b"***\n");
    assert_eq!(&*masker.feed(b"aH\r"), b"aH\r");
    assert_eq!(&*masker.feed(b"\nVudGVyMmh1bnRlcjI=;"), b"***;");
}

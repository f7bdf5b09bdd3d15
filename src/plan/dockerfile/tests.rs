use std::collections::BTreeMap;

use super::{Dockerfile, Sources, lines_of};

fn sources(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Sources {
    let args: BTreeMap<_, _> = args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Dockerfile::read(text).sources(target, &args)
}

fn closed(images: &[&str], base: Option<&str>) -> Sources {
    Sources {
        images: images.iter().map(|&name| name.to_owned()).collect(),
        base: base.map(str::to_owned),
        whole: Vec::new(),
        is_closed: true,
    }
}

#[test]
fn only_stages_that_are_needed_count() {
    let text = "FROM a AS one\nFROM b AS two\nCOPY --from=one /x /x\nFROM c\nFROM two as last";
    assert_eq!(sources(text, None, &[]), closed(&["b", "a"], Some("b")));
    assert_eq!(sources(text, Some("ONE"), &[]), closed(&["a"], Some("a")));
    assert_eq!(sources(text, Some("2"), &[]), closed(&["c"], Some("c")));
    assert!(!sources(text, Some("three"), &[]).is_closed);
}

#[test]
fn images_are_taken_from_copies_and_mounts() {
    let text = "FROM scratch\nCOPY --chown=0 --from=tool:1 /a /\n\
                RUN --mount=type=bind,from=data:2,target=/d --mount=type=cache,target=/c ls";
    assert_eq!(
        sources(text, None, &[]),
        closed(&["tool:1", "data:2"], None)
    );
}

#[test]
fn arguments_name_images() {
    let text = "ARG TAG=1\nARG BASE=\"debian:${TAG}\"\nFROM --platform=x ${BASE} AS b\n\
                FROM ${OTHER:-b}";
    let of = |args: &[(&str, &str)]| sources(text, None, args).images;
    assert_eq!(of(&[]), ["debian:1"]);
    assert_eq!(of(&[("TAG", "2")]), ["debian:2"]);
    assert_eq!(of(&[("BASE", "alpine")]), ["alpine"]);
    assert!(!sources("FROM $UNKNOWN", None, &[]).is_closed);
    assert!(!sources("ARG A\nFROM $A", None, &[]).is_closed);
}

#[test]
fn lines_are_joined_and_here_documents_left_out() {
    let text = "# escape=`\nFROM a `\n# comment\n\n AS x\nRUN <<EOF cat && <<-'END' cat\n\
                FROM no\nEOF\nFROM neither\n\tEND\nFROM b\nCOPY --from=x / /";
    assert_eq!(sources(text, None, &[]), closed(&["b", "a"], Some("b")));
}

#[test]
fn what_comes_from_elsewhere_is_not_closed() {
    for text in [
        "# syntax=docker/dockerfile:1\nFROM a",
        "FROM a\nADD https://x.example/f /f",
        "FROM a\nADD --keep-git-dir=true git@x.example:r /r",
        "",
    ] {
        assert!(!sources(text, None, &[]).is_closed, "{text}");
    }
    let unneeded = "FROM a AS x\nADD https://x.example/f /f\nFROM b";
    assert!(sources(unneeded, None, &[]).is_closed);
}

#[test]
fn a_failed_step_is_found_in_the_file() {
    let text = "FROM a\n\nRUN one; \\\n  # why\n  two\nRUN <<E\nx\nE\n";
    for (step, message, expected) in [
        (Some("[2/3] RUN one;   two"), "exit code: 1", Some(3..=5)),
        (Some("[stage-1 3/3] RUN <<E"), "exit code: 1", Some(6..=8)),
        (Some("[2/3] RUN other"), "exit code: 1", None),
        (None, "dockerfile parse error line 3: unknown", Some(3..=3)),
        (
            None,
            "dockerfile parse error on line 4: unknown",
            Some(4..=4),
        ),
        (None, "something else", None),
        (
            Some("[internal] load metadata for docker.io/library/a"),
            "no such host",
            Some(1..=1),
        ),
    ] {
        assert_eq!(
            lines_of(text, step, message),
            expected,
            "{step:?} {message}"
        );
    }
}

#[test]
fn what_takes_the_whole_context_is_known() {
    for (instruction, expected) in [
        ("COPY . .", Some(&[][..])),
        ("COPY --chown=0:0 a ./ /srv/", Some(&[])),
        ("ADD * /srv/", Some(&[])),
        (r#"COPY [".", "/srv"]"#, Some(&[])),
        (
            "COPY --exclude=.git --exclude=*.md . .",
            Some(&[".git", "*.md"]),
        ),
        ("RUN --mount=type=bind,target=/src make", Some(&[])),
        ("RUN --mount=target=/src,source=. make", Some(&[])),
        ("COPY src .", None),
        ("COPY --from=one . .", None),
        ("RUN --mount=type=bind,source=src,target=/src make", None),
        ("RUN --mount=type=bind,from=one,target=/src make", None),
        ("RUN --mount=type=cache,target=/src make", None),
        ("RUN cp . /srv", None),
        ("WORKDIR .", None),
    ] {
        let text = format!("FROM scratch AS one\nFROM scratch\n{instruction}\n");
        let expected = expected.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
        let expected: Vec<Vec<String>> = expected.into_iter().collect();
        assert_eq!(sources(&text, None, &[]).whole, expected, "{instruction}");
    }
    // A stage that is not needed takes nothing.
    let text = "FROM scratch AS one\nCOPY . .\nFROM scratch\nCOPY a .\n";
    assert!(sources(text, None, &[]).whole.is_empty());
}

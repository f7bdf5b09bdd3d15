use std::collections::BTreeMap;

use super::{Base, Dockerfile, Sources, lines_of};

fn sources(text: &str, target: Option<&str>, args: &[(&str, &str)]) -> Sources {
    let args: BTreeMap<_, _> = args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Dockerfile::read(text).sources(target, &args)
}

fn certain(images: &[&str], base: Option<&str>) -> Sources {
    let base = base.map(str::to_owned);
    Sources {
        images: images.iter().map(|&name| name.to_owned()).collect(),
        base: base.map_or(Base::Scratch, Base::Image),
        is_certain: true,
        ..Sources::default()
    }
}

#[test]
fn only_stages_that_are_needed_count() {
    let text = "FROM a AS one\nFROM b AS two\nCOPY --from=one /x /x\nFROM c\nFROM two as last";
    assert_eq!(sources(text, None, &[]), certain(&["b", "a"], Some("b")));
    assert_eq!(sources(text, Some("ONE"), &[]), certain(&["a"], Some("a")));
    assert_eq!(sources(text, Some("2"), &[]), certain(&["c"], Some("c")));
    assert!(!sources(text, Some("three"), &[]).is_certain);
}

#[test]
fn images_are_taken_from_copies_and_mounts() {
    let text = "FROM scratch\nCOPY --chown=0 --from=tool:1 /a /\n\
                RUN --mount=type=bind,from=data:2,target=/d --mount=type=cache,target=/c ls";
    assert_eq!(
        sources(text, None, &[]),
        certain(&["tool:1", "data:2"], None)
    );
}

#[test]
fn stages_are_found_as_buildkit_finds_them() {
    for (text, expected) in [
        // A stage begins from another only by its name in small letters.
        ("FROM a AS One\nFROM one", Some(certain(&["a"], Some("a")))),
        (
            "FROM a AS one\nFROM b AS one\nFROM one",
            Some(certain(&["b"], Some("b"))),
        ),
        (
            "FROM a AS one\nFROM b\nCOPY --from=ONE / /",
            Some(certain(&["b", "a"], Some("b"))),
        ),
        (
            "FROM a\nFROM b\nCOPY --from=0 / /",
            Some(certain(&["b", "a"], Some("b"))),
        ),
        (
            "FROM a AS debian\nFROM debian",
            Some(certain(&["a"], Some("a"))),
        ),
        (
            "FROM a AS scratch\nFROM scratch",
            Some(certain(&["a"], Some("a"))),
        ),
        // Mounts know no numbers.
        (
            "FROM a\nFROM b\nRUN --mount=from=0,target=/x ls",
            Some(certain(&["b", "0"], Some("b"))),
        ),
        // What is not before is refused.
        ("FROM a\nCOPY --from=0 / /", None),
        (
            "FROM a AS one\nCOPY --from=two / /\nFROM b AS two\nFROM one",
            None,
        ),
        ("FROM a\nCOPY --from=7 / /", None),
        ("FROM a AS 1one", None),
        ("FROM a AS one two", None),
        ("FROM a one", None),
        ("FROM a\nCOPY --from=x --from=y / /", None),
        ("FROM a\nNOTHING", None),
        ("RUN x\nFROM a", None),
        ("ARG A=1", None),
    ] {
        let expected = expected.unwrap_or_default();
        assert_eq!(sources(text, None, &[]), expected, "{text}");
    }
}

#[test]
fn arguments_name_images() {
    let text = "ARG TAG=1\nARG BASE=\"debian:${TAG}\"\nFROM --platform=x ${BASE} AS b\n\
                FROM ${OTHER:-b}";
    let of = |args: &[(&str, &str)]| sources(text, None, args);
    assert_eq!(of(&[]), certain(&["debian:1"], Some("debian:1")));
    assert_eq!(
        of(&[("TAG", "2")]),
        certain(&["debian:2"], Some("debian:2"))
    );
    assert_eq!(
        of(&[("BASE", "alpine")]),
        certain(&["alpine"], Some("alpine"))
    );
    // An argument that is not declared has no value.
    assert_eq!(
        of(&[("OTHER", "alpine")]),
        certain(&["debian:1"], Some("debian:1"))
    );
    for text in [
        "FROM $UNKNOWN",
        "ARG A\nFROM $A",
        // Only the engine knows its platform.
        "FROM a-$TARGETARCH",
        "ARG TARGETARCH=amd64\nFROM a-$TARGETARCH",
        "ARG A=$BUILDPLATFORM\nFROM a-$A",
        // Versions differ.
        "ARG A=1\nARG A\nFROM a:$A",
        "ARG A=x1\nFROM a:${A#x}",
    ] {
        assert!(!sources(text, None, &[]).is_certain, "{text}");
    }
    // The platform is no part of the name.
    let text = "FROM --platform=$BUILDPLATFORM a";
    assert_eq!(sources(text, None, &[]), certain(&["a"], Some("a")));
}

#[test]
fn engines_without_here_documents_read_the_same_or_refuse() {
    let text = "# escape=`\nFROM a `\n# comment\n\n AS x\nRUN <<EOF cat && <<-'END' cat\n\
                nonsense\nEOF\nneither\n\tEND\nFROM b\nCOPY --from=x / /";
    assert_eq!(sources(text, None, &[]), certain(&["b", "a"], Some("b")));
    // What each takes for a whole Dockerfile is not certain.
    let text = "FROM a\nRUN <<RUN\nFROM b\nRUN\nRUN x";
    let found = sources(text, None, &[]);
    assert!(!found.is_certain);
    assert_eq!(found.base, Base::Unknown);
    // With a blank, only the newest know them.
    let text = "FROM a\nRUN cat << RUN\nFROM b\nRUN\nRUN x";
    assert!(!sources(text, None, &[]).is_certain);
    let text = "FROM a\nRUN cat << EOF\nFROM b\nEOF\n";
    assert_eq!(sources(text, None, &[]), certain(&["a"], Some("a")));
}

#[test]
fn what_comes_from_elsewhere_is_named() {
    for (text, remotes, is_certain) in [
        (
            "FROM a\nADD https://x.example/f /f",
            &["https://x.example/f"][..],
            true,
        ),
        (
            "FROM a\nADD --keep-git-dir=true git@x.example:r /r",
            &["git@x.example:r"],
            true,
        ),
        (r#"FROM a\nADD ["http://x/f", "/f"]"#, &["http://x/f"], true),
        (r#"FROM a\nADD "http://x/f" /f"#, &["http://x/f"], true),
        ("FROM a\nARG URL=http://x/f\nADD ${URL} /f", &[], false),
        ("FROM a\nADD me@x.example:r.git /f", &[], false),
        ("FROM a\nADD f /http://x/f", &[], true),
        ("FROM a AS x\nADD https://x.example/f /f\nFROM a", &[], true),
    ] {
        let text = text.replace("\\n", "\n");
        let found = sources(&text, None, &[]);
        assert_eq!(found.remotes, remotes, "{text}");
        assert_eq!(found.is_certain, is_certain, "{text}");
    }
}

#[test]
fn what_another_image_reads_is_not_certain() {
    let found = sources("# syntax=docker/dockerfile:1\nFROM a", None, &[]);
    assert!(!found.is_certain);
    assert_eq!(found.images, ["a"]);
    assert!(!sources("FROM a", None, &[("BUILDKIT_SYNTAX", "x")]).is_certain);
    assert!(!sources("", None, &[]).is_certain);
}

/// Files whose sources were once misread, with what they are.
#[test]
fn what_is_easily_misread_is_read() {
    let debian = "debian:trixie-slim";
    let one = certain(&[debian], Some(debian));
    let two = certain(&["base-two:1", "other:1"], Some("base-two:1"));
    let mut with_other = one.clone();
    with_other.images.push("other:1".to_owned());
    let two_after =
        |step: &str| format!("FROM {debian}\n{step}\nFROM base-two:1\nCOPY --from=other:1 /a /b\n");
    let after = |step: &str| format!("FROM {debian}\n{step}\n");
    for (text, expected) in [
        (
            "ARG S\nARG D=trixie\nFROM debian:${S:-${D}-slim}\n".to_owned(),
            one.clone(),
        ),
        (
            "ARG S=slim\nFROM debian:trixie${S:+-${S}}\n".to_owned(),
            one.clone(),
        ),
        ("FROM \"debian:trixie-slim\"\n".to_owned(), one.clone()),
        ("FROM deb\\\nian:trixie-slim\n".to_owned(), one.clone()),
        (
            "ARG A=debian\nARG A=${UNSET}\nFROM ${A:-other}\n".to_owned(),
            certain(&["other"], Some("other")),
        ),
        (after("COPY --from=\"other:1\" /a /b"), with_other.clone()),
        (
            after("RUN echo $((1<<N)) > /x\nCOPY --from=other:1 /a /b"),
            with_other.clone(),
        ),
        (
            after("RUN psql -c 'select 1<<id from t'\nCOPY --from=other:1 /a /b"),
            with_other.clone(),
        ),
        (
            after("RUN --mount=type=bind,FROM=other:1,target=/x ls /x"),
            with_other.clone(),
        ),
        (
            after("RUN --mount='from=other:1,target=/x' ls /x"),
            with_other.clone(),
        ),
        (
            after("ONBUILD RUN <<EOF\nFROM evil:1\nEOF\nRUN true"),
            one.clone(),
        ),
        (after("ONBUILD COPY --from=evil:1 / /"), one.clone()),
        (
            two_after("RUN echo 'int main(){std::cout<<x<<endl;}' > a.cc"),
            two.clone(),
        ),
        (two_after("RUN echo foo \\\\"), two.clone()),
        (two_after("RUN [\"sh\",\"-c\",\"cat <<EOF\"]"), two.clone()),
        (
            two_after("RUN python3 -c \"n=3; print(1 <<n)\""),
            two.clone(),
        ),
        (two_after("RUN echo $((1<<N))"), two),
    ] {
        assert_eq!(sources(&text, None, &[]), expected, "{text}");
    }
    // A dollar in single quotes is one: there is no such image.
    assert!(!sources("ARG X=evil\nARG A='$X'\nFROM de$A\n", None, &[]).is_certain);
    // The quotes of a list are taken off with those of a flag.
    let quoted = "RUN --mount=type=bind,\"from=other:1\",target=/x ls";
    assert_eq!(sources(&after(quoted), None, &[]), with_other);
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

#[test]
fn hostile_files_are_read_in_no_time() {
    let nested = "${A:-".repeat(100_000) + &"}".repeat(100_000);
    let lines = (0..100).map(|index| format!("ARG A{}=$A{index}\"$A{index}\"\n", index + 1));
    let growing = "ARG A0=xx\n".to_owned() + &lines.collect::<Vec<_>>().concat();
    let lines = (0..20_000).map(|index| format!("FROM s{index} AS s{}\n", index + 1));
    let stages = "FROM a AS s0\n".to_owned() + &lines.collect::<Vec<_>>().concat();
    for text in [
        format!("FROM {nested}\n"),
        format!("ARG A={nested}\nFROM $A\n"),
        format!("{growing}FROM $A100\n"),
        stages,
        "FROM a\n".to_owned() + &"RUN <<A\n".repeat(50_000),
        "FROM a\n".to_owned() + &"RUN a \\\n".repeat(50_000),
    ] {
        let started = std::time::Instant::now();
        let found = sources(&text, None, &[]);
        let shown: String = text.chars().take(40).collect();
        // Whatever is said of it, the engine decides.
        assert!(!found.is_certain || found.images == ["a"], "{shown}");
        assert!(started.elapsed().as_secs() < 10, "{shown}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "([A-Z]{2,4} |FROM |RUN |ARG |[a-z$<{}:'\"\\\\`=-]|\n|\\PC){0,60}") {
        let _ = sources(&text, None, &[]);
    }
}

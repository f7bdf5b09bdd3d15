//! Facts of BuildKit's own tests (`frontend/dockerfile/parser`: `testfiles`, `testfile-line`,
//! `testfiles-negative`, `parser_heredoc_test.go`).

use super::*;

/// The keyword, flags and rest of each instruction.
fn read(text: &str, here: HereDocuments) -> Vec<(String, Vec<String>, String)> {
    let parsed = parse(text, here);
    assert_eq!(parsed.problem, None, "{text}");
    let instructions = parsed.instructions.into_iter();
    instructions
        .map(|instruction| (instruction.keyword, instruction.flags, instruction.rest))
        .collect()
}

fn rests(text: &str) -> Vec<String> {
    let read = read(text, HereDocuments::Spaced);
    read.into_iter().map(|(_, _, rest)| rest).collect()
}

#[test]
fn lines_are_joined_as_buildkit_joins_them() {
    for (text, expected) in [
        (
            "FROM u\n\nRUN echo hello\\\n  world\\\n  goodnight  \\\n  moon\\\n  light\\\nning\n",
            &["u", "echo hello  world  goodnight    moon  lightning"][..],
        ),
        ("RUN echo hello  \\\n  world", &["echo hello    world"]),
        (
            "RUN echo hello \\\ngoodbye\\\nfrog",
            &["echo hello goodbyefrog"],
        ),
        ("RUN echo hello  \\  \nworld", &["echo hello  world"]),
        (
            "RUN echo hi \\\n \\\n world \\\n\\\n good\\\n\\\nnight",
            &["echo hi   world  goodnight"],
        ),
        (
            "RUN echo hello \\\n# this is a comment\n\n# another\n\nthis is more\n",
            &["echo hello this is more"],
        ),
        (
            "FROM alpine:3.5\n\nRUN something \\",
            &["alpine:3.5", "something"],
        ),
        ("RUN foo \\\n\nbar \\\n\nbaz\n", &["foo bar baz"]),
        (
            "ENV C trailing\\\\backslash\\\\\nENV D not appended\nENV F hello\\\n \\\nworld",
            &[
                r"C trailing\\backslash\\",
                "D not appended",
                "F hello world",
            ],
        ),
        ("FROM deb\\\nian", &["debian"]),
        (
            "\u{feff}FROM image\r\nRUN a \\\r\n  b\r\n",
            &["image", "a   b"],
        ),
        ("  FROM image", &["image"]),
    ] {
        assert_eq!(rests(text), expected, "{text}");
    }
}

#[test]
fn the_first_lines_say_what_joins_lines() {
    for (text, escape, expected) in [
        (
            "#escape = `\n\nFROM image\nENV GOPATH `\n\\go",
            '`',
            r"GOPATH \go",
        ),
        (
            "# escape = `\n# Another.\nFROM image\nENV GOPATH `\n\\go\n",
            '`',
            r"GOPATH \go",
        ),
        (
            "# Comment here.\n# escape = `\n\nFROM image\nENV GOPATH \\\n\\go",
            '\\',
            r"GOPATH \go",
        ),
        (
            "# syntax = docker/dockerfile\n# escape = `\n\nFROM `\n    image\n",
            '`',
            "image",
        ),
        ("# ESCAPE=\\\n\nFROM image\n", '\\', "image"),
        ("\n# escape=`\nFROM image\n", '\\', "image"),
    ] {
        let parsed = parse(text, HereDocuments::Spaced);
        assert_eq!(parsed.escape, escape, "{text}");
        assert_eq!(parsed.instructions.last().unwrap().rest, expected, "{text}");
    }
    for text in [
        "# escape=x\nFROM image",
        "# escape=`\n# escape=`\nFROM image",
    ] {
        let parsed = parse(text, HereDocuments::Spaced);
        assert_eq!(parsed.problem, Some(Problem::Refused), "{text}");
    }
    // Only newer versions look for more after this.
    let text = "# check=skip=all\n# escape=`\nFROM image";
    assert_eq!(parse(text, HereDocuments::Spaced).escape, '`');
    assert_eq!(parse(text, HereDocuments::None).escape, '\\');
}

#[test]
fn an_image_may_read_the_dockerfile() {
    for (text, expected) in [
        (
            "# syntax=docker/dockerfile:1\nFROM a",
            Some("docker/dockerfile:1"),
        ),
        ("#!/usr/bin/env x\n# syntax = d/f:1 \nFROM a", Some("d/f:1")),
        ("# escape=`\n# SYNTAX=d/f\nFROM a", Some("d/f")),
        ("// syntax=d/f\nFROM a", Some("// syntax=d/f")),
        ("{\"syntax\": \"d/f\"}", Some("{\"syntax\": \"d/f\"}")),
        ("# A comment.\n# syntax=d/f\nFROM a", None),
        ("FROM a\n# syntax=d/f", None),
        ("# syntax=\nFROM a", None),
    ] {
        assert_eq!(syntax(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn flags_come_before_the_rest() {
    for (text, flags, rest) in [
        ("COPY foo /tmp/", &[][..], "foo /tmp/"),
        ("COPY --user=me foo /tmp/", &["--user=me"], "foo /tmp/"),
        (
            "COPY --user=me --doit=true foo /tmp/",
            &["--user=me", "--doit=true"],
            "foo /tmp/",
        ),
        (
            "COPY --doit=true -- foo /tmp/",
            &["--doit=true"],
            "foo /tmp/",
        ),
        ("COPY -- foo /tmp/", &[], "foo /tmp/"),
        (r#"CMD --doit [ "a", "b" ]"#, &["--doit"], r#"[ "a", "b" ]"#),
        (r#"COPY --from="x y" a b"#, &["--from=x y"], "a b"),
        ("RUN --mount='from=x' ls", &["--mount=from=x"], "ls"),
        (
            r#"RUN --mount=type=bind,\"from=x\" ls"#,
            &[r#"--mount=type=bind,"from=x""#],
            "ls",
        ),
    ] {
        let found = read(text, HereDocuments::Spaced);
        let [(_, found_flags, found_rest)] = found.as_slice() else {
            panic!("{text}: {found:?}");
        };
        assert_eq!(
            (found_flags.as_slice(), found_rest.as_str()),
            (&*owned(flags), rest),
            "{text}"
        );
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn here_documents_end_where_their_word_stands() {
    // A line, and the words that end its documents: as of Engine 23, and of newer ones.
    let rows: [(&str, &[&str], &[&str]); 33] = [
        ("RUN ls", &[], &[]),
        ("USER <<INVALID", &[], &[]),
        ("RUN <<EMPTY", &["EMPTY"], &["EMPTY"]),
        ("RUN 3<<EMPTY2", &["EMPTY2"], &["EMPTY2"]),
        ("RUN \"<<NOHEREDOC\"", &[], &[]),
        ("RUN '<<EOF'", &[], &[]),
        ("RUN <<-UNINDENT", &["UNINDENT"], &["UNINDENT"]),
        ("RUN <<-'NOEXPAND'", &["NOEXPAND"], &["NOEXPAND"]),
        (
            "RUN --mount=type=cache,target=/foo <<MOUNT",
            &["MOUNT"],
            &["MOUNT"],
        ),
        (
            "COPY <<FILE1 <<FILE2 /dest",
            &["FILE1", "FILE2"],
            &["FILE1", "FILE2"],
        ),
        ("RUN <<COMPLEX python3", &["COMPLEX"], &["COMPLEX"]),
        ("COPY <<file.txt /dest", &["file.txt"], &["file.txt"]),
        ("RUN <<eo'f'", &["eof"], &["eof"]),
        (r"RUN <<eo\'f", &["eo'f"], &["eo'f"]),
        (r"RUN <<'e'o\'f", &["eo'f"], &["eo'f"]),
        ("RUN <<'one two'", &["one two"], &["one two"]),
        ("RUN <<$EOF", &["$EOF"], &["$EOF"]),
        ("RUN <<EO\"F\"", &["EOF"], &["EOF"]),
        ("RUN <<  EOF", &[], &["EOF"]),
        ("RUN <<  EOF  > foo", &[], &["EOF"]),
        ("RUN <<- EOF", &[], &[]),
        ("RUN << -EOF", &[], &["-EOF"]),
        ("RUN <<<EOF", &[], &[]),
        ("RUN <<", &[], &[]),
        ("RUN [\"<<EOF\"]", &[], &[]),
        ("RUN [\"sh\", \"-c\", \"<<'EOF'\"]", &[], &[]),
        ("ONBUILD RUN <<EOF", &["EOF"], &["EOF"]),
        ("ONBUILD RUN [\"<<EOF\"]", &[], &[]),
        ("RUN echo $((1<<N))", &[], &[]),
        ("RUN python3 -c \"print(1 <<n)\"", &[], &[]),
        ("RUN echo \"usage: show <<name>>\"", &[], &[]),
        // What can't be split has none.
        ("RUN echo it's <<EOF", &[], &[]),
        ("RUN cat <<EOF | sh", &["EOF"], &["EOF"]),
    ];
    for (line, adjacent, spaced) in rows {
        for (here, ends) in [
            (HereDocuments::None, &[][..]),
            (HereDocuments::Adjacent, adjacent),
            (HereDocuments::Spaced, spaced),
        ] {
            let bodies = ends.iter().map(|end| format!("FROM no\n{end} \n{end}\n"));
            let bodies = bodies.collect::<Vec<_>>().concat();
            let text = format!("{line}\n{bodies}FROM yes\n");
            let found = read(&text, here);
            let found: Vec<_> = found.iter().map(|(keyword, ..)| keyword.as_str()).collect();
            let keyword = line.split(' ').next().unwrap();
            assert_eq!(found, [keyword, "FROM"], "{line} {here:?}");
        }
    }
}

#[test]
fn tabs_before_the_end_count_for_nothing_where_they_are_said_to() {
    let text = "RUN <<-E\n\tbody\n\tE\nFROM yes";
    assert_eq!(rests(text), ["<<-E", "yes"]);
    let text = "RUN <<E\n\tE\nE\nFROM yes";
    assert_eq!(rests(text), ["<<E", "yes"]);
}

#[test]
fn what_buildkit_refuses_is_refused() {
    for text in [
        "RUN <<EOF\nbody\n",
        "RUN <<EOF'\nEOF\n",
        "CMD [1]\nRUN [ \"a\", [] ] <<E",
    ] {
        let parsed = parse(text, HereDocuments::Spaced);
        let is_refused = parsed.problem == Some(Problem::Refused);
        // A word that can't be split has no here-document, and what follows is an instruction.
        assert!(
            is_refused || parsed.instructions.len() == 2,
            "{text}: {parsed:?}"
        );
    }
    assert!(parse("", HereDocuments::Spaced).instructions.is_empty());
    assert!(
        parse("# a\n\n# b\n", HereDocuments::Spaced)
            .instructions
            .is_empty()
    );
}

#[test]
fn instructions_know_their_lines() {
    let text = "# ESCAPE=\\\n\n\n\nFROM brimstone/ubuntu:14.04\n\n\n# TORUN -v\n\n\nENV GOPATH \\\n/go\n\n\n\n\
                # Install\nRUN apt-get update \\\n\t&& dpkg -l \\\n\n\n    && apt-get \\\n    && rm\n\n\n";
    let parsed = parse(text, HereDocuments::Spaced);
    let lines: Vec<_> = parsed
        .instructions
        .iter()
        .map(|found| found.lines.clone())
        .collect();
    assert_eq!(lines, [5..=5, 11..=12, 17..=22]);
}

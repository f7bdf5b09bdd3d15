use super::super::tests::table;
use crate::manifest::schema::EnvFileFormat;

/// The inputs and results of compose-go's own tests, and some more.
#[test]
fn a_value_is_what_compose_makes_of_it() {
    table(
        EnvFileFormat::Compose,
        &[
            ("\n # c\n\tA=1", &[("A", "1")], &[]),
            (
                "A= 3\nB =4\nC = 5\n456 = ABC\nD = \nE=",
                &[
                    ("A", "3"),
                    ("B", "4"),
                    ("C", "5"),
                    ("456", "ABC"),
                    ("D", ""),
                    ("E", ""),
                ],
                &[],
            ),
            ("A = my string # comment", &[("A", "my string")], &[]),
            ("A=b#c", &[("A", "b#c")], &[]),
            ("A=bar ", &[("A", "bar")], &[]),
            ("A=foobar=", &[("A", "foobar=")], &[]),
            (
                "A: 1\nB: C=d\nC=1:B",
                &[("A", "1"), ("B", "C=d"), ("C", "1:B")],
                &[],
            ),
            (
                "export A=2\n\texport\tB='\\n'",
                &[("A", "2"), ("B", "\\n")],
                &[],
            ),
            (
                "export exportFoo=2\nexportFOO=2",
                &[("exportFoo", "2"), ("exportFOO", "2")],
                &[],
            ),
            (
                "export_FOO =2\nexport.FOO= 2",
                &[("export_FOO", "2"), ("export.FOO", "2")],
                &[],
            ),
            (
                "A='1'\nB=''\nC=\"\"",
                &[("A", "1"), ("B", ""), ("C", "")],
                &[],
            ),
            ("A=\"\\n\"\nB='\\n'", &[("A", "\n"), ("B", "\\n")], &[]),
            ("A = \"echo 'asd'\" # Comment", &[("A", "echo 'asd'")], &[]),
            (
                "A = 'first\nsecond'\nB=2",
                &[("A", "first\nsecond"), ("B", "2")],
                &[],
            ),
            (r"K='Let\'s go!'", &[("K", "Let's go!")], &[]),
            (r#"FOO="escaped\"bar""#, &[("FOO", "escaped\"bar")], &[]),
            (
                "FOO=\"bar#baz\" # comment\nBAR='#'#",
                &[("FOO", "bar#baz"), ("BAR", "#")],
                &[],
            ),
            (
                r#"A="a\\b\tc\q\0101\0400\7""#,
                &[("A", "a\\b\tc\\qA\\0400\\7")],
                &[],
            ),
            (r"A='a\\b'", &[("A", r"a\\b")], &[]),
            (
                "FOO=test\nBAR=$FOO\nBAZ=${FOO}bar",
                &[("FOO", "test"), ("BAR", "test"), ("BAZ", "testbar")],
                &[],
            ),
            (
                "A=1\nB=\"quote $A\"\nC='quote $A'",
                &[("A", "1"), ("B", "quote 1"), ("C", "quote $A")],
                &[],
            ),
            (r#"A="foo\$BAR \${BAR}""#, &[("A", "foo$BAR ${BAR}")], &[]),
            ("A=$$B\nC=a$", &[("A", "$B"), ("C", "a$")], &[]),
            ("A=${NONE:-d}${NONE-e}", &[("A", "de")], &[]),
            // The caller wins over the file.
            (
                "SET=here\nA=$SET",
                &[("SET", "here"), ("A", "from caller")],
                &[],
            ),
            (
                "foo=bar\nSET\nbar=baz",
                &[("foo", "bar"), ("SET", "from caller"), ("bar", "baz")],
                &[],
            ),
            ("SET", &[("SET", "from caller")], &[]),
            ("a[1]=c\na.b-c=d", &[("a[1]", "c"), ("a.b-c", "d")], &[]),
            ("árvíztűrő-TÜKÖR=Á", &[("árvíztűrő-TÜKÖR", "Á")], &[]),
            (
                "\u{feff}A=1\r\nB='2'\r\nSET\r\n",
                &[("A", "1"), ("B", "2"), ("SET", "from caller")],
                &[],
            ),
        ],
    );
}

#[test]
fn what_is_seldom_meant_is_a_warning() {
    table(
        EnvFileFormat::Compose,
        &[
            ("A= # c", &[("A", "# c")], &["env-comment 1:4"]),
            ("A=1\t# c", &[("A", "1\t# c")], &["env-comment 1:3"]),
            ("A=1\rB=2", &[("A", "1\rB=2")], &["env-line-end 1:4"]),
            ("A=1\nA=2", &[("A", "2")], &["env-duplicate 2:1"]),
        ],
    );
}

#[test]
fn what_is_no_variable_is_refused() {
    table(
        EnvFileFormat::Compose,
        &[
            ("A=\"x\nB=1\nsome words", &[], &["env-quote 1:3"]),
            ("A='x\\'", &[], &["env-quote 1:3"]),
            (
                "some words\nA=\"x\" y",
                &[],
                &["env-syntax 1:1", "env-syntax 2:7"],
            ),
            (
                "A B='x\ny z'\n=1",
                &[],
                &["env-syntax 1:1", "env-syntax 3:1"],
            ),
            ("lol$wut=1", &[], &["env-syntax 1:1"]),
            ("=\"value\"", &[], &["env-syntax 1:1"]),
            ("NONE", &[], &["env-unset 1:1"]),
            ("A=x${NONE}", &[], &["unset-variable 1:4"]),
            ("A=\"\\$$NONE\"", &[], &["unset-variable 1:3"]),
            ("A=${NONE:?canary}", &[], &["unset-variable 1:3"]),
            ("A=${", &[], &["variable-syntax 1:3"]),
            ("A=\0", &[], &["env-syntax 1:3"]),
            (r#"A="\0000""#, &[], &["env-syntax 1:3"]),
        ],
    );
}

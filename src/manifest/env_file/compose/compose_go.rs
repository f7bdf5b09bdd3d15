//! The rows of compose-go's `dotenv` tests: `TestParse…`, `TestExpand…`, `TestUnterminatedQuotes`, and its fixtures.

use std::path::Path;

use super::super::{EnvFile, Reading, Unset};
use crate::facts::Environment;
use crate::manifest::schema::EnvFileFormat;

/// What a file has, with what the user's environment has; nothing if it is refused.
fn read(text: &str, caller: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    let caller = Environment::new(caller.iter().copied(), "/");
    let reading = Reading {
        format: EnvFileFormat::Compose,
        caller: &caller,
        unset: Unset::Allowed,
    };
    let file = EnvFile::parse(text.as_bytes(), Path::new("test.env"), &reading).ok()?;
    let variables = file.variables.iter();
    let pair = |variable: &super::super::EnvVariable| {
        (
            variable.name.to_string(),
            variable.value.expose().to_owned(),
        )
    };
    Some(variables.map(pair).collect())
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = expected.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn one_variable_is_what_compose_makes_of_it() {
    for (text, name, value) in [
        ("FOO=bar", "FOO", "bar"),
        ("FOO =bar", "FOO", "bar"),
        ("FOO= bar", "FOO", "bar"),
        (r#"FOO="bar""#, "FOO", "bar"),
        ("FOO='bar'", "FOO", "bar"),
        (r#"FOO="escaped\"bar""#, "FOO", r#"escaped"bar"#),
        (r#"FOO="\"quoted\"""#, "FOO", r#""quoted""#),
        (r#"FOO="'d'""#, "FOO", "'d'"),
        ("OPTION_A: 1", "OPTION_A", "1"),
        ("OPTION_A: Foo=bar", "OPTION_A", "Foo=bar"),
        ("OPTION_A=1:B", "OPTION_A", "1:B"),
        ("export OPTION_A=2", "OPTION_A", "2"),
        (r"export OPTION_B='\n'", "OPTION_B", r"\n"),
        ("export exportFoo=2", "exportFoo", "2"),
        ("exportFOO=2", "exportFOO", "2"),
        ("export_FOO =2", "export_FOO", "2"),
        ("export.FOO= 2", "export.FOO", "2"),
        ("export\tOPTION_A=2", "OPTION_A", "2"),
        ("  export OPTION_A=2", "OPTION_A", "2"),
        ("\texport OPTION_A=2", "OPTION_A", "2"),
        (r#"export OPTION_A="export A""#, "OPTION_A", "export A"),
        (r#"FOO="bar\nbaz""#, "FOO", "bar\nbaz"),
        (r"FOO=a\tb", "FOO", r"a\tb"),
        (r#"FOO="a\tb""#, "FOO", "a\tb"),
        (
            r#"KEY="Z\aZ\bZ\fZ\nZ\rZ\tZ\vZ\\Z\0123Z""#,
            "KEY",
            "Z\u{7}Z\u{8}Z\u{c}Z\nZ\rZ\tZ\u{b}Z\\ZSZ",
        ),
        ("FOO.BAR=foobar", "FOO.BAR", "foobar"),
        ("FOO=foobar=", "FOO", "foobar="),
        ("FOO=bar ", "FOO", "bar"),
        ("FOO=bar # this is foo", "FOO", "bar"),
        ("FOO=bar #this is foo", "FOO", "bar"),
        ("FOO=bar #", "FOO", "bar"),
        (
            "FOO=123#not-an-inline-comment",
            "FOO",
            "123#not-an-inline-comment",
        ),
        (r#"FOO="bar#baz""#, "FOO", "bar#baz"),
        (r##"FOO="bar#baz"#"##, "FOO", "bar#baz"),
        (r#"FOO="bar#baz" # comment"#, "FOO", "bar#baz"),
        ("FOO='bar#baz' # comment", "FOO", "bar#baz"),
        (r#"FOO="bar#baz#bang" # comment"#, "FOO", "bar#baz#bang"),
        (r#"FOO="ba#r""#, "FOO", "ba#r"),
        ("FOO='ba#r'", "FOO", "ba#r"),
        (r#"FOO="bar\n\ b\az""#, "FOO", "bar\n\\ b\u{7}z"),
        (r#"FOO="bar\\\n\ b\az""#, "FOO", "bar\\\n\\ b\u{7}z"),
        (r#"FOO="bar\\r\ b\az""#, "FOO", "bar\\r\\ b\u{7}z"),
        (r#"FOO="bar\nbaz\\""#, "FOO", "bar\nbaz\\"),
        (" KEY =value", "KEY", "value"),
        ("   KEY=value", "KEY", "value"),
        ("\tKEY=value", "KEY", "value"),
        (r#"KEY="\0123""#, "KEY", "S"),
        (r#"KEY="\x07""#, "KEY", r"\x07"),
        (r#"KEY="\u12e4""#, "KEY", r"\u12e4"),
        (r#"KEY="\U00101234""#, "KEY", r"\U00101234"),
        ("BAR=$FOO", "BAR", ""),
        ("BAR='quote $FOO'", "BAR", "quote $FOO"),
        (r#"FOO="foo\$BAR""#, "FOO", "foo$BAR"),
        (r#"FOO="foo\${BAR}""#, "FOO", "foo${BAR}"),
        (
            "U=\"stratum+tcp://stratum.antpool.com:3333\nstratum+tcp://stratum.antpool.com:443\"",
            "U",
            "stratum+tcp://stratum.antpool.com:3333\nstratum+tcp://stratum.antpool.com:443",
        ),
        (
            "RESULT=${UNSET_VAR:-Default Value}",
            "RESULT",
            "Default Value",
        ),
        (
            "RESULT=${EMPTY_VAR:-Default Value}",
            "RESULT",
            "Default Value",
        ),
        ("RESULT=${TEST_VAR:-Default Value}", "RESULT", "Test Value"),
        (
            "RESULT=${UNSET_VAR-Default Value}",
            "RESULT",
            "Default Value",
        ),
        ("RESULT=${EMPTY_VAR-Default Value}", "RESULT", ""),
        ("RESULT=${TEST_VAR-Default Value}", "RESULT", "Test Value"),
        ("RESULT=${TEST_VAR:?Default Value}", "RESULT", "Test Value"),
        ("RESULT=${EMPTY_VAR?Test error}", "RESULT", ""),
        ("RESULT=${TEST_VAR?Default Value}", "RESULT", "Test Value"),
        ("TEST=$ME", "TEST", "YES"),
    ] {
        let caller = [("EMPTY_VAR", ""), ("TEST_VAR", "Test Value"), ("ME", "YES")];
        assert_eq!(
            read(text, &caller),
            Some(pairs(&[(name, value)])),
            "{text:?}"
        );
    }
}

#[test]
fn what_compose_refuses_is_refused() {
    for text in [
        "lol$wut",
        r#"KEY=""#,
        r#"KEY="value"#,
        r#"KEY="value\""#,
        r#"KEY="value'"#,
        "KEY='",
        "KEY='value",
        r"KEY='value\'",
        r#"KEY='value""#,
        "%!(EXTRA string)=foo",
        "RESULT=${UNSET_VAR:?Test error}",
        "RESULT=${EMPTY_VAR:?Test error}",
        "RESULT=${UNSET_VAR?Test error}",
        "# some comments\nfoo=\"\n  a\n  multine\n  value\n\"\nINVALID LINE\nzot=qix",
        // compose takes a variable without a name.
        r#"="value""#,
    ] {
        assert_eq!(read(text, &[("EMPTY_VAR", "")]), None, "{text:?}");
    }
}

#[test]
fn files_are_what_compose_makes_of_them() {
    let plain = "OPTION_A=1\nOPTION_B=2\nOPTION_C= 3\nOPTION_D =4\nOPTION_E = 5\n456 = ABC\n\
                 OPTION_F = \nOPTION_G=\nOPTION_H = my string # Inline comment\n";
    let of_plain = [
        ("OPTION_A", "1"),
        ("OPTION_B", "2"),
        ("OPTION_C", "3"),
        ("OPTION_D", "4"),
        ("OPTION_E", "5"),
        ("456", "ABC"),
        ("OPTION_F", ""),
        ("OPTION_G", ""),
        ("OPTION_H", "my string"),
    ];
    let lines = "first line\nsecond line\nthird line\nand so on";
    for (text, expected) in [
        (
            "ONE=1\nTWO='2'\nTHREE = \"3\"",
            vec![("ONE", "1"), ("TWO", "2"), ("THREE", "3")],
        ),
        (plain, of_plain.to_vec()),
        (&*format!("\u{feff}{plain}"), of_plain.to_vec()),
        (
            "export OPTION_A=2\nexport OPTION_B='\\n'\n",
            vec![("OPTION_A", "2"), ("OPTION_B", "\\n")],
        ),
        (
            "export OPTION_A='postgres://localhost:5432/database?sslmode=disable'\n\n",
            vec![(
                "OPTION_A",
                "postgres://localhost:5432/database?sslmode=disable",
            )],
        ),
        (
            &format!(
                "OPTION_A='1'\nOPTION_C=''\nOPTION_D='\\n'\nOPTION_E=\"1\"\nOPTION_G=\"\"\n\
                 OPTION_H=\"\\n\"\nOPTION_I = \"echo 'asd'\" # Inline comment\nOPTION_J = '{lines}'\n\
                 OPTION_K='Let\\'s go!'\nOPTION_Z = \"last value\"\n"
            ),
            vec![
                ("OPTION_A", "1"),
                ("OPTION_C", ""),
                ("OPTION_D", "\\n"),
                ("OPTION_E", "1"),
                ("OPTION_G", ""),
                ("OPTION_H", "\n"),
                ("OPTION_I", "echo 'asd'"),
                ("OPTION_J", lines),
                ("OPTION_K", "Let's go!"),
                ("OPTION_Z", "last value"),
            ],
        ),
        (
            "OPTION_A = \"some quoted phrase\"\nOPTION_B=first one with an unquoted phrase\n\
             OPTION_D = then another one with an unquoted phrase special è char\n",
            vec![
                ("OPTION_A", "some quoted phrase"),
                ("OPTION_B", "first one with an unquoted phrase"),
                (
                    "OPTION_D",
                    "then another one with an unquoted phrase special è char",
                ),
            ],
        ),
    ] {
        assert_eq!(read(text, &[]), Some(pairs(&expected)), "{text:?}");
    }
}

#[test]
fn variables_in_files_are_what_compose_makes_of_them() {
    let substitutions = "OPTION_A=1\nOPTION_B=${OPTION_A}\nOPTION_C=$OPTION_B\n\
                         OPTION_D=${OPTION_A}_${OPTION_B}\nOPTION_E=${OPTION_NOT_DEFINED}\n";
    let defaults = substitutions.replacen("=1", "=${OPTION_A:-1}", 1);
    let options = |values: [&'static str; 5]| {
        let names = ["OPTION_A", "OPTION_B", "OPTION_C", "OPTION_D", "OPTION_E"];
        names.into_iter().zip(values).collect::<Vec<_>>()
    };
    let five = ("OPTION_A", "5");
    let inherited = ("VAR_TO_BE_LOADED_FROM_OS_ENV", "SOME_RANDOM_VALUE");
    for (text, caller, expected) in [
        (substitutions, vec![], options(["1", "1", "1", "1_1", ""])),
        (
            substitutions,
            vec![five],
            options(["1", "5", "5", "5_5", ""]),
        ),
        (&defaults, vec![five], options(["5", "5", "5", "5_5", ""])),
        (&defaults, vec![], options(["1", "1", "1", "1_1", ""])),
        (
            "foo=bar\nVAR_TO_BE_LOADED_FROM_OS_ENV\nbar=baz\n",
            vec![inherited],
            vec![("foo", "bar"), inherited, ("bar", "baz")],
        ),
        ("VARIABLE_NOT_FOUND\n", vec![], vec![]),
        (
            "VAR.WITH.DOTS=dots\nVAR_WITH_UNDERSCORES=underscores\nVAR-WITH-DASHES=dashes\n",
            vec![],
            vec![
                ("VAR.WITH.DOTS", "dots"),
                ("VAR_WITH_UNDERSCORES", "underscores"),
                ("VAR-WITH-DASHES", "dashes"),
            ],
        ),
        (
            "FOO=test\nBAR=$FOO",
            vec![],
            vec![("FOO", "test"), ("BAR", "test")],
        ),
        (
            "FOO=test\nBAR=${FOO}bar",
            vec![],
            vec![("FOO", "test"), ("BAR", "testbar")],
        ),
        (
            "FOO=test\nBAR=\"quote $FOO\"",
            vec![],
            vec![("FOO", "test"), ("BAR", "quote test")],
        ),
        (
            "FOO=test\nBAR=\"foo\\${FOO} ${FOO}\"",
            vec![],
            vec![("FOO", "test"), ("BAR", "foo${FOO} test")],
        ),
        ("\n", vec![], vec![]),
        ("\r\n", vec![], vec![]),
        ("\t\t ", vec![], vec![]),
        ("# Comment", vec![], vec![]),
        ("\t # comment", vec![], vec![]),
        (
            "\na=b\na[1]=c\na.propertyKey=d\nárvíztűrő-TÜKÖRFÚRÓGÉP=ÁRVÍZTŰRŐ-tükörfúrógép\n",
            vec![],
            vec![
                ("a", "b"),
                ("a[1]", "c"),
                ("a.propertyKey", "d"),
                ("árvíztűrő-TÜKÖRFÚRÓGÉP", "ÁRVÍZTŰRŐ-tükörfúrógép"),
            ],
        ),
        (
            "\nENV_HOSTNAME=localhost\nENV_MY_URL=\"http://${ENV_HOSTNAME}\"\n",
            vec![("ENV_HOSTNAME", "host.local")],
            vec![
                ("ENV_HOSTNAME", "localhost"),
                ("ENV_MY_URL", "http://host.local"),
            ],
        ),
    ] {
        assert_eq!(read(text, &caller), Some(pairs(&expected)), "{text:?}");
    }
}

//! Facts of BuildKit's own tests (`frontend/dockerfile/shell`: `envVarTest`, `wordsTest`, `lex_test.go`;
//! `frontend/dockerfile/parser/parser_test.go`).

use std::collections::BTreeMap;

use super::*;

/// A word, and what it becomes with PWD=/home, SHELL=bash, KOREAN=한국어 and an empty NULL; nothing if it is
/// refused.
const WORDS: &[(&str, Option<&str>)] = &[
    ("hello", Some("hello")),
    ("he'll'o", Some("hello")),
    ("he'llo", None),
    (r"he\'llo", Some("he'llo")),
    (r"he\\'llo", None),
    (r"abc\tdef", Some("abctdef")),
    (r#""abc\tdef""#, Some(r"abc\tdef")),
    (r#""abc\\tdef""#, Some(r"abc\tdef")),
    (r"'abc\tdef'", Some(r"abc\tdef")),
    (r"hello\", Some("hello")),
    (r"hello\\", Some(r"hello\")),
    (r#""hello"#, None),
    (r#""hello\""#, None),
    (r#""hel'lo""#, Some("hel'lo")),
    ("'hello", None),
    (r"'hello\'", Some(r"hello\")),
    (r"'hello\there'", Some(r"hello\there")),
    (r"'hello\\there'", Some(r"hello\\there")),
    (r#""''""#, Some("''")),
    ("$.", Some("$.")),
    ("he$1x", Some("hex")),
    ("he$.x", Some("he$.x")),
    ("he$pwd.", Some("he.")),
    ("he$PWD", Some("he/home")),
    (r"he\$PWD", Some("he$PWD")),
    (r"he\\$PWD", Some(r"he\/home")),
    (r#""he\$PWD""#, Some("he$PWD")),
    (r#""he\\$PWD""#, Some(r"he\/home")),
    (r"\${}", Some("${}")),
    (r"\${}aaa", Some("${}aaa")),
    (r"he\${}", Some("he${}")),
    (r"he\${}xx", Some("he${}xx")),
    ("${}", None),
    ("${}aaa", None),
    ("he${}", None),
    ("he${}xx", None),
    ("he${hi}", Some("he")),
    ("he${hi}xx", Some("hexx")),
    ("he${PWD}", Some("he/home")),
    ("he${.}", None),
    ("he${XXX:-000}xx", Some("he000xx")),
    ("he${PWD:-000}xx", Some("he/homexx")),
    ("he${XXX:-$PWD}xx", Some("he/homexx")),
    ("he${XXX:-${PWD:-yyy}}xx", Some("he/homexx")),
    ("he${XXX:-${YYY:-yyy}}xx", Some("heyyyxx")),
    ("he${XXX:YYY}", None),
    ("he${XXX?}", None),
    ("he${XXX:?}", None),
    ("he${PWD?}", Some("he/home")),
    ("he${PWD:?}", Some("he/home")),
    ("he${NULL?}", Some("he")),
    ("he${NULL:?}", None),
    ("he${XXX:+${PWD}}xx", Some("hexx")),
    ("he${PWD:+${XXX}}xx", Some("hexx")),
    ("he${PWD:+${SHELL}}xx", Some("hebashxx")),
    ("he${XXX:+000}xx", Some("hexx")),
    ("he${PWD:+000}xx", Some("he000xx")),
    ("'he${XX}'", Some("he${XX}")),
    (r#""he${PWD}""#, Some("he/home")),
    (r#""he'$PWD'""#, Some("he'/home'")),
    (r#""$PWD""#, Some("/home")),
    ("'$PWD'", Some("$PWD")),
    (r"'\$PWD'", Some(r"\$PWD")),
    (r#"'"hello"'"#, Some(r#""hello""#)),
    (r"he\$PWD", Some("he$PWD")),
    (r#""he\$PWD""#, Some("he$PWD")),
    (r"'he\$PWD'", Some(r"he\$PWD")),
    ("he${PWD", None),
    ("he${PWD:=000}xx", None),
    ("he${PWD:+${PWD}:}xx", Some("he/home:xx")),
    (r"he${XXX:-\$PWD:}xx", Some("he$PWD:xx")),
    (r"he${XXX:-\${PWD}z}xx", Some("he${PWDz}xx")),
    ("안녕하세요", Some("안녕하세요")),
    ("안'녕'하세요", Some("안녕하세요")),
    ("안'녕하세요", None),
    (r"안녕\'하세요", Some("안녕'하세요")),
    (r"안\\'녕하세요", None),
    (r"안녕\t하세요", Some("안녕t하세요")),
    (r#""안녕\t하세요""#, Some(r"안녕\t하세요")),
    (r"'안녕\t하세요", None),
    (r"안녕하세요\", Some("안녕하세요")),
    (r"안녕하세요\\", Some(r"안녕하세요\")),
    (r#""안녕하세요"#, None),
    (r#""안녕하세요\""#, None),
    (r#""안녕'하세요""#, Some("안녕'하세요")),
    ("'안녕하세요", None),
    (r"'안녕하세요\'", Some(r"안녕하세요\")),
    ("안녕$1x", Some("안녕x")),
    ("안녕$.x", Some("안녕$.x")),
    ("안녕$pwd.", Some("안녕.")),
    ("안녕$PWD", Some("안녕/home")),
    (r"안녕\$PWD", Some("안녕$PWD")),
    (r"안녕\\$PWD", Some(r"안녕\/home")),
    (r"안녕\${}", Some("안녕${}")),
    (r"안녕\${}xx", Some("안녕${}xx")),
    ("안녕${}", None),
    ("안녕${}xx", None),
    ("안녕${hi}", Some("안녕")),
    ("안녕${hi}xx", Some("안녕xx")),
    ("안녕${PWD}", Some("안녕/home")),
    ("안녕${.}", None),
    ("안녕${XXX:-000}xx", Some("안녕000xx")),
    ("안녕${PWD:-000}xx", Some("안녕/homexx")),
    ("안녕${XXX:-$PWD}xx", Some("안녕/homexx")),
    ("안녕${XXX:-${PWD:-yyy}}xx", Some("안녕/homexx")),
    ("안녕${XXX:-${YYY:-yyy}}xx", Some("안녕yyyxx")),
    ("안녕${XXX:YYY}", None),
    ("안녕${XXX:+${PWD}}xx", Some("안녕xx")),
    ("안녕${PWD:+${XXX}}xx", Some("안녕xx")),
    ("안녕${PWD:+${SHELL}}xx", Some("안녕bashxx")),
    ("안녕${XXX:+000}xx", Some("안녕xx")),
    ("안녕${PWD:+000}xx", Some("안녕000xx")),
    ("'안녕${XX}'", Some("안녕${XX}")),
    (r#""안녕${PWD}""#, Some("안녕/home")),
    (r#""안녕'$PWD'""#, Some("안녕'/home'")),
    (r#"'"안녕"'"#, Some(r#""안녕""#)),
    (r"안녕\$PWD", Some("안녕$PWD")),
    (r#""안녕\$PWD""#, Some("안녕$PWD")),
    (r"'안녕\$PWD'", Some(r"안녕\$PWD")),
    ("안녕${PWD", None),
    ("안녕${PWD:=000}xx", None),
    ("안녕${PWD:+${PWD}:}xx", Some("안녕/home:xx")),
    (r"안녕${XXX:-\$PWD:}xx", Some("안녕$PWD:xx")),
    (r"안녕${XXX:-\${PWD}z}xx", Some("안녕${PWDz}xx")),
    ("$KOREAN", Some("한국어")),
    ("안녕$KOREAN", Some("안녕한국어")),
    ("${{aaa}", None),
    ("${aaa}}", Some("}")),
    ("${aaa", None),
    ("${{aaa:-bbb}", None),
    ("${aaa:-bbb}}", Some("bbb}")),
    ("${aaa:-bbb", None),
    ("${aaa:-bbb}", Some("bbb")),
    ("${aaa:-${bbb:-ccc}}", Some("ccc")),
    ("${aaa:-bbb ${foo}", None),
    ("${aaa:-bbb {foo}", Some("bbb {foo")),
    ("${:}", None),
    ("${:-bbb}", None),
    ("${:+bbb}", None),
    ("$1", Some("")),
    ("${1}", Some("")),
    ("${1:+bbb}", Some("")),
    ("${1:-bbb}", Some("bbb")),
    ("$2", Some("")),
    ("${2}", Some("")),
    ("${2:+bbb}", Some("")),
    ("${2:-bbb}", Some("bbb")),
    ("$3", Some("")),
    ("${3}", Some("")),
    ("${3:+bbb}", Some("")),
    ("${3:-bbb}", Some("bbb")),
    ("$4", Some("")),
    ("${4}", Some("")),
    ("${4:+bbb}", Some("")),
    ("${4:-bbb}", Some("bbb")),
    ("$5", Some("")),
    ("${5}", Some("")),
    ("${5:+bbb}", Some("")),
    ("${5:-bbb}", Some("bbb")),
    ("$6", Some("")),
    ("${6}", Some("")),
    ("${6:+bbb}", Some("")),
    ("${6:-bbb}", Some("bbb")),
    ("$7", Some("")),
    ("${7}", Some("")),
    ("${7:+bbb}", Some("")),
    ("${7:-bbb}", Some("bbb")),
    ("$8", Some("")),
    ("${8}", Some("")),
    ("${8:+bbb}", Some("")),
    ("${8:-bbb}", Some("bbb")),
    ("$9", Some("")),
    ("${9}", Some("")),
    ("${9:+bbb}", Some("")),
    ("${9:-bbb}", Some("bbb")),
    ("$999", Some("")),
    ("${999}", Some("")),
    ("${999:+bbb}", Some("")),
    ("${999:-bbb}", Some("bbb")),
    ("$999aaa", Some("aaa")),
    ("${999}aaa", Some("aaa")),
    ("${999:+bbb}aaa", Some("aaa")),
    ("${999:-bbb}aaa", Some("bbbaaa")),
    ("$001", Some("")),
    ("${001}", Some("")),
    ("${001:+bbb}", Some("")),
    ("${001:-bbb}", Some("bbb")),
    ("$001aaa", Some("aaa")),
    ("${001}aaa", Some("aaa")),
    ("${001:+bbb}aaa", Some("aaa")),
    ("${001:-bbb}aaa", Some("bbbaaa")),
    ("$@", Some("")),
    ("${@}", Some("")),
    ("${@:+bbb}", Some("")),
    ("${@:-bbb}", Some("bbb")),
    ("$@@@", Some("@@")),
    ("$@aaa", Some("aaa")),
    ("${@}aaa", Some("aaa")),
    ("${@:+bbb}aaa", Some("aaa")),
    ("${@:-bbb}aaa", Some("bbbaaa")),
    ("$*", Some("")),
    ("${*}", Some("")),
    ("${*:+bbb}", Some("")),
    ("${*:-bbb}", Some("bbb")),
    ("$#", Some("")),
    ("${#}", Some("")),
    ("${#:+bbb}", Some("")),
    ("${#:-bbb}", Some("bbb")),
    ("$?", Some("")),
    ("${?}", Some("")),
    ("${?:+bbb}", Some("")),
    ("${?:-bbb}", Some("bbb")),
    ("$-", Some("")),
    ("${-}", Some("")),
    ("${-:+bbb}", Some("")),
    ("${-:-bbb}", Some("bbb")),
    ("$$", Some("")),
    ("${$}", Some("")),
    ("${$:+bbb}", Some("")),
    ("${$:-bbb}", Some("bbb")),
    ("$!", Some("")),
    ("${!}", Some("")),
    ("${!:+bbb}", Some("")),
    ("${!:-bbb}", Some("bbb")),
    ("$0", Some("")),
    ("${0}", Some("")),
    ("${0:+bbb}", Some("")),
    ("${0:-bbb}", Some("bbb")),
];

type Row = (
    &'static str,
    &'static [(&'static str, &'static str)],
    Option<&'static str>,
);

/// A word, variables, and what it becomes.
const WITH_VARIABLES: &[Row] = &[
    ("x", &[("DUMMY", "dummy")], Some("x")),
    ("x ${UNUSED}", &[("DUMMY", "dummy")], Some("x ")),
    ("x ${FOO}", &[("FOO", "y")], Some("x y")),
    (
        "${FOO-aaa} ${BAR-bbb} ${BAZ-ccc}",
        &[("FOO", "xxx"), ("BAR", "")],
        Some("xxx  ccc"),
    ),
    (
        "${FOO:-aaa} ${BAR:-bbb} ${BAZ:-ccc}",
        &[("FOO", "xxx"), ("BAR", "")],
        Some("xxx bbb ccc"),
    ),
    ("${FOO:-}", &[("FOO", "xxx"), ("BAR", "")], Some("xxx")),
    ("${FOO:-}", &[], Some("")),
    (
        "${FOO+aaa} ${BAR+bbb} ${BAZ+ccc}",
        &[("FOO", "xxx"), ("BAR", "")],
        Some("aaa bbb "),
    ),
    (
        "${FOO:+aaa} ${BAR:+bbb} ${BAZ:+ccc}",
        &[("FOO", "xxx"), ("BAR", "")],
        Some("aaa  "),
    ),
    ("${FOO?aaa}", &[("FOO", "xxx"), ("BAR", "")], Some("xxx")),
    ("${BAR?bbb}", &[("FOO", "xxx"), ("BAR", "")], Some("")),
    ("${BAZ?ccc}", &[("FOO", "xxx"), ("BAR", "")], None),
    ("${FOO:?aaa}", &[("FOO", "xxx"), ("BAR", "")], Some("xxx")),
    ("${BAR:?bbb}", &[("FOO", "xxx"), ("BAR", "")], None),
    ("${BAZ:?ccc}", &[("FOO", "xxx"), ("BAR", "")], None),
    ("${BAZ:?}", &[("FOO", "xxx"), ("BAR", "")], None),
    ("${FOO=aaa}", &[("FOO", "xxx"), ("BAR", "")], None),
    ("${FOO=:aaa}", &[("FOO", "xxx"), ("BAR", "")], None),
    ("${FOO=}", &[], None),
    ("${FOO:#}", &[], None),
    ("${FOO:##}", &[], None),
    ("${FOO:%}", &[], None),
    ("${FOO:%%}", &[], None),
];

fn among<'a>(variables: &'a BTreeMap<&str, &str>) -> impl Fn(&str) -> Variable + use<'a> {
    move |name| match variables.get(name) {
        Some(value) => Variable::Set((*value).to_owned()),
        None => Variable::Unset,
    }
}

#[test]
fn words_become_what_buildkit_makes_of_them() {
    let variables = [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("NULL", ""),
    ];
    let variables = BTreeMap::from(variables);
    for (word, expected) in WORDS {
        let expected = expected.map(str::to_owned).ok_or(Problem::Refused);
        assert_eq!(expand(word, '\\', &among(&variables)), expected, "{word}");
    }
    for (word, variables, expected) in WITH_VARIABLES {
        let variables = variables.iter().copied().collect();
        let expected = expected.map(str::to_owned).ok_or(Problem::Refused);
        assert_eq!(expand(word, '\\', &among(&variables)), expected, "{word}");
    }
}

/// Engines before 27 refuse patterns.
#[test]
fn patterns_in_variables_are_not_decided() {
    for word in [
        "${FOO#x}",
        "${FOO##*x}",
        "${FOO%}",
        "${FOO%%x}",
        "${FOO/a/b}",
        "${FOO//a/b}",
        "a\"${FOO#x}\"",
    ] {
        let variables = BTreeMap::from([("FOO", "xxyy")]);
        let found = expand(word, '\\', &among(&variables));
        assert_eq!(found, Err(Problem::Unknown), "{word}");
    }
    // What is refused by all stays refused.
    for word in ["${FOO:#}", "${FOO:##}", "${FOO:%}", "${FOO:%%}"] {
        let found = expand(word, '\\', &|_| Variable::Unset);
        assert_eq!(found, Err(Problem::Refused), "{word}");
    }
}

#[test]
fn what_only_the_engine_knows_is_not_decided() {
    let found = |word| {
        expand(word, '\\', &|name| match name {
            "KNOWN" => Variable::Set("k".to_owned()),
            _ => Variable::Unknown,
        })
    };
    assert_eq!(found("a-${KNOWN:-$OTHER}"), Err(Problem::Unknown));
    assert_eq!(found("a-${OTHER:-b}"), Err(Problem::Unknown));
    assert_eq!(found("a-$KNOWN"), Ok("a-k".to_owned()));
    assert_eq!(found("'$OTHER'"), Ok("$OTHER".to_owned()));
}

#[test]
fn values_are_split_unless_they_are_quoted() {
    let variables = [
        ("hi", "hi"),
        ("space", "abc  def"),
        ("leading", "  ab c"),
        ("trailing", "ab c   "),
    ];
    let variables = BTreeMap::from(variables);
    let rows: [(&str, Option<&[&str]>); 19] = [
        ("hello", Some(&["hello"])),
        ("hello${other}bye", Some(&["hellobye"])),
        ("hello${hi}bye", Some(&["hellohibye"])),
        ("hello${space}bye", Some(&["helloabc", "defbye"])),
        ("hello\"${space}\"bye", Some(&["helloabc  defbye"])),
        ("hello \"${space}\"bye", Some(&["hello", "abc  defbye"])),
        ("hello${leading}def", Some(&["hello", "ab", "cdef"])),
        ("hello\"${leading}\" def", Some(&["hello  ab c", "def"])),
        ("hello${trailing}", Some(&["helloab", "c"])),
        ("hello${trailing}d", Some(&["helloab", "c", "d"])),
        ("hello\"${trailing}\"d", Some(&["helloab c   d"])),
        ("hello\" there  \"", Some(&["hello there  "])),
        ("hello there", Some(&["hello", "there"])),
        (r"hello\ there", Some(&["hello there"])),
        ("hello\" there", None),
        (r#"hello\" there"#, Some(&["hello\"", "there"])),
        (r#"hello"\\there""#, Some(&[r"hello\there"])),
        (r"hello'\\there'", Some(&[r"hello\\there"])),
        ("hello'$there'", Some(&["hello$there"])),
    ];
    for (text, expected) in rows {
        let expected = expected
            .map(|words| words.iter().map(|word| (*word).to_owned()).collect())
            .ok_or(Problem::Refused);
        let variables = among(&variables);
        let mut lexer = Lexer::new(text, '\\', &variables);
        let found = lexer.until(None, false).map(Lexed::words);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn words_keep_their_quotes() {
    let rows: [(&str, &[&str]); 8] = [
        ("foo", &["foo"]),
        ("foo bar", &["foo", "bar"]),
        (r"foo\ bar", &[r"foo\ bar"]),
        ("foo=bar", &["foo=bar"]),
        ("foo bar 'abc xyz'", &["foo", "bar", "'abc xyz'"]),
        (r#"foo bar "abc xyz""#, &["foo", "bar", r#""abc xyz""#]),
        ("àöû", &["àöû"]),
        (r#"föo bàr "âbc xÿz""#, &["föo", "bàr", r#""âbc xÿz""#]),
    ];
    for (text, expected) in rows {
        assert_eq!(quoted_words(text, '\\'), expected, "{text}");
    }
}

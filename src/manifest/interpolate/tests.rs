use super::{Dialect, Problem, Rule, expand};

fn run(template: &str) -> Result<String, Vec<Problem>> {
    run_as(Dialect::Manifest, template)
}

fn run_as(dialect: Dialect, template: &str) -> Result<String, Vec<Problem>> {
    expand(template, dialect, &|name| match name {
        "A" => Some("a".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    })
}

#[test]
fn each_operator_does_as_compose_does() {
    for (template, expected) in [
        ("${A}", "a"),
        ("x${A}y${A}", "xaya"),
        ("${EMPTY}", ""),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NONE:-d}", "d"),
        ("${NONE-d}", "d"),
        ("${NONE:-}", ""),
        ("${A:-d}", "a"),
        ("${A:+r}", "r"),
        ("${EMPTY:+r}", ""),
        ("${EMPTY+r}", "r"),
        ("${NONE+r}", ""),
        ("${A:?no}", "a"),
        ("${EMPTY?no}", ""),
        ("${NONE:-${A}}", "a"),
        ("${NONE:-x${NONE:-y}z}", "xyz"),
        ("${A:-${NONE}}", "a"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$A", "$A"),
        ("a$", "a$"),
        ("([0-9.]+)$", "([0-9.]+)$"),
        ("$1 $.", "$1 $."),
        ("}", "}"),
    ] {
        assert_eq!(run(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn problems_say_where_and_what() {
    for (template, rule, at) in [
        ("x${NONE}", Rule::UnsetVariable, 1..8),
        ("${NONE:?why}", Rule::UnsetVariable, 0..12),
        ("${EMPTY:?why}", Rule::UnsetVariable, 0..13),
        ("${NONE:-${GONE}}", Rule::UnsetVariable, 8..15),
        ("$A", Rule::VariableSyntax, 0..2),
        ("${", Rule::VariableSyntax, 0..2),
        ("${A", Rule::VariableSyntax, 0..3),
        ("${}", Rule::VariableSyntax, 0..3),
        ("${1}", Rule::VariableSyntax, 0..4),
        ("${A!}", Rule::VariableSyntax, 0..5),
        ("${A:-b", Rule::VariableSyntax, 0..6),
        ("${A:-$B}", Rule::VariableSyntax, 5..7),
    ] {
        let problems = run(template).expect_err(template);
        let [problem] = &problems[..] else {
            panic!("{template}: {problems:?}");
        };
        assert_eq!((problem.rule, problem.at.clone()), (rule, at), "{template}");
    }
}

#[test]
fn all_variables_that_are_not_set_are_found_at_once() {
    let template = "${NONE}-${A:+${GONE:?why}}-${A:-${LOST}}-${NONE:-${MISSED}${A}}";
    let problems = run(template).expect_err("most are not set");
    let named: Vec<_> = problems
        .iter()
        .map(|problem| &template[problem.at.clone()])
        .collect();
    assert_eq!(named, ["${NONE}", "${GONE:?why}", "${MISSED}"]);
}

#[test]
fn env_files_need_no_braces() {
    for (template, expected) in [
        ("$A", "a"),
        ("x$A-$A.", "xa-a."),
        ("${NONE:-$A}", "a"),
        ("$$A", "$A"),
        ("$1", "$1"),
    ] {
        let expanded = run_as(Dialect::EnvFile, template);
        assert_eq!(expanded.as_deref(), Ok(expected), "{template}");
    }
    let problems = run_as(Dialect::EnvFile, "a$NONE").expect_err("NONE is not set");
    assert_eq!(problems[0].rule, Rule::UnsetVariable);
    assert_eq!(problems[0].at, 1..6);
    let expanded = run_as(Dialect::LenientEnvFile, "a$NONE${NONE}b${NONE-c}");
    assert_eq!(expanded.as_deref(), Ok("abc"));
    assert!(run_as(Dialect::LenientEnvFile, "${NONE?}").is_err());
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth| format!("{}{}", "${NONE:-".repeat(depth), "}".repeat(depth));
    assert_eq!(run(&nested(32)).as_deref(), Ok(""));
    let problems = run(&nested(200_000)).expect_err("it is too deep");
    assert_eq!(problems[0].rule, Rule::VariableSyntax);
}

#[test]
fn a_required_variable_brings_its_own_words() {
    let problems = run("${TOKEN:?ask the team}").expect_err("TOKEN is not set");
    assert_eq!(
        problems[0].message,
        "the variable `TOKEN` is required: ask the team"
    );
}

/// The rows of compose-go's `template` tests, with its variables: what comes of each, or that it is refused.
const COMPOSE: &[(&str, Option<&str>)] = &[
    ("$${foo}", Some("${foo}")),
    ("foo", Some("foo")),
    ("a $ string", Some("a $ string")),
    ("^REGEX$", Some("^REGEX$")),
    ("$}", Some("$}")),
    ("$", Some("$")),
    ("${", None),
    ("${}", None),
    ("${ }", None),
    ("${ foo}", None),
    ("${foo }", None),
    ("${foo!}", None),
    ("$FOO-bar", Some("first-bar")),
    ("This ${missing} var", Some("This  var")),
    ("This ${BAR} var", Some("This  var")),
    ("This $FOO var", Some("This first var")),
    ("This ${FOO} var", Some("This first var")),
    ("ok ${missing:-def}", Some("ok def")),
    ("ok ${missing-def}", Some("ok def")),
    ("${A:+${A},}B", Some("B")),
    ("${A:-${B}}", Some("")),
    ("${FOO?${B}}", Some("first")),
    ("ok ${BAR:-def}", Some("ok def")),
    ("ok ${FOO:-def}", Some("ok first")),
    ("ok ${BAR-def}", Some("ok ")),
    ("ok ${UNSET_VAR:+presence_value}", Some("ok ")),
    ("ok ${UNSET_VAR+presence_value}", Some("ok ")),
    ("ok ${FOO:+presence_value}", Some("ok presence_value")),
    ("ok ${FOO+presence_value}", Some("ok presence_value")),
    ("ok ${BAR+presence_value}", Some("ok presence_value")),
    ("ok ${BAR:+presence_value}", Some("ok ")),
    (
        "ok ${BAR:-/non:-alphanumeric}",
        Some("ok /non:-alphanumeric"),
    ),
    ("-ok ${BAR:-defaultValue}", Some("-ok defaultValue")),
    ("+ok ${UNSET:-${BAR-defaultValue}}", Some("+ok ")),
    ("-ok ${FOO:-defaultValue}", Some("-ok first")),
    (":-ok ${UNSET-defaultValue}", Some(":-ok defaultValue")),
    (":-ok ${BAR-defaultValue}", Some(":-ok ")),
    (":?ok ${BAR-defaultValue}", Some(":?ok ")),
    (":?ok ${BAR:-defaultValue}", Some(":?ok defaultValue")),
    (":+ok ${BAR:-defaultValue}", Some(":+ok defaultValue")),
    ("+ok ${BAR-defaultValue}", Some("+ok ")),
    ("?ok ${BAR:-defaultValue}", Some("?ok defaultValue")),
    ("ok ${UNSET_VAR-$FOO}", Some("ok first")),
    ("ok ${UNSET_VAR-${FOO}}", Some("ok first")),
    ("ok ${UNSET_VAR-${FOO} ${FOO}}", Some("ok first first")),
    ("ok ${BAR:-$FOO}", Some("ok first")),
    ("ok ${BAR:-${FOO}}", Some("ok first")),
    ("ok ${BAR:-${FOO} ${FOO}}", Some("ok first first")),
    ("ok ${BAR+$FOO}", Some("ok first")),
    ("ok ${BAR+$FOO ${FOO:+second}}", Some("ok first second")),
    ("not ok ${UNSET_VAR:?Mandatory Variable Unset}", None),
    ("not ok ${BAR:?Mandatory Variable Empty}", None),
    ("not ok ${UNSET_VAR:?}", None),
    ("not ok ${UNSET_VAR?Mandatory Variable Unset}", None),
    ("not ok ${UNSET_VAR?}", None),
    ("not ok ${UNSET_VAR:?Mandatory Variable ${FOO}}", None),
    ("not ok ${UNSET_VAR?Mandatory Variable ${FOO}}", None),
    ("ok ${FOO:?err}", Some("ok first")),
    ("ok ${FOO?err}", Some("ok first")),
    ("ok ${BAR?err}", Some("ok ")),
    ("ok ${SUBDOMAIN:-redis}.${FOO:?}", Some("ok redis.first")),
    ("${UNSET_VAR?bar-baz}", None),
    ("${UNSET_VAR-myerror?msg}", Some("myerror?msg")),
    ("${FOO?bar-baz}", Some("first")),
    (
        "${BAR:-default_value_for_empty_var}",
        Some("default_value_for_empty_var"),
    ),
    (
        "${UNSET_VAR-default_value_for_unset_var}",
        Some("default_value_for_unset_var"),
    ),
    // Of several operators, the first counts.
    ("${VARNAME:?val?ue}", None),
    ("${VARNAME?val:?ue}", None),
    ("${VARNAME?va-lu+e:?e}", None),
    ("${VARNAME?va+lu-e:?e}", None),
    ("${VARNAME:-value}", Some("value")),
    ("${VARNAME-va:-lu:?e}", Some("va:-lu:?e")),
    ("${VARNAME-va+lu?e}", Some("va+lu?e")),
    ("${VARNAME-va?lu+e}", Some("va?lu+e")),
    ("${FOO:+va:?lu:-e}", Some("va:?lu:-e")),
    ("${FOO+va:+lue}", Some("va:+lue")),
    ("${FOO+va?lu-e}", Some("va?lu-e")),
    ("${FOO+va-lu?e}", Some("va-lu?e")),
    (r#"ok ${missing:-{"json":1}}"#, Some(r#"ok {"json":1}"#)),
    (r#"ok ${missing-{"json":1}}"#, Some(r#"ok {"json":1}"#)),
    (r#"ok ${JSON:-{"json":1}}"#, Some(r#"ok {"json":2}"#)),
    (r#"ok ${JSON-{"json":1}}"#, Some(r#"ok {"json":2}"#)),
];

fn of_compose(name: &str) -> Option<String> {
    let value = match name {
        "FOO" => "first",
        "BAR" => "",
        "JSON" => r#"{"json":2}"#,
        _ => return None,
    };
    Some(value.to_owned())
}

#[test]
fn templates_are_read_as_compose_reads_them() {
    for (template, expected) in COMPOSE {
        let expanded = expand(template, Dialect::LenientEnvFile, &of_compose);
        assert_eq!(expanded.as_deref().ok(), *expected, "{template}");
    }
    let text = "not ok ${UNSET_VAR:?Mandatory Variable ${FOO}}";
    let problem = expand(text, Dialect::LenientEnvFile, &of_compose)
        .unwrap_err()
        .remove(0);
    assert_eq!(
        problem.message,
        "the variable `UNSET_VAR` is required: Mandatory Variable first"
    );
}

/// In `jobs.yaml`, a variable that is not set is an error, and one without braces.
#[test]
fn jobs_yaml_differs_from_compose_in_two_things() {
    for (template, expected) in COMPOSE {
        let expanded = expand(template, Dialect::Manifest, &of_compose);
        if expanded.as_deref().ok() == *expected {
            continue;
        }
        let problem = &expanded.unwrap_err()[0];
        let is_known = template.contains("$FOO") && problem.rule == Rule::VariableSyntax
            || problem.message.ends_with("is not set");
        assert!(is_known, "{template}: {}", problem.message);
    }
}

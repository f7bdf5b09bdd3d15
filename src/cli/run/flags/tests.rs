use super::{capability, name, variable};
use crate::model::Restart;

/// The rows of docker/cli's `TestNormalizeCapability`.
#[test]
fn capabilities_are_named_as_engines_name_them() {
    for (text, expected) in [
        ("ALL", "ALL"),
        ("FOO", "CAP_FOO"),
        ("CAP_FOO", "CAP_FOO"),
        ("CAPFOO", "CAP_CAPFOO"),
        ("aLl", "ALL"),
        ("foO", "CAP_FOO"),
        ("cAp_foO", "CAP_FOO"),
        ("  ALL  ", "ALL"),
        ("  FOO  ", "CAP_FOO"),
        ("  CAP_FOO  ", "CAP_FOO"),
        (" \t ALL \t ", "ALL"),
        (" \t FOO \t ", "CAP_FOO"),
        (" \t CAP_FOO \t ", "CAP_FOO"),
        ("SOME CAP", "CAP_SOME CAP"),
        ("_FOO", "CAP__FOO"),
    ] {
        assert_eq!(capability(text).unwrap(), expected, "{text:?}");
    }
    for text in ["", " \t "] {
        assert!(capability(text).is_err(), "{text:?}");
    }
}

/// The rows of docker/cli's `TestValidateEnv`; a name with a blank in it is refused, as in docker's env files.
#[test]
fn variables_are_read_as_docker_reads_them() {
    for (text, expected) in [
        ("a", Some(("a", None))),
        ("something", Some(("something", None))),
        ("_=a", Some(("_", Some("a")))),
        ("env1=value1", Some(("env1", Some("value1")))),
        ("_env1=value1", Some(("_env1", Some("value1")))),
        ("env2=value2=value3", Some(("env2", Some("value2=value3")))),
        ("env3=abc!qwe", Some(("env3", Some("abc!qwe")))),
        ("env_4=value 4", Some(("env_4", Some("value 4")))),
        ("PATH", Some(("PATH", None))),
        ("=a", None),
        ("PATH=", Some(("PATH", Some("")))),
        ("PATH=something", Some(("PATH", Some("something")))),
        ("asd!qwe", Some(("asd!qwe", None))),
        ("1asd", Some(("1asd", None))),
        ("123", Some(("123", None))),
        ("=", None),
        // docker takes these.
        ("some space", None),
        ("  some space before", None),
        ("some space after  ", None),
    ] {
        let read = variable(text).ok();
        let read = read.as_ref().map(|(name, value)| {
            let value = value.as_ref().map(crate::model::Secret::expose);
            (name.as_str(), value)
        });
        assert_eq!(read, expected, "{text:?}");
    }
}

/// The rows of docker/cli's `TestParseRestartPolicy`; what its client leaves to the engine, which refuses it, is
/// refused at once.
#[test]
fn restart_policies_are_read_as_docker_reads_them() {
    for (text, is_taken) in [
        ("", true),
        ("no", true),
        (":1", false),
        ("always", true),
        ("always:2:3", false),
        ("on-failure:1", true),
        ("on-failure:invalid", false),
        ("unless-stopped", true),
        ("unless-stopped:invalid", false),
        ("anything:123", false),
        ("negative:-123", false),
    ] {
        assert_eq!(text.parse::<Restart>().is_ok(), is_taken, "{text}");
    }
}

#[test]
fn names_are_those_that_engines_take() {
    for (text, is_taken) in [
        ("ab", true),
        ("a.b-c_D", true),
        ("a", false),
        ("-a", false),
        ("a b", false),
    ] {
        assert_eq!(name(text).is_ok(), is_taken, "{text}");
    }
}

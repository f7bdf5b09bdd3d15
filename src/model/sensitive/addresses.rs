//! Addresses (RFC 3986) within texts, without what may let one in.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::{ADDRESS, apart, compiled, starred};

/// The user, and the password if there is one.
static USER: LazyLock<Regex> =
    LazyLock::new(|| compiled(r#"(?<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?<user>[^\s/?#"'`<>]+)@"#));
/// What is asked for, which may be a signature or a token.
static QUERY: LazyLock<Regex> =
    LazyLock::new(|| compiled(r#"[A-Za-z][A-Za-z0-9+.-]*://[^\s?"'`<>]+\?(?<query>[^\s#"'`<>]+)"#));

/// A text in which no address has a user or a password: a token may be given as either. Users of ssh log in by
/// their keys, and stay.
#[must_use]
pub fn without_users(text: &str) -> Cow<'_, str> {
    starred(text, apart(text, users(text)))
}

/// A text in which no address has a query, either.
#[must_use]
pub fn without_access(text: &str) -> Cow<'_, str> {
    let mut spans = users(text);
    let queries = QUERY.captures_iter(text);
    spans.extend(queries.filter_map(|found| Some(found.name("query")?.range())));
    starred(text, apart(text, spans))
}

fn users(text: &str) -> Vec<Range<usize>> {
    let known = ADDRESS.captures_iter(text);
    let known = known.filter_map(|found| found.name("secret").or_else(|| found.name("user")));
    let others = USER.captures_iter(text).filter_map(|found| {
        let is_login = found["scheme"].to_ascii_lowercase().ends_with("ssh");
        found.name("user").filter(|_| !is_login)
    });
    known.chain(others).map(|found| found.range()).collect()
}

#[cfg(test)]
mod tests {
    use super::{without_access, without_users};

    #[test]
    fn nothing_in_an_address_lets_anybody_in() {
        for (text, without_user, without) in [
            (
                "[2/2] ADD http://u:CANARY@h/f?x=CANARY /f",
                "[2/2] ADD http://***@h/f?x=CANARY /f",
                "[2/2] ADD http://***@h/f?*** /f",
            ),
            (
                "Get \"http://CANARY@h:80/f?x=CANARY#y\": EOF",
                "Get \"http://***@h:80/f?x=CANARY#y\": EOF",
                "Get \"http://***@h:80/f?***#y\": EOF",
            ),
            ("http://u:CAN@ARY@h", "http://***@h", "http://***@h"),
            ("http://u:CAN/ARY@h", "http://u:***@h", "http://u:***@h"),
            (
                "U=https://CANARY@h/f",
                "U=https://***@h/f",
                "U=https://***@h/f",
            ),
            ("ssh://git@h/r?x", "ssh://git@h/r?x", "ssh://git@h/r?***"),
            (
                "ssh://git:CANARY@h/r",
                "ssh://git:***@h/r",
                "ssh://git:***@h/r",
            ),
            (
                "http://$USER:CANARY@h",
                "http://$USER:***@h",
                "http://$USER:***@h",
            ),
        ] {
            assert_eq!(without_users(text), without_user, "{text}");
            assert_eq!(without_access(text), without, "{text}");
        }
    }

    #[test]
    fn what_lets_nobody_in_stays() {
        for text in [
            "",
            "FROM docker.io/library/a:1@sha256:0",
            "git@h:r.git",
            "https://h.example:80/r@x",
            "http://$TOKEN@h/f",
            "http://${U}:${P}@h/f?$QUERY",
            "RUN a? b://c d?e",
            "://@?",
        ] {
            assert_eq!(without_access(text), text);
        }
    }
}

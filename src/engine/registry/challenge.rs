//! What a registry wants to see before it answers.

use hyper::Method;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Credentials;
use super::http::{Answer, Ask};

/// What stands in `WWW-Authenticate` (RFC 9110, 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token, from there.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// The first one of an answer that is known.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        let challenges = answer.headers.get_all(WWW_AUTHENTICATE).iter();
        let mut texts = challenges.filter_map(|value| value.to_str().ok());
        texts.find_map(Self::parse)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameter = |name: &str| {
            let parameters = parameters(rest);
            let found = parameters.into_iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value)
        };
        Some(Self::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
        })
    }
}

/// `name="value"` by commas; a value may have commas in it.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        let name = name.trim().trim_start_matches(',').trim();
        parameters.push((name.to_ascii_lowercase(), value.to_owned()));
        text = rest;
    }
    parameters
}

/// The request for a token: an identity token is exchanged for it.
pub(super) fn token_request(
    path: &str,
    service: Option<&str>,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Ask {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let service = service.map(|service| ("service", escaped(service)));
    let is_identity = credentials.is_some_and(|credentials| credentials.user.is_none());
    let Some(credentials) = credentials.filter(|_| is_identity) else {
        let scopes = scope.split(' ').map(|scope| ("scope", escaped(scope)));
        let fields: Vec<_> = scopes.chain(service).collect();
        let mark = if path.contains('?') { '&' } else { '?' };
        let ask = Ask::new(Method::GET, format!("{path}{mark}{}", joined(&fields)));
        return match credentials {
            Some(credentials) => ask.secret_header(AUTHORIZATION, credentials.basic()),
            None => ask,
        };
    };
    let mut fields = vec![("scope", escaped(scope))];
    fields.extend(service);
    fields.push(("grant_type", "refresh_token".to_owned()));
    fields.push(("client_id", "jobctl".to_owned()));
    fields.push(("refresh_token", escaped(credentials.secret.expose())));
    Ask::new(Method::POST, path.to_owned())
        .header(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        )
        .body(joined(&fields))
}

fn joined(fields: &[(&str, String)]) -> String {
    let fields = fields.iter().map(|(name, value)| format!("{name}={value}"));
    fields.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_apart() {
        let bearer = |realm: &str, service: Option<&str>| {
            let service = service.map(str::to_owned);
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service,
            })
        };
        for (text, expected) in [
            (r#"Basic realm="Registry""#, Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                r#"bearer service="a,b", scope="repository:x:pull,push",realm="http://t/""#,
                bearer("http://t/", Some("a,b")),
            ),
            ("Bearer realm=http://t/,error=x", bearer("http://t/", None)),
            ("Bearer service=x", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }
}

//! What a secret is: by its name, by its form, and where it is in a text.
//!
//! Everything that keeps or shows what users give asks here: records, command lines, cache keys,
//! checks of the manifest, exports, dry runs, build arguments.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

mod addresses;
mod names;

pub use addresses::{without_access, without_users};
pub use names::is_secret_name;
use names::{is_claim, is_plain};

/// What is shown in place of a secret.
pub const STARS: &str = "***";

/// Forms that the values of secrets have, as those who give them out publish them.
const FORMS: [&str; 42] = [
    // PEM (RFC 7468) and what looks like it, PuTTY, age.
    r"-----BEGIN (?:(?:DSA|EC|ENCRYPTED|OPENSSH|PGP|RSA|SSH2 ENCRYPTED) )?(?:PRIVATE |SECRET )?KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z0-9 ]*-----|\z)",
    r"PuTTY-User-Key-File-[0-9]: [\s\S]*",
    r"AGE-SECRET-KEY-1[0-9A-Z]{20,}",
    // JSON Web Tokens and encryption (RFC 7519, RFC 7516).
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){0,2}",
    // Code and packages.
    r"\bgh[opsur]_[A-Za-z0-9]{16,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bgl(?:agent|cbt|dt|ft|imt|oas|pat|ptt|rt|soat)-[A-Za-z0-9_-]{16,}",
    r"\bATBB[A-Za-z0-9]{24,}",
    r"\bnpm_[A-Za-z0-9]{30,}",
    r"\bpypi-[A-Za-z0-9_-]{30,}",
    r"\brubygems_[0-9a-f]{40,}",
    r"\bdckr_[op]at_[A-Za-z0-9_-]{20,}",
    // Clouds.
    r"\b(?:A3T[A-Z0-9]|ABIA|ACCA|AGPA|AIDA|AKIA|ANPA|AROA|ASIA)[A-Z0-9]{16}\b",
    r"\bAIza[0-9A-Za-z_-]{35}",
    r"\bGOCSPX-[A-Za-z0-9_-]{20,}",
    r"\bya29\.[A-Za-z0-9_-]{20,}",
    r"\bdo[opr]_v1_[0-9a-f]{40,}",
    r"\bdapi[0-9a-f]{32}",
    r"\bhv[bsr]\.[A-Za-z0-9_-]{20,}",
    r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{40,}",
    r"\bglsa_[A-Za-z0-9_]{32,}",
    r"\bNRAK-[A-Z0-9]{27}",
    // Models and data.
    r"\bhf_[A-Za-z0-9]{16,}",
    r"\bapi_org_[A-Za-z0-9]{30,}",
    r"\bsk-[A-Za-z0-9]{20,}",
    r"\bsk-(?:admin|ant|lf|or|proj|svcacct)-[A-Za-z0-9_-]{16,}",
    r"\br8_[A-Za-z0-9]{30,}",
    r"\bgsk_[A-Za-z0-9]{20,}",
    r"\bnvapi-[A-Za-z0-9_-]{20,}",
    r"\bpplx-[A-Za-z0-9]{30,}",
    r"\bntn_[A-Za-z0-9]{40,}",
    // Money, mail, messages.
    r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    r"\bwhsec_[A-Za-z0-9+/=]{16,}",
    r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"\bSK[0-9a-f]{32}\b",
    r"\bkey-[0-9a-f]{32}\b",
    r"\bshp(?:at|ca|pa|ss)_[0-9a-f]{32}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\bxapp-[0-9]-[A-Za-z0-9-]{10,}",
    r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",
    r"https://hooks\.slack\.com/[A-Za-z0-9_/-]{10,}",
    r"https://[a-z0-9.-]*(?:discord(?:app)?\.com/api/webhooks|webhook\.office\.com)/[A-Za-z0-9_/@.-]{10,}",
];

static FORM: LazyLock<Regex> = LazyLock::new(|| compiled(&FORMS.join("|")));
/// The password of an address (RFC 3986, section 3.2.1), or a user that is as long as a token. What has a
/// `/` is one if it can't be a port.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r#"[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/?#:@\[]*:(?<secret>[^\s/]+|[^\s/"',?#{}]*[^\s/"',?#{}0-9][^\s/"',?#{}]*/[^\s@"']*)@|(?<user>[^\s/?#:@]{20,})@)"#,
    )
});
/// `NAME=value`, `--name=value`, `?name=value&name=value`, up to the value.
static ASSIGNMENT: LazyLock<Regex> =
    LazyLock::new(|| compiled(r#"(?:^|[\s;&|"'(,?{=+~-])(?<name>[A-Za-z_][A-Za-z0-9_.-]*)="#));
/// `--name value` within a text, up to the value.
static FLAG: LazyLock<Regex> =
    LazyLock::new(|| compiled(r#"(?:^|[\s"'])--?(?<name>[A-Za-z][A-Za-z0-9_.-]*)\s+"#));
/// `"name": "value"`, as in JSON and Python, also escaped, up to the value.
static FIELD: LazyLock<Regex> =
    LazyLock::new(|| compiled(r#"\\*["'](?<name>[A-Za-z_][A-Za-z0-9_.-]*)\\*["']\s*:\s*"#));
/// `name: value`, as in YAML, where the value is one word or in quotes. Others are sentences.
static ENTRY: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r#"(?m)(?:^|[{,])[ \t]*(?:-[ \t]+)?(?<name>[A-Za-z_][A-Za-z0-9_.]*):[ \t]+(?<secret>"[^"\n]*"|'[^'\n]*'|[^\s"'\[\]{}&*|>#,$][^\s"',}]*)[ \t]*(?:[,}#\r]|$)"#,
    )
});
/// A line of a `.netrc` file.
static NETRC: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"\blogin\s+\S+\s+password\s+(?<secret>\S+)"));
/// curl's user and password.
static CURL: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r#"\bcurl\b[^\n;|]*?\s(?:-u|--user|-U|--proxy-user)[\s=]+["']?[^\s:"']+:(?<secret>[0-9]*[^\s"'/0-9][^\s"']*)"#,
    )
});
/// A value that a shell puts in: `$NAME`, `${NAME}`, `$(command)`, `$1`. A password may begin with `$`, too.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    compiled(r"^\$(?:[{(]|[0-9@*](?:[^$\w]|$)|[A-Z_][A-Z0-9_]*(?:\W|$)|[a-z_][a-z0-9_]*(?:\W|$))")
});
/// A header (RFC 9110, sections 5 and 11); what is secret follows a scheme.
static HEADER: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r#"(?i)(?:^|[\s"'=])(?<name>authorization|cookie|[a-z0-9]+(?:-[a-z0-9]+)+)\s*:\s*(?:(?:basic|bearer|digest|negotiate|token)\s+)?(?<secret>[^"'\r\n]+)"#,
    )
});
/// What an `Authorization` header has, without its name.
static BEARER: LazyLock<Regex> =
    LazyLock::new(|| compiled(r"(?i)^\s*bearer\s+(?<secret>\S{8,})\s*$"));

fn compiled(expression: &str) -> Regex {
    Regex::new(expression).expect("the expression is valid")
}

/// The value that begins at a place of a text: in quotes, in brackets, or up to what ends a word.
fn value_at(text: &str, start: usize) -> Option<Range<usize>> {
    let rest = &text[start..];
    let escapes = rest.len() - rest.trim_start_matches('\\').len();
    let quote = rest[escapes..]
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''));
    let (skipped, length) = match quote {
        None if rest.starts_with(['[', '{']) => (0, bracketed(rest)),
        None => (0, word(rest)),
        Some(_) if escapes > 0 => {
            let quote = &rest[..=escapes];
            let inner = &rest[quote.len()..];
            let mut ends = inner.match_indices(quote).map(|(at, _)| at);
            let end = ends.find(|at| !inner[..*at].ends_with('\\'));
            (quote.len(), end.unwrap_or(inner.len()))
        }
        Some(quote) => {
            let mut is_escaped = false;
            let end = rest[1..].find(|c| {
                let is_end = c == quote && !is_escaped;
                is_escaped = c == '\\' && !is_escaped;
                is_end
            });
            (1, end.unwrap_or(rest.len() - 1))
        }
    };
    let value = start + skipped..start + skipped + length;
    (length > 0).then_some(value)
}

/// How long the word is that a text begins with; a blank behind a backslash belongs to it.
fn word(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.find(|c: char| {
        let is_blank = c.is_whitespace() && !(is_escaped && matches!(c, ' ' | '\t'));
        is_escaped = c == '\\' && !is_escaped;
        is_blank || "\"';&|)".contains(c)
    });
    end.unwrap_or(text.len())
}

/// How long the list or object of JSON is that a text begins with.
fn bracketed(text: &str) -> usize {
    let mut depth = 0_usize;
    let end = text.char_indices().find(|(_, c)| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Where the password begins of `user:password`, as `curl --user` takes it. Numbers are ids, and what is short
/// is a group.
fn password_of_user(word: &str) -> Option<usize> {
    let (user, password) = word.split_once(':')?;
    let is_password = !user.is_empty()
        && password.len() > 5
        && password != user
        && !password.starts_with("//")
        && !password.bytes().all(|byte| byte.is_ascii_digit())
        && !REFERENCE.is_match(password);
    is_password.then_some(user.len() + 1)
}

/// What is a secret in a project: what says so by itself, and the names that the project declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sensitive {
    names: BTreeSet<String>,
}

impl Sensitive {
    /// With further names of variables whose values are secrets.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self {
            names: names.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether what has that name is a secret.
    #[must_use]
    pub fn is_name(&self, name: &str) -> bool {
        self.names.contains(name) || is_secret_name(name)
    }

    /// Whether a value is a secret by its form, or holds one.
    #[must_use]
    pub fn is_value(&self, value: &str) -> bool {
        !self.spans(value).is_empty()
    }

    /// Whether a variable is a secret: by its name or by its value's form.
    #[must_use]
    pub fn is_secret(&self, name: &str, value: &str) -> bool {
        self.names_secret(name, value) || self.is_value(value)
    }

    /// Whether a name makes its value a secret, whatever the value's form.
    #[must_use]
    pub fn names_secret(&self, name: &str, value: &str) -> bool {
        let is_claimed = || !value.is_empty() && is_claim(name);
        self.names.contains(name)
            || (is_secret_name(name) || is_claimed()) && !is_plain(name, value)
    }

    /// Where the secrets are in a text: sorted, and apart from each other.
    #[must_use]
    pub fn spans(&self, text: &str) -> Vec<Range<usize>> {
        let mut spans: Vec<_> = FORM.find_iter(text).map(|found| found.range()).collect();
        for form in [&ADDRESS, &HEADER, &BEARER, &NETRC, &CURL] {
            for found in form.captures_iter(text) {
                let secret = found.name("secret").or_else(|| found.name("user"));
                let is_secret = found
                    .name("name")
                    .is_none_or(|name| self.is_name(name.as_str()));
                spans.extend(secret.filter(|_| is_secret).map(|secret| secret.range()));
            }
        }
        let forms = [
            (&ASSIGNMENT, false),
            (&FLAG, true),
            (&FIELD, false),
            (&ENTRY, false),
        ];
        for (form, is_flag) in forms {
            let mut at = 0;
            while let Some(found) = form.captures_at(text, at) {
                let (Some(whole), Some(name)) = (found.get(0), found.name("name")) else {
                    break;
                };
                // The value may itself be `NAME=value`.
                at = name.end();
                let before = text[..name.start()].chars().next_back();
                let name = name.as_str();
                // Some names count only in addresses and connection strings.
                let is_field = name == "sig" && matches!(before, Some('?' | '&'))
                    || name.eq_ignore_ascii_case("pwd") && before == Some(';');
                if !(is_field || self.is_name(name) || is_claim(name)) {
                    continue;
                }
                let value = match found.name("secret") {
                    Some(value) => Some(value.range()),
                    None => value_at(text, whole.end()),
                };
                // Behind a flag without a value is the next flag.
                let value = value.filter(|value| !is_flag || !text[value.clone()].starts_with('-'));
                let Some(value) = value else { continue };
                let content = text[value.clone()].trim_end_matches(['}', ']', ',']);
                if self.names_secret(name, content) || is_field && !is_plain(name, content) {
                    at = value.end;
                    spans.push(value);
                }
            }
        }
        apart(text, spans)
    }

    /// A text with its secrets masked.
    #[must_use]
    pub fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        starred(text, self.spans(text))
    }

    /// The words of a command with their secrets masked; a flag's value may be the next word.
    #[must_use]
    pub fn masked_words(&self, words: &[String]) -> Vec<String> {
        let mut flag: Option<&str> = None;
        let masked = words.iter().map(|word| {
            let before = flag.take().unwrap_or_default();
            let name = before.trim_start_matches('-');
            // `-v` is a flag, `-secret` may be a value.
            let is_flag = word.starts_with("--") || word.starts_with('-') && word.len() < 3;
            let is_given = !word.is_empty() && !is_flag;
            let is_value = is_given && self.is_name(name) && self.names_secret(name, word);
            if word.starts_with('-') && !is_value && !word.contains(['=', ':', ' ']) {
                flag = Some(word);
            }
            let user = if matches!(before, "-u" | "-U" | "--user" | "--proxy-user") {
                password_of_user(word)
            } else {
                let user = word.strip_prefix("--user=");
                user.and_then(password_of_user)
                    .map(|at| "--user=".len() + at)
            };
            match user.or_else(|| self.assigned(word)) {
                _ if is_value => STARS.to_owned(),
                Some(at) => format!("{}{STARS}", &word[..at]),
                None => self.masked(word).into_owned(),
            }
        });
        masked.collect()
    }

    /// What [`Self::masked_words`] stars out.
    #[must_use]
    pub fn secret_words<'a>(&self, words: &'a [String]) -> Vec<&'a str> {
        let masked = self.masked_words(words);
        let pairs = masked.iter().zip(words);
        let secrets = pairs.filter_map(|(shown, word)| starred_out(shown, word));
        secrets.flatten().collect()
    }

    /// Where in a word a secret begins that takes all the rest of it: `NAME=value`, `--env=NAME=value`.
    fn assigned(&self, word: &str) -> Option<usize> {
        let is_name = |name: &str| {
            let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            name.chars().all(is_inner)
        };
        let mut start = 0;
        for (at, _) in word.match_indices('=') {
            let name = word[start..at].trim_start_matches(['-', '+', '~']);
            if !is_name(name) {
                return None;
            }
            start = at + 1;
            let value = &word[start..];
            let is_given = !value.is_empty() && !REFERENCE.is_match(value);
            if is_given && self.names_secret(name, value) {
                return Some(start);
            }
        }
        None
    }

    /// What must not be shown of a secret's value besides the whole: the password in an address.
    #[must_use]
    pub fn parts(&self, value: &str) -> Vec<String> {
        let mut parts = Vec::new();
        for span in self.spans(value) {
            let part = &value[span];
            let plain = percent_encoding::percent_decode_str(part).decode_utf8_lossy();
            if plain != part {
                parts.push(plain.into_owned());
            }
            parts.push(part.to_owned());
        }
        parts.retain(|part| part != value);
        parts
    }
}

/// A program's source with the secrets masked that have a form of their own. What a name says of a value
/// does not count there: `token = tokens[0]`.
#[must_use]
pub fn masked_source(text: &str) -> Cow<'_, str> {
    let mut spans: Vec<_> = FORM.find_iter(text).map(|found| found.range()).collect();
    let addresses = ADDRESS.captures_iter(text);
    let passwords =
        addresses.filter_map(|found| found.name("secret").or_else(|| found.name("user")));
    spans.extend(passwords.map(|secret| secret.range()));
    starred(text, apart(text, spans))
}

/// Spans that are secrets in a text: sorted, and apart from each other.
fn apart(text: &str, mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    // A shell puts the value in, or somebody has taken it out.
    spans.retain(|span| {
        let secret = text[span.clone()].trim_start_matches(['"', '\'']);
        !REFERENCE.is_match(secret) && !secret.chars().all(|letter| letter == '*')
    });
    spans.sort_unstable_by_key(|span| (span.start, span.end));
    spans.dedup_by(|next, before| {
        let overlaps = next.start <= before.end;
        if overlaps {
            before.end = before.end.max(next.end);
        }
        overlaps
    });
    spans
}

fn starred(text: &str, spans: Vec<Range<usize>>) -> Cow<'_, str> {
    if spans.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        masked.push_str(&text[at..span.start]);
        masked.push_str(STARS);
        at = span.end;
    }
    masked.push_str(&text[at..]);
    Cow::Owned(masked)
}

/// What was masked in a word that is shown like that; nothing if it is another.
#[must_use]
pub fn starred_out<'a>(shown: &str, word: &'a str) -> Option<Vec<&'a str>> {
    let mut kept = shown.split(STARS);
    let mut rest = word.strip_prefix(kept.next()?)?;
    let mut secrets = Vec::new();
    let mut kept = kept.peekable();
    while let Some(part) = kept.next() {
        let end = match kept.peek() {
            None => rest.len() - rest.ends_with(part).then_some(part.len())?,
            Some(_) => rest.find(part)?,
        };
        secrets.push(&rest[..end]);
        rest = &rest[end + part.len()..];
    }
    Some(secrets)
}

#[cfg(test)]
mod tests;

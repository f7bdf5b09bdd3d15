//! What a secret is: by its name, by its form, and where it is in a text.
//!
//! Everything that keeps or shows what users give asks here: records, command lines, cache keys,
//! checks of the manifest, exports, dry runs, build arguments.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What is shown in place of a secret.
pub const STARS: &str = "***";

/// Words that say of a name that its value is a secret.
const SECRETS: [&str; 19] = [
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "credentials",
    "creds",
    "dsn",
    "jwt",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "psk",
    "pw",
    "pword",
    "secret",
    "secrets",
    "token",
];
/// Endings of words that are written without a separator: `PGPASSWORD`, `APIKEY`.
const SECRET_ENDINGS: [&str; 12] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "authkey",
    "authtoken",
    "clientsecret",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secretkey",
];
/// What a `KEY` is that is a secret.
const SECRET_KEYS: [&str; 32] = [
    "access",
    "account",
    "anthropic",
    "api",
    "app",
    "auth",
    "azure",
    "client",
    "comet",
    "crypt",
    "decryption",
    "deploy",
    "encryption",
    "gpg",
    "hmac",
    "host",
    "jwt",
    "license",
    "master",
    "openai",
    "pgp",
    "private",
    "rsa",
    "secret",
    "service",
    "session",
    "shared",
    "signing",
    "ssh",
    "ssl",
    "storage",
    "tls",
];
/// Words before `TOKEN` that make it a piece of text.
const TEXT_TOKENS: [&str; 17] = [
    "bos", "cls", "end", "eos", "mask", "max", "min", "next", "num", "pad", "per", "sep",
    "special", "start", "stop", "unk", "word",
];
/// Words before `TOKENS` that make them secrets.
const SECRET_TOKENS: [&str; 6] = ["access", "api", "auth", "bearer", "refresh", "session"];
/// Words before `PASS` that make it a pass over data.
const PASSES: [&str; 13] = [
    "backward", "extra", "first", "forward", "full", "last", "multi", "one", "per", "second",
    "single", "three", "two",
];
/// Last words that say something about a secret, which is not the secret itself.
const ABOUT: [&str; 83] = [
    "accuracy",
    "age",
    "alg",
    "algorithm",
    "arn",
    "attempts",
    "audience",
    "backend",
    "bits",
    "budget",
    "bytes",
    "chars",
    "class",
    "classification",
    "count",
    "days",
    "dim",
    "dims",
    "dir",
    "directory",
    "disabled",
    "domain",
    "dropout",
    "embedding",
    "embeddings",
    "enabled",
    "endpoint",
    "expiration",
    "expires",
    "expiry",
    "file",
    "files",
    "folder",
    "format",
    "header",
    "host",
    "hours",
    "index",
    "issuer",
    "iterations",
    "len",
    "length",
    "level",
    "lifetime",
    "limit",
    "loss",
    "masking",
    "max",
    "method",
    "min",
    "minutes",
    "mode",
    "name",
    "names",
    "num",
    "path",
    "paths",
    "policy",
    "pooling",
    "port",
    "prefix",
    "prob",
    "provider",
    "rate",
    "ratio",
    "region",
    "required",
    "retries",
    "rounds",
    "scope",
    "scopes",
    "seconds",
    "secure",
    "size",
    "sock",
    "stdin",
    "suffix",
    "threshold",
    "timeout",
    "ttl",
    "type",
    "version",
    "vocab",
];
/// The same for addresses, which are secrets themselves where they are webhooks'.
const ADDRESSES: [&str; 3] = ["address", "uri", "url"];
/// First words of claims: `USE_AUTH_TOKEN`.
const CLAIMS: [&str; 11] = [
    "allow", "disable", "enable", "has", "is", "no", "require", "requires", "show", "skip", "use",
];

/// The words of a name, lower-case and without the digits at their ends: `dbPassword2` is `db`,
/// `password`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let letters: Vec<char> = name.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| letters[at]);
        let after = letters.get(at + 1);
        let is_hump = letter.is_ascii_uppercase()
            && (before.is_some_and(|before| before.is_ascii_lowercase())
                || (before.is_some_and(|before| before.is_ascii_uppercase())
                    && after.is_some_and(char::is_ascii_lowercase)));
        if is_hump || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(letter.to_ascii_lowercase());
        }
    }
    let is_digit = |letter: char| letter.is_ascii_digit();
    let words = words.iter().map(|word| word.trim_end_matches(is_digit));
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Whether a name says that its value is a secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let words = words(name);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (Some(first), Some(last)) = (words.first(), words.last()) else {
        return false;
    };
    let is_webhook = words.contains(&"webhook");
    if is_webhook && (*last == "webhook" || ADDRESSES.contains(last)) {
        return true;
    }
    let is_about = ABOUT.contains(last) || ADDRESSES.contains(last);
    if is_about || (words.len() > 1 && CLAIMS.contains(first)) {
        return false;
    }
    (0..words.len()).any(|at| is_secret_word(&words, at))
}

/// Whether the word at a place of a name says that it is a secret's.
fn is_secret_word(words: &[&str], at: usize) -> bool {
    let before = at.checked_sub(1).map_or("", |at| words[at]);
    let after = words.get(at + 1).copied().unwrap_or_default();
    let is_last = at + 1 == words.len();
    match words[at] {
        "token" => !TEXT_TOKENS.contains(&before) && !matches!(after, "id" | "ids"),
        "tokens" => SECRET_TOKENS.contains(&before),
        "key" | "keys" => SECRET_KEYS.contains(&before),
        "auth" => is_last || after == "config",
        "pass" => is_last && !PASSES.contains(&before),
        "pat" => is_last && at > 0,
        "pwd" => at > 0 && before != "old",
        "string" | "str" => matches!(before, "connection" | "conn"),
        word => {
            SECRETS.contains(&word) || SECRET_ENDINGS.iter().any(|ending| word.ends_with(ending))
        }
    }
}

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
/// The password of an address (RFC 3986, section 3.2.1), or a user that is as long as a token.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
    compiled(
        r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s/?#:@]*:(?<secret>[^\s/]+)@|(?<user>[^\s/?#:@]{20,})@)",
    )
});
/// `NAME=value`, `--name=value`, `?name=value&name=value`, up to the value.
static ASSIGNMENT: LazyLock<Regex> =
    LazyLock::new(|| compiled(r#"(?:^|[\s;&|"'(,?{=+~-])(?<name>[A-Za-z_][A-Za-z0-9_.-]*)="#));
/// `--name value` within a text, up to the value.
static FLAG: LazyLock<Regex> =
    LazyLock::new(|| compiled(r#"(?:^|[\s"'])--?(?<name>[A-Za-z][A-Za-z0-9_.-]*)\s+"#));
/// `"name": "value"`, as in JSON, up to the value.
static FIELD: LazyLock<Regex> =
    LazyLock::new(|| compiled(r#""(?<name>[A-Za-z_][A-Za-z0-9_.-]*)"\s*:\s*"#));
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

/// The value that begins at a place of a text: in quotes, or up to what ends a word. A word that
/// begins with a hyphen is the next flag.
fn value_at(text: &str, start: usize) -> Option<Range<usize>> {
    let rest = &text[start..];
    let quote = rest
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''));
    let (skipped, length) = match quote {
        None => {
            let is_end = |c: char| c.is_whitespace() || "\"';&|)".contains(c);
            (0, rest.find(is_end).unwrap_or(rest.len()))
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
    (length > 0 && !text[value.clone()].starts_with('-')).then_some(value)
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
        self.is_name(name) || self.is_value(value)
    }

    /// Where the secrets are in a text: sorted, and apart from each other.
    #[must_use]
    pub fn spans(&self, text: &str) -> Vec<Range<usize>> {
        let mut spans: Vec<_> = FORM.find_iter(text).map(|found| found.range()).collect();
        for form in [&ADDRESS, &HEADER, &BEARER] {
            for found in form.captures_iter(text) {
                let secret = found.name("secret").or_else(|| found.name("user"));
                let is_secret = found
                    .name("name")
                    .is_none_or(|name| self.is_name(name.as_str()));
                spans.extend(secret.filter(|_| is_secret).map(|secret| secret.range()));
            }
        }
        for form in [&ASSIGNMENT, &FLAG, &FIELD] {
            let mut at = 0;
            while let Some(found) = form.captures_at(text, at) {
                let (Some(whole), Some(name)) = (found.get(0), found.name("name")) else {
                    break;
                };
                // The value may itself be `NAME=value`.
                at = name.end();
                if self.is_name(name.as_str())
                    && let Some(value) = value_at(text, whole.end())
                {
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
        let mut is_next = false;
        let masked = words.iter().map(|word| {
            let is_flag = word.starts_with('-');
            let is_value = std::mem::take(&mut is_next) && !is_flag && !word.starts_with('$');
            is_next = is_flag
                && !word.contains(['=', ':', ' '])
                && self.is_name(word.trim_start_matches('-'));
            match self.assigned(word) {
                _ if is_value && !word.is_empty() => STARS.to_owned(),
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
            let is_empty = word[start..].is_empty() || word[start..].starts_with('$');
            if self.is_name(name) && !is_empty {
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
        !secret.starts_with('$') && !secret.chars().all(|letter| letter == '*')
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

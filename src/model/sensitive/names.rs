//! What the name of a variable says of its value: secret, a claim about one, or plain.

use std::sync::LazyLock;

use regex::Regex;

use super::compiled;

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
const SECRET_ENDINGS: [&str; 13] = [
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
    "sshpass",
];
/// What a `KEY` is that is a secret.
const SECRET_KEYS: [&str; 58] = [
    "access",
    "account",
    "anthropic",
    "api",
    "app",
    "auth",
    "aws",
    "azure",
    "client",
    "cohere",
    "comet",
    "crypt",
    "datadog",
    "dd",
    "decryption",
    "deploy",
    "encryption",
    "gcp",
    "gemini",
    "github",
    "gitlab",
    "google",
    "gpg",
    "groq",
    "hf",
    "hmac",
    "host",
    "huggingface",
    "jwt",
    "kaggle",
    "langchain",
    "langsmith",
    "license",
    "master",
    "mistral",
    "mlflow",
    "neptune",
    "openai",
    "pgp",
    "pinecone",
    "private",
    "replicate",
    "rsa",
    "secret",
    "sendgrid",
    "sentry",
    "service",
    "session",
    "shared",
    "signing",
    "slack",
    "ssh",
    "ssl",
    "storage",
    "stripe",
    "tls",
    "twilio",
    "wandb",
];
/// Words before `TOKEN` that make it a piece of text.
const TEXT_TOKENS: [&str; 36] = [
    "audio", "batch", "blank", "bod", "bos", "class", "cls", "end", "eod", "eos", "eot", "image",
    "img", "label", "mask", "max", "min", "n", "next", "num", "pad", "padding", "per", "prompt",
    "sep", "sot", "special", "start", "stop", "text", "total", "unk", "unknown", "video", "vis",
    "word",
];
/// Words before `TOKENS` that make them secrets.
const SECRET_TOKENS: [&str; 6] = ["access", "api", "auth", "bearer", "refresh", "session"];
/// Words before `PASS` that make it a pass over data.
const PASSES: [&str; 13] = [
    "backward", "extra", "first", "forward", "full", "last", "multi", "one", "per", "second",
    "single", "three", "two",
];
/// Words after `PASS` that say whose it is.
const OWNERS: [&str; 8] = [
    "admin", "dev", "prod", "ro", "root", "rw", "staging", "test",
];
/// Words of names whose values may be short numbers and ordinary words, and are secrets nevertheless.
const PASSWORDS: [&str; 9] = [
    "pass",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "pw",
    "pwd",
    "pword",
];
/// Words after `TOKEN` that make it a parameter of a model.
const TOKEN_PARAMETERS: [&str; 7] = ["batch", "drop", "dropout", "id", "ids", "mixing", "shift"];
/// Values that are no secrets, in lower case.
const WORDS: [&str; 9] = [
    "false", "no", "none", "null", "off", "on", "true", "yes", "~",
];
/// Last words that say something about a secret, which is not the secret itself.
const ABOUT: [&str; 93] = [
    "accuracy",
    "age",
    "alg",
    "algorithm",
    "arn",
    "attempts",
    "audience",
    "backend",
    "batch",
    "bits",
    "budget",
    "bytes",
    "chars",
    "class",
    "classes",
    "classification",
    "count",
    "counts",
    "days",
    "dim",
    "dims",
    "dir",
    "directory",
    "disabled",
    "domain",
    "drop",
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
    "heads",
    "host",
    "hours",
    "index",
    "issuer",
    "iterations",
    "layers",
    "len",
    "length",
    "level",
    "lifetime",
    "limit",
    "loss",
    "masking",
    "max",
    "merging",
    "method",
    "min",
    "minutes",
    "mixing",
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
    "pruning",
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
    "shift",
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

/// Whether a name claims something of a secret, which its value need not bear out: `USE_API_KEY`.
pub(super) fn is_claim(name: &str) -> bool {
    let words = words(name);
    let Some((first, rest)) = words.split_first() else {
        return false;
    };
    CLAIMS.contains(&first.as_str()) && is_secret_name(&rest.join("_"))
}

/// Whether the value of a secret's name is none: a switch, a short number, a model's special token.
pub(super) fn is_plain(name: &str, value: &str) -> bool {
    static DECIMAL: LazyLock<Regex> =
        LazyLock::new(|| compiled(r"^[+-]?[0-9]{0,3}\.[0-9]{1,6}(?:[eE][+-]?[0-9]{1,2})?$"));
    static MARKER: LazyLock<Regex> =
        LazyLock::new(|| compiled(r"^(?:<\|?[A-Za-z0-9_/ -]{1,24}\|?>|\[[A-Z]{1,12}\])$"));
    if DECIMAL.is_match(value) {
        return true;
    }
    let words = words(name);
    let is_password = |word: &String| {
        PASSWORDS.contains(&word.as_str()) || word.ends_with("password") || word.ends_with("pass")
    };
    if words.iter().any(is_password) && !is_claim(name) {
        return false;
    }
    let digits = value.trim_start_matches('-');
    let is_short_number =
        (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_word = WORDS.contains(&value.to_ascii_lowercase().as_str());
    is_short_number || is_word || MARKER.is_match(value)
}

/// Whether the word at a place of a name says that it is a secret's.
fn is_secret_word(words: &[&str], at: usize) -> bool {
    let before = at.checked_sub(1).map_or("", |at| words[at]);
    let after = words.get(at + 1).copied().unwrap_or_default();
    let is_last = at + 1 == words.len();
    match words[at] {
        "token" => !TEXT_TOKENS.contains(&before) && !TOKEN_PARAMETERS.contains(&after),
        "tokens" => SECRET_TOKENS.contains(&before),
        // Layers share keys.
        "keys" if before == "shared" => false,
        "key" | "keys" => SECRET_KEYS.contains(&before),
        "auth" => is_last || after == "config",
        "pass" => (is_last || at > 0 && OWNERS.contains(&after)) && !PASSES.contains(&before),
        "pat" | "sk" => is_last && at > 0,
        "signature" => matches!(before, "amz" | "goog"),
        "pwd" => at > 0 && before != "old",
        "string" | "str" => matches!(before, "connection" | "conn"),
        word => {
            SECRETS.contains(&word) || SECRET_ENDINGS.iter().any(|ending| word.ends_with(ending))
        }
    }
}

//! Files that are hardly meant for an image.

/// Names of files that hold secrets, as their programs have them.
const NAMES: &[&str] = &[
    ".dockercfg",
    ".env",
    ".git-credentials",
    ".htpasswd",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    "application_default_credentials.json",
    "credentials.json",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "kubeconfig",
];
/// And the ends of such names.
const ENDS: &[&str] = &[".key", ".kdbx", ".keystore", ".p12", ".pfx", ".ppk"];
/// And such files by folder and name.
const PATHS: &[&str] = &[
    ".aws/credentials",
    ".docker/config.json",
    // Where checkouts in CI keep the token of their remote; and the same of a linked worktree.
    ".git/config",
    ".git/config.worktree",
    ".huggingface/token",
    ".kaggle/kaggle.json",
    ".kube/config",
];

/// Words of the names of files that hold secrets; where such a file is text and no program.
const WORDS: &[&str] = &[
    "apikey",
    "credential",
    "credentials",
    "passwd",
    "password",
    "passwords",
    "secret",
    "secrets",
    "token",
];
const PAIRS: &[&str] = &["access_key", "api_key", "private_key", "secret_key"];
/// How such files end, besides without any ending.
const TEXTS: &[&str] = &[
    "cfg", "conf", "env", "ini", "json", "toml", "txt", "yaml", "yml",
];

/// Whether a path in a context is that of a file that usually holds secrets.
#[must_use]
pub fn holds_secrets(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let is_env = name.starts_with(b".env.")
        && ![".example", ".sample", ".template", ".dist"]
            .iter()
            .any(|end| name.ends_with(end.as_bytes()));
    is_env
        || is_said(name)
        || NAMES.iter().any(|known| name == known.as_bytes())
        || ENDS.iter().any(|end| name.ends_with(end.as_bytes()))
        || PATHS.iter().any(|known| ends_with(path, known))
        || is_submodules_config(path)
}

/// Whether the last parts of a path are these.
fn ends_with(path: &[u8], known: &str) -> bool {
    path.strip_suffix(known.as_bytes())
        .is_some_and(|folder| folder.is_empty() || folder.ends_with(b"/"))
}

/// Whether it is git's configuration of a submodule: `.git/modules/NAME/config`.
fn is_submodules_config(path: &[u8]) -> bool {
    let modules = b".git/modules/";
    let mut places = path.windows(modules.len()).enumerate();
    ends_with(path, "config")
        && places.any(|(at, part)| part == modules && (at == 0 || path[at - 1] == b'/'))
}

/// Whether the words of a name say so: `hf_token.txt`.
fn is_said(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let (stem, end) = match name.rsplit_once('.') {
        Some((stem, end)) if !stem.is_empty() => (stem, Some(end)),
        _ => (name.as_str(), None),
    };
    if end.is_some_and(|end| !TEXTS.contains(&end)) {
        return false;
    }
    let stem = stem.replace(['-', '.', ' '], "_");
    stem.split('_').any(|word| WORDS.contains(&word))
        || PAIRS.iter().any(|pair| stem.contains(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_their_names() {
        for path in [
            ".env",
            "app/.env.production",
            "home/.ssh/id_rsa",
            "tls/server.key",
            ".aws/credentials",
            "root/.docker/config.json",
            "hf_token.txt",
            "deploy/db-password",
            "secrets.yaml",
            "api_key.json",
            ".git/config",
            "vendor/x/.git/config",
            ".git/config.worktree",
            ".git/modules/a/b/config",
        ] {
            assert!(holds_secrets(path.as_bytes()), "{path}");
        }
        for path in [
            ".env.example",
            "config.env",
            "id_rsa.pub",
            "src/credentials.rs",
            "keys/monkey",
            "x.kube/config",
            "tls/server.pem",
            "token.py",
            "tokenizer_config.json",
            "special_tokens_map.json",
            ".git/HEAD",
            ".git/modules/a/config.lock",
            "x.git/config",
            "x.git/modules/a/config",
            "config",
        ] {
            assert!(!holds_secrets(path.as_bytes()), "{path}");
        }
    }
}

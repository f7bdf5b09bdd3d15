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
    ".huggingface/token",
    ".kaggle/kaggle.json",
    ".kube/config",
];

/// Whether a path in a context is that of a file that usually holds secrets.
pub(super) fn holds_secrets(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let is_env = name.starts_with(b".env.")
        && ![".example", ".sample", ".template", ".dist"]
            .iter()
            .any(|end| name.ends_with(end.as_bytes()));
    is_env
        || NAMES.iter().any(|known| name == known.as_bytes())
        || ENDS.iter().any(|end| name.ends_with(end.as_bytes()))
        || PATHS.iter().any(|known| {
            path.strip_suffix(known.as_bytes())
                .is_some_and(|folder| folder.is_empty() || folder.ends_with(b"/"))
        })
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
        ] {
            assert!(holds_secrets(path.as_bytes()), "{path}");
        }
        for path in [
            ".env.example",
            "config.env",
            "id_rsa.pub",
            "src/credentials.rs",
            "keys/monkey",
            "x.aws/credentials",
            "tls/server.pem",
        ] {
            assert!(!holds_secrets(path.as_bytes()), "{path}");
        }
    }
}

//! Credentials for registries, found where docker's client finds them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

pub use self::error::CredentialsError;
use super::config::{DockerConfig, read_json};
use crate::engine::registry::Credentials;
use crate::facts::Environment;
use crate::model::Secret;

mod error;

/// The variable that has credentials itself, as a `config.json` with nothing else.
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";
/// What Docker Hub is called among credentials.
const HUB: &str = "https://index.docker.io/v1/";
/// How long a helper may take.
const HELPER: Duration = Duration::from_secs(10);
/// What helpers say of a registry that they know nothing of (docker/docker-credential-helpers).
const NOT_FOUND: &str = "credentials not found in native keychain";
/// What a helper names as the user of an identity token.
const TOKEN_USER: &str = "<token>";

/// Credentials as a `config.json` has them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auths {
    auths: Option<BTreeMap<String, Option<Auth>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    pair: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
}

/// Where credentials are kept and found.
#[derive(Debug)]
pub struct Keyring<'a> {
    environment: &'a Environment,
    config: DockerConfig,
}

impl<'a> Keyring<'a> {
    /// What docker's configuration says of credentials.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn open(environment: &'a Environment) -> Result<Self, CredentialsError> {
        let config = DockerConfig::read(environment)?;
        Ok(Self {
            environment,
            config,
        })
    }

    /// The credentials for a registry, by its host and port: from `DOCKER_AUTH_CONFIG`, from its own
    /// helper, from the helper for all, or from the configuration itself. Nothing where none are known.
    ///
    /// # Errors
    ///
    /// Those that are there can't be had.
    pub async fn find(&self, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
        if let Some(text) = self.environment.get_non_empty(VARIABLE) {
            let auths: Option<Auths> =
                serde_json::from_str(text).map_err(|_| CredentialsError::Variable)?;
            if let Some(found) = stored(&auths.unwrap_or_default(), registry, VARIABLE)? {
                return Ok(Some(found));
            }
        }
        if let Some(helper) = self.helper(registry) {
            return self.ask(&helper, registry).await;
        }
        let Some(file) = self.file() else {
            return Ok(None);
        };
        let auths: Auths = read_json(&file)?.unwrap_or_default();
        stored(&auths, registry, &file.display().to_string())
    }

    /// Keeps credentials for a registry; where, in words.
    ///
    /// # Errors
    ///
    /// They can't be kept.
    pub async fn keep(
        &self,
        registry: &str,
        credentials: &Credentials,
    ) -> Result<String, CredentialsError> {
        let key = key(registry);
        let user = credentials.user.as_deref().unwrap_or(TOKEN_USER);
        if let Some(helper) = self.helper(registry) {
            let order = json!({
                "ServerURL": key,
                "Username": user,
                "Secret": credentials.secret.expose(),
            });
            self.call(&helper, "store", &order.to_string(), registry)
                .await?;
            return Ok(format!("the credential helper `{}`", program(&helper)));
        }
        let secret = credentials.secret.expose();
        let auth = if credentials.user.is_some() {
            json!({ "auth": STANDARD.encode(format!("{user}:{secret}")) })
        } else {
            json!({ "identitytoken": secret })
        };
        let path = self.change(|auths| {
            auths.insert(key.clone(), auth);
            true
        })?;
        Ok(path.display().to_string())
    }

    /// Forgets the credentials for a registry; whether there were some.
    ///
    /// # Errors
    ///
    /// They can't be forgotten.
    pub async fn forget(&self, registry: &str) -> Result<bool, CredentialsError> {
        let mut had_some = false;
        if let Some(helper) = self.helper(registry) {
            had_some = self.ask(&helper, registry).await?.is_some();
            if had_some {
                self.call(&helper, "erase", &key(registry), registry)
                    .await?;
            }
        }
        self.change(|auths| {
            let names = auths.keys().filter(|name| is_for(name, registry));
            let names: Vec<_> = names.cloned().collect();
            for name in &names {
                auths.remove(name);
            }
            had_some |= !names.is_empty();
            !names.is_empty()
        })?;
        Ok(had_some)
    }

    fn file(&self) -> Option<PathBuf> {
        Some(self.config.folder.as_ref()?.join("config.json"))
    }

    /// The helper that has a registry's credentials: its own, else the one for all. An own one that is
    /// empty means the file, as for docker.
    fn helper(&self, registry: &str) -> Option<String> {
        let own = self.config.credential_helpers.get(&key(registry));
        let helper = own.or(self.config.credentials_store.as_ref());
        helper.filter(|helper| !helper.is_empty()).cloned()
    }

    async fn ask(
        &self,
        helper: &str,
        registry: &str,
    ) -> Result<Option<Credentials>, CredentialsError> {
        // As in Go, which helpers and docker are written in, `null` is a key that is not there, and both are empty.
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Reply {
            username: Option<String>,
            secret: Option<Secret>,
        }
        let Some(reply) = self.call(helper, "get", &key(registry), registry).await? else {
            return Ok(None);
        };
        // What it printed may be a secret in a form of its own: it is never shown.
        let reply: Option<Reply> =
            serde_json::from_slice(&reply).map_err(|_| CredentialsError::Helper {
                program: program(helper),
                registry: registry.to_owned(),
                reason: "printed something else than credentials".to_owned(),
            })?;
        let reply = reply.unwrap_or_default();
        let Some(secret) = non_empty(reply.secret.as_ref()) else {
            return Ok(None);
        };
        let user = reply.username.unwrap_or_default();
        Ok(Some(Credentials {
            user: Some(user).filter(|user| user != TOKEN_USER),
            secret,
            origin: format!("the credential helper `{}`", program(helper)),
        }))
    }

    /// Calls a helper. What it printed, or nothing if it knows no credentials.
    async fn call(
        &self,
        helper: &str,
        verb: &str,
        input: &str,
        registry: &str,
    ) -> Result<Option<Vec<u8>>, CredentialsError> {
        let program = program(helper);
        let failed = |reason: String| CredentialsError::Helper {
            program: program.clone(),
            registry: registry.to_owned(),
            reason,
        };
        let Some(path) = self.environment.find_program(&program) else {
            let registry = registry.to_owned();
            return Err(CredentialsError::NoHelper { program, registry });
        };
        let calling = async {
            // It finds the user's own session, agents and profiles by the environment, whose names we can't
            // know: it has all of it, as with docker.
            let mut child = Command::new(path)
                .arg(verb)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // One that does not read it says so by its exit code.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = match tokio::time::timeout(HELPER, calling).await {
            Ok(output) => output.map_err(|error| failed(format!("can't be run: {error}")))?,
            Err(_) => {
                let seconds = HELPER.as_secs();
                return Err(failed(format!("did not answer within {seconds} s")));
            }
        };
        if output.status.success() {
            return Ok(Some(output.stdout));
        }
        if String::from_utf8_lossy(&output.stdout).contains(NOT_FOUND) {
            return Ok(None);
        }
        let code = output.status.code();
        Err(failed(match code {
            Some(code) => format!("failed with exit code {code}"),
            None => "was killed".to_owned(),
        }))
    }

    /// Changes the credentials in the configuration; all else in it stays as it is. Whoever reads it finds
    /// the old one or the new one; its mode stays, and where it is a link, what that leads to is changed.
    fn change(
        &self,
        change: impl FnOnce(&mut Map<String, Value>) -> bool,
    ) -> Result<PathBuf, CredentialsError> {
        let path = self.file().ok_or_else(|| CredentialsError::Write {
            path: PathBuf::from("config.json"),
            source: io::Error::new(io::ErrorKind::NotFound, "there is no home directory"),
        })?;
        let mut all: Map<String, Value> = read_json(&path)?.unwrap_or_default();
        let auths = all.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        let auths = auths.as_object_mut().expect("it is one now");
        if change(auths) {
            write(&path, &all).map_err(|source| CredentialsError::Write {
                path: path.clone(),
                source,
            })?;
        }
        Ok(path)
    }
}

fn write(path: &Path, all: &Map<String, Value>) -> io::Result<()> {
    use std::io::Write as _;

    // A link stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mode = fs::metadata(&path).map_or(0o600, |found| found.permissions().mode() & 0o777);
    let mut file = tempfile::Builder::new()
        .prefix(".config.json-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    // As docker writes it.
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(all, &mut serializer)?;
    file.write_all(&text)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

/// What stands for a registry in a configuration.
fn stored(
    auths: &Auths,
    registry: &str,
    origin: &str,
) -> Result<Option<Credentials>, CredentialsError> {
    let Some(auths) = &auths.auths else {
        return Ok(None);
    };
    let exact = auths.get(&key(registry));
    // Old clients wrote URLs.
    let alike = || {
        let mut found = auths.iter();
        found
            .find(|(name, _)| is_for(name, registry))
            .map(|(_, auth)| auth)
    };
    let Some(auth) = exact.or_else(alike).and_then(Option::as_ref) else {
        return Ok(None);
    };
    let credentials = |user, secret| Credentials {
        user,
        secret,
        origin: format!("auths of {origin}"),
    };
    if let Some(token) = non_empty(auth.identitytoken.as_ref()) {
        return Ok(Some(credentials(None, token)));
    }
    if let Some(pair) = non_empty(auth.pair.as_ref()) {
        let malformed = || CredentialsError::Malformed {
            registry: registry.to_owned(),
            origin: origin.to_owned(),
        };
        let pair = STANDARD
            .decode(pair.expose().trim_end_matches('\0'))
            .ok()
            .and_then(|pair| String::from_utf8(pair).ok())
            .ok_or_else(malformed)?;
        let (user, password) = pair.split_once(':').ok_or_else(malformed)?;
        let password = password.trim_end_matches('\0');
        return Ok(Some(credentials(
            Some(user.to_owned()),
            Secret::new(password),
        )));
    }
    let password = non_empty(auth.password.as_ref());
    Ok(auth
        .username
        .clone()
        .zip(password)
        .map(|(user, password)| credentials(Some(user), password)))
}

fn non_empty(secret: Option<&Secret>) -> Option<Secret> {
    secret.filter(|secret| !secret.expose().is_empty()).cloned()
}

fn program(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

/// What a registry is called among credentials.
fn key(registry: &str) -> String {
    match registry {
        "docker.io" | "index.docker.io" => HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// Whether a name among credentials, which may be a URL, means a registry.
fn is_for(name: &str, registry: &str) -> bool {
    let host = name
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or(host);
    host == registry || (host == "index.docker.io" && registry == "docker.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(auths: &str, registry: &str) -> Option<(Option<String>, String)> {
        let auths: Auths = serde_json::from_str(auths).unwrap();
        let found = stored(&auths, registry, "x").unwrap()?;
        Some((found.user, found.secret.expose().to_owned()))
    }

    #[test]
    fn credentials_are_found_as_docker_finds_them() {
        // `me:pass:word`
        let pair = r#"{"auths":{"reg:5000":{"auth":"bWU6cGFzczp3b3Jk"}}}"#;
        let me = |secret: &str| Some((Some("me".to_owned()), secret.to_owned()));
        assert_eq!(found(pair, "reg:5000"), me("pass:word"));
        assert_eq!(found(pair, "reg"), None);
        let url = r#"{"auths":{"https://reg:5000/v1/":{"auth":"bWU6cGFzczp3b3Jk"}}}"#;
        assert_eq!(found(url, "reg:5000"), me("pass:word"));
        let hub = r#"{"auths":{"https://index.docker.io/v1/":{"username":"me","password":"x"}}}"#;
        assert_eq!(found(hub, "docker.io"), me("x"));
        let token = r#"{"auths":{"reg":{"auth":"bWU6","identitytoken":"t"}}}"#;
        assert_eq!(found(token, "reg"), Some((None, "t".to_owned())));
        for nothing in [
            r#"{"auths":{"reg":{}}}"#,
            r#"{"auths":{"reg":null}}"#,
            r#"{"auths":{"reg":{"auth":null,"username":null,"identitytoken":null}}}"#,
            r#"{"auths":null}"#,
        ] {
            assert_eq!(found(nothing, "reg"), None, "{nothing}");
        }
    }

    #[test]
    fn helpers_are_found_as_docker_finds_them() {
        let environment = Environment::default();
        let keyring = |store: &str, helpers: &[(&str, &str)]| Keyring {
            environment: &environment,
            config: DockerConfig {
                credentials_store: Some(store.to_owned()).filter(|store| !store.is_empty()),
                credential_helpers: (helpers.iter())
                    .map(|(registry, helper)| ((*registry).to_owned(), (*helper).to_owned()))
                    .collect(),
                ..DockerConfig::default()
            },
        };
        for (store, helpers, registry, expected) in [
            ("", [(HUB, "own")].as_slice(), "docker.io", Some("own")),
            ("", &[(HUB, "own")], "index.docker.io", Some("own")),
            ("", &[("docker.io", "own")], "docker.io", None),
            ("all", &[("docker.io", "own")], "docker.io", Some("all")),
            ("all", &[("reg:5000", "own")], "reg:5000", Some("own")),
            ("all", &[("reg:5000", "own")], "reg", Some("all")),
            ("all", &[("reg", "")], "reg", None),
            ("", &[], "reg", None),
        ] {
            let found = keyring(store, helpers).helper(registry);
            assert_eq!(found.as_deref(), expected, "{store} {helpers:?} {registry}");
        }
    }

    #[test]
    fn what_is_no_credentials_is_told_and_not_shown() {
        let auths: Auths =
            serde_json::from_str(r#"{"auths":{"reg":{"auth":"aHVzaA=="}}}"#).unwrap();
        let error = stored(&auths, "reg", "the file").unwrap_err().to_string();
        assert_eq!(error, "the credentials for reg in the file can't be read");
    }
}

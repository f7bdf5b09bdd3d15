//! docker's own configuration: `config.json` and contexts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::facts::{Environment, read_small};
use crate::model::Secret;

/// The largest configuration that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// What jobctl needs of docker's `config.json` (`$DOCKER_CONFIG`, else `~/.docker`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerConfig {
    /// The folder that it is in; nothing if there is neither `DOCKER_CONFIG` nor a home.
    pub folder: Option<PathBuf>,
    /// The context that is used if nothing else says so.
    pub current_context: Option<String>,
    /// The helper that keeps all credentials: `NAME` of `docker-credential-NAME`.
    pub credentials_store: Option<String>,
    /// Helpers for single registries, by the name that the registry has among credentials. An empty one
    /// is the file itself.
    pub credential_helpers: BTreeMap<String, String>,
    /// Proxies for builds and containers by the variables that they are given as, for `default` or an
    /// engine's address.
    pub(super) proxies: BTreeMap<String, BTreeMap<&'static str, Secret>>,
}

/// `config.json` as it is written; keys that jobctl does not use are docker's business. As in Go, which
/// docker is written in, `null` is a key that is not there.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    current_context: Option<String>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, Option<String>>>,
    proxies: Option<BTreeMap<String, Option<Proxies>>>,
}

/// The proxies of an engine's containers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Proxies {
    #[serde(rename = "httpProxy")]
    http: Option<Secret>,
    #[serde(rename = "httpsProxy")]
    https: Option<Secret>,
    #[serde(rename = "noProxy")]
    none: Option<Secret>,
    #[serde(rename = "ftpProxy")]
    ftp: Option<Secret>,
    #[serde(rename = "allProxy")]
    all: Option<Secret>,
}

impl Proxies {
    fn by_variable(self) -> BTreeMap<&'static str, Secret> {
        let all = [
            ("http_proxy", self.http),
            ("https_proxy", self.https),
            ("no_proxy", self.none),
            ("ftp_proxy", self.ftp),
            ("all_proxy", self.all),
        ];
        let given = all.into_iter().filter_map(|(name, value)| {
            let value = value.filter(|value| !value.expose().is_empty());
            Some((name, value?))
        });
        given.collect()
    }
}

/// Why docker's configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there, but can't be read.
    #[error("can't read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what docker writes.
    #[error("`{}` is not valid: line {line}, column {column}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
}

impl ConfigError {
    /// How to fix it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Unreadable { path, source } if source.raw_os_error().is_none() => {
                format!("put a file of JSON there, or nothing: `{}`", path.display())
            }
            Self::Unreadable { path, .. } => {
                format!(
                    "make it readable: `sudo chown \"$USER\" {}`",
                    path.display()
                )
            }
            Self::Invalid { path, .. } => format!(
                "mend the JSON, or move it away and log in again: `mv {0} {0}.old`",
                path.display()
            ),
        }
    }
}

impl DockerConfig {
    /// Reads `config.json`; one that is not there is empty.
    ///
    /// # Errors
    ///
    /// The file can't be read, or is not valid. Its content, which holds credentials, is never part
    /// of the error.
    pub fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let Some(folder) = folder(environment) else {
            return Ok(Self::default());
        };
        let file: File = read_json(&folder.join("config.json"))?.unwrap_or_default();
        let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        let helpers = file.cred_helpers.into_iter().flatten();
        let proxies = file.proxies.into_iter().flatten();
        Ok(Self {
            folder: Some(folder),
            current_context: non_empty(file.current_context),
            credentials_store: non_empty(file.creds_store),
            credential_helpers: helpers
                .map(|(registry, helper)| (registry, helper.unwrap_or_default()))
                .collect(),
            proxies: proxies
                .map(|(engine, proxies)| (engine, proxies.unwrap_or_default().by_variable()))
                .collect(),
        })
    }

    /// The proxies that builds on an engine are given, as build arguments in both cases.
    #[must_use]
    pub fn proxy_args(&self, address: &str) -> BTreeMap<String, Secret> {
        let mut args = BTreeMap::new();
        let Some(proxies) = self
            .proxies
            .get(address)
            .or_else(|| self.proxies.get("default"))
        else {
            return args;
        };
        for (name, value) in proxies {
            args.insert((*name).to_owned(), value.clone());
            args.insert(name.to_uppercase(), value.clone());
        }
        args
    }

    /// The file of a context and the folder of its keys.
    pub(super) fn context_paths(&self, name: &str) -> Option<(PathBuf, PathBuf)> {
        let contexts = self.folder.as_ref()?.join("contexts");
        let digest = Sha256::digest(name);
        let id = format!("{digest:x}");
        Some((
            contexts.join("meta").join(&id).join("meta.json"),
            contexts.join("tls").join(&id).join("docker"),
        ))
    }

    /// The names of all contexts, sorted; those that can't be read are left out.
    #[must_use]
    pub fn context_names(&self) -> Vec<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Meta {
            name: Option<String>,
        }
        let folder = self
            .folder
            .as_ref()
            .map(|folder| folder.join("contexts/meta"));
        let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
        let mut names: Vec<_> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| read_json(&entry.ok()?.path().join("meta.json")).ok()?)
            .filter_map(|meta: Meta| meta.name)
            .collect();
        names.push("default".to_owned());
        names.sort();
        names
    }
}

/// docker's configuration folder.
pub(super) fn folder(environment: &Environment) -> Option<PathBuf> {
    environment
        .path("DOCKER_CONFIG")
        .or_else(|| Some(environment.home()?.join(".docker")))
}

/// A JSON file, or nothing if it is not there, or is `null`.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
) -> Result<Option<T>, ConfigError> {
    let text = match read_small(path, LARGEST) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_owned();
            return Err(ConfigError::Unreadable { path, source });
        }
    };
    serde_json::from_slice(&text).map_err(|error| ConfigError::Invalid {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::DockerConfig;
    use crate::facts::Environment;

    fn read(text: &str) -> DockerConfig {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), text).unwrap();
        let variables = [("DOCKER_CONFIG", directory.path())];
        let environment = Environment::new(variables, "/");
        let config = DockerConfig::read(&environment).unwrap();
        DockerConfig {
            folder: None,
            ..config
        }
    }

    #[test]
    fn null_is_as_absent_wherever_it_is_written() {
        for text in [
            "null",
            "{}",
            r#"{"currentContext":null,"credsStore":null,"credHelpers":null,"proxies":null,"auths":null}"#,
            r#"{"currentContext":"","credsStore":"","credHelpers":{},"proxies":{}}"#,
        ] {
            assert_eq!(read(text), DockerConfig::default(), "{text}");
        }
        let config = read(
            r#"{"credHelpers":{"a":null,"b":""},
                "proxies":{"default":null,"e":{"httpProxy":null,"noProxy":"x","other":1}}}"#,
        );
        let empty = String::new;
        let helpers = BTreeMap::from([("a".to_owned(), empty()), ("b".to_owned(), empty())]);
        assert_eq!(config.credential_helpers, helpers);
        assert!(config.proxy_args("another").is_empty());
        let names: Vec<_> = config.proxy_args("e").into_keys().collect();
        assert_eq!(names, ["NO_PROXY", "no_proxy"]);
    }
}

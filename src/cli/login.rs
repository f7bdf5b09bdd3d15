//! `jobctl login` and `jobctl logout`

use std::io::{IsTerminal as _, Read as _};

use clap::Args;

use super::Ending;
use super::context::Context;
use super::push::{Unpushed, fail};
use crate::engine::docker::credentials::{CredentialsError, Keyring};
use crate::engine::registry::{Credentials, RegistryError};
use crate::exit::Exit;
use crate::model::{ImageRef, Secret};
use crate::ops::push::PushFailure;
use crate::plan::push::{Remedy, remedy};

/// What of standard input may be a password, in bytes.
const LONGEST_PASSWORD: u64 = 1 << 20;

/// Log in to a registry; credentials are stored where docker stores them
#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The registry's host and port; Docker Hub, if not given
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
    /// The user
    #[arg(short, long, value_name = "USER", required = true)]
    username: String,
    /// Read the password, or a token, from standard input
    #[arg(long, required = true)]
    password_stdin: bool,
}

/// Log out of a registry
#[derive(Debug, Args)]
pub(super) struct LogoutArgs {
    /// The registry's host and port; Docker Hub, if not given
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    registry: String,
}

/// The host of a registry that may be written as an address, as docker's client reads it (`ConvertToHostname`).
/// A password in it is no place for one.
fn host(registry: &str) -> Result<String, &'static str> {
    let address = registry
        .strip_prefix("https://")
        .or_else(|| registry.strip_prefix("http://"))
        .unwrap_or(registry);
    let host = address.split('/').next().unwrap_or(address);
    match host {
        "" => Err("the registry has no host"),
        _ if host.contains('@') => Err("a registry's address has no user in it: use `--username`"),
        _ => Ok(host.to_owned()),
    }
}

pub(super) fn exec_login(args: &LoginArgs, context: &mut Context) -> Ending {
    let registry = match host(&args.registry) {
        Ok(registry) => registry,
        Err(message) => return Ok(context.output.usage(message, None)),
    };
    let mut password = String::new();
    if std::io::stdin().is_terminal() {
        context
            .output
            .note("type the password, and Ctrl-D on a line of its own; better: `… < FILE`");
    }
    if let Err(error) = std::io::stdin()
        .take(LONGEST_PASSWORD)
        .read_to_string(&mut password)
    {
        let message = format!("the password can't be read from standard input: {error}");
        return Ok(context.output.error(&message));
    }
    // As docker has it: one end of line is not the password's.
    let password = password
        .strip_suffix('\n')
        .map_or(password.as_str(), |rest| {
            rest.strip_suffix('\r').unwrap_or(rest)
        });
    if password.is_empty() {
        let help = "`jobctl login -u USER --password-stdin REGISTRY < FILE`";
        return Ok(context
            .output
            .usage("there is no password on standard input", Some(help)));
    }
    let mut credentials = Credentials {
        user: Some(args.username.clone()),
        secret: Secret::new(password),
        origin: "standard input".to_owned(),
    };
    let outcome: Result<String, Unpushed> = context.watch(async |_events| {
        let engine = context.connect().await?;
        let keyring = Keyring::open(&context.environment)?;
        if let Ok(image) = format!("{registry}/any").parse::<ImageRef>() {
            engine.check_tokens(&image).await??;
        }
        let server = server(&registry);
        let logging_in = engine.log_in(&server, &credentials);
        let token = logging_in.await.map_err(|error| match remedy(&error) {
            Remedy::LogIn => PushFailure::Registry(RegistryError::Unauthorized {
                registry: registry.clone(),
                user: Some(format!("`{}`", args.username)),
            }),
            _ => error.into(),
        })?;
        if let Some(token) = token {
            credentials.user = None;
            credentials.secret = Secret::new(token);
        }
        Ok(keyring.keep(&registry, &credentials).await?)
    })?;
    match outcome {
        Ok(place) => {
            context.output.note(&format!(
                "logged in to {registry} as {}; kept in {place}",
                args.username
            ));
            Ok(Exit::Success)
        }
        Err(unpushed) => Ok(fail(context, "login", unpushed)),
    }
}

/// A registry as the engine's API names it.
fn server(registry: &str) -> String {
    match registry {
        "docker.io" | "index.docker.io" => "https://index.docker.io/v1/".to_owned(),
        other => other.to_owned(),
    }
}

pub(super) fn exec_logout(args: &LogoutArgs, context: &mut Context) -> Ending {
    let registry = match host(&args.registry) {
        Ok(registry) => registry,
        Err(message) => return Ok(context.output.usage(message, None)),
    };
    let outcome: Result<bool, CredentialsError> = context
        .watch(async |_events| Keyring::open(&context.environment)?.forget(&registry).await)?;
    match outcome {
        Ok(had_some) => {
            let said = if had_some {
                format!("logged out of {registry}")
            } else {
                format!("nothing was known for {registry}")
            };
            context.output.note(&said);
            Ok(Exit::Success)
        }
        Err(error) => Ok(fail(context, "login", error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn a_registry_is_its_host_however_it_is_written() {
        for registry in [
            "r:5000",
            "http://r:5000",
            "https://r:5000/",
            "r:5000/",
            "r:5000/team",
        ] {
            assert_eq!(host(registry).as_deref(), Ok("r:5000"), "{registry}");
        }
        assert_eq!(
            host("https://index.docker.io/v1/").as_deref(),
            Ok("index.docker.io")
        );
        for registry in ["", "https://", "https://me:secret@r:5000"] {
            assert!(host(registry).is_err(), "{registry}");
        }
    }
}

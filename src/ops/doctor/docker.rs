//! Checks of docker's configuration on this machine.

use super::{Finding, Question};
use crate::engine::docker::endpoint::resolve;
use crate::engine::docker::{Address, DockerConfig};

pub(super) fn config(question: &Question) -> Finding {
    match DockerConfig::read(&question.environment) {
        Ok(DockerConfig { folder: None, .. }) => Finding::ok("there is no home to have one in"),
        Ok(DockerConfig {
            folder: Some(folder),
            ..
        }) => {
            let file = folder.join("config.json");
            let shown = file.display();
            Finding::ok(if file.exists() {
                shown.to_string()
            } else {
                format!("none: {shown} does not exist, and docker needs none")
            })
        }
        Err(error) => Finding::failure(error.to_string(), error.help()),
    }
}

/// Programs that keep credentials must be there, or pushes and pulls fail with something else.
pub(super) fn credentials(question: &Question) -> Finding {
    let Ok(config) = DockerConfig::read(&question.environment) else {
        return Finding::skipped("docker's configuration can't be read");
    };
    // An empty one means the file.
    let helpers = config.credential_helpers.iter();
    let mut helpers: Vec<_> = helpers
        .filter(|(_, helper)| !helper.is_empty())
        .map(|(registry, helper)| (helper.clone(), format!("for {registry}")))
        .chain(
            config
                .credentials_store
                .map(|store| (store, "for all registries".to_owned())),
        )
        .collect();
    helpers.sort();
    for (helper, purpose) in &helpers {
        let program = format!("docker-credential-{helper}");
        if question.environment.find_program(&program).is_none() {
            return Finding::failure(
                format!("`{program}`, which keeps the credentials {purpose}, is not in PATH"),
                "install it, or remove it from docker's config.json and log in again",
            );
        }
    }
    if helpers.is_empty() {
        Finding::ok("kept in docker's config.json, if any")
    } else {
        let names: Vec<_> = helpers.into_iter().map(|(helper, _)| helper).collect();
        Finding::ok(format!("kept by {}", names.join(", ")))
    }
}

pub(super) fn ssh(question: &Question) -> Finding {
    let endpoint = DockerConfig::read(&question.environment)
        .ok()
        .and_then(|config| resolve(&question.endpoint, &question.environment, &config).ok());
    if !endpoint.is_some_and(|endpoint| matches!(endpoint.address, Address::Ssh(_))) {
        return Finding::skipped("the engine is not reached by ssh");
    }
    match question.environment.find_program("ssh") {
        Some(path) => Finding::ok(path.display().to_string()),
        None => Finding::failure(
            "the engine is reached by ssh, but `ssh` is not in PATH",
            "install it: `sudo apt-get install openssh-client`",
        ),
    }
}

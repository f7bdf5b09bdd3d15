//! The variables of a run, in docker's order.

use indexmap::IndexMap;

use super::{RunFlags, RunPlan, Subject};
use crate::diagnostic::Diagnostic;
use crate::facts::Environment;
use crate::manifest::env_file::EnvFile;
use crate::manifest::schema::{Job, Variable};
use crate::manifest::{Manifest, Rule, looks_secret};
use crate::model::{EnvName, Name, Secret};
use crate::records::VariableRecord;

/// Where the container's certificate authorities appear.
pub const CA_BUNDLE_TARGET: &str = "/run/jobctl/ca-bundle.crt";
/// Where most programs look for the name of a file of certificate authorities.
const CA_BUNDLE_VARIABLE: &str = "SSL_CERT_FILE";
/// Which GPUs NVIDIA's runtime gives a container; `void` for none, whatever the image says.
const GPU_VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// The env files of a run, read: each with its path as the user knows it.
#[derive(Debug, Clone, Default)]
pub struct EnvFiles {
    /// Those of the job, in order.
    pub of_job: Vec<(String, EnvFile)>,
    /// Those of the command line, in order.
    pub of_flags: Vec<(String, EnvFile)>,
}

/// A variable as it was given last.
struct Given {
    value: Option<Secret>,
    origin: String,
    /// Whether everybody may see the value.
    is_public: bool,
    is_secret: bool,
}

/// The variables of a run, as they go into a plan.
pub(super) struct Settled {
    /// For the container.
    pub(super) variables: Vec<(EnvName, Option<Secret>)>,
    /// For the record, in the same order.
    pub(super) records: Vec<VariableRecord>,
    /// The values that nobody may see, each once.
    pub(super) secrets: Vec<Secret>,
}

/// The variables of a run: each at the place where it was first given, with the value that it was
/// given last. That is what a container of docker's sees, too.
pub(super) struct Variables<'a> {
    given: IndexMap<EnvName, Given>,
    /// The variables of the caller's that the manifest says are secret.
    secret_names: Vec<&'a str>,
    pub(super) secrets: Vec<Secret>,
    pub(super) warnings: Vec<String>,
    pub(super) errors: Vec<Diagnostic>,
}

impl<'a> Variables<'a> {
    /// Image < env files < `environment` < `--env-file` < docker's proxies < `--env`.
    ///
    /// Docker's proxies give way to those of the job, as compose has it.
    pub(super) fn collect(
        subject: &Subject<'a>,
        flags: &RunFlags,
        files: &EnvFiles,
        environment: &Environment,
    ) -> Self {
        let mut variables = Self::new(subject, environment);
        for (origin, file) in &files.of_job {
            variables.add_file(origin, file);
        }
        let mut missing = Vec::new();
        if let Subject::Job(_, _, job) = subject {
            missing = variables.add_job(job, environment);
        }
        let of_job: Vec<_> = variables.given.keys().cloned().collect();
        for (origin, file) in &files.of_flags {
            variables.add_file(origin, file);
        }
        for (name, value) in &flags.proxies {
            let Ok(name) = name.parse::<EnvName>() else {
                continue;
            };
            if !of_job.contains(&name) {
                variables.add_proxy(name, value);
            }
        }
        variables.add_flags(&flags.environment, environment);
        if let Subject::Job(manifest, name, _) = subject
            && !flags.allows_unset
        {
            missing.retain(|variable| variables.value(&variable.name).is_none());
            let errors = missing
                .iter()
                .map(|variable| unset(variable, manifest, name));
            variables.errors.extend(errors);
        }
        variables
    }

    fn new(subject: &Subject<'a>, environment: &Environment) -> Self {
        let secret_names: Vec<_> = match subject {
            Subject::Job(manifest, ..) => {
                let secrets = manifest.root.secrets.values();
                let names = secrets.filter_map(|secret| secret.value.environment.as_deref());
                names.map(EnvName::as_str).collect()
            }
            Subject::Image(_) => Vec::new(),
        };
        let values = secret_names.iter().filter_map(|name| environment.get(name));
        Self {
            secrets: values.map(Secret::new).collect(),
            given: IndexMap::new(),
            secret_names,
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Adds a variable of jobctl's own, unless it was given.
    pub(super) fn add_own(&mut self, name: &str, value: &str) {
        if !self.given.keys().any(|given| given.as_str() == name) {
            let given = Given {
                value: Some(Secret::new(value)),
                origin: "jobctl".to_owned(),
                is_public: true,
                is_secret: false,
            };
            let name = name.parse().expect("jobctl's own names are names");
            self.given.insert(name, given);
        }
    }

    /// Lets the container find its certificate authorities.
    pub(super) fn add_ca_bundle(&mut self) {
        self.add_own(CA_BUNDLE_VARIABLE, CA_BUNDLE_TARGET);
    }

    /// The variables for the container and for the record.
    pub(super) fn finish(self) -> Settled {
        let mut secrets = self.secrets;
        let mut records = Vec::new();
        let mut variables = Vec::new();
        for (name, given) in self.given {
            let shown = given.value.as_ref().filter(|_| given.is_public);
            records.push(VariableRecord {
                name: name.to_string(),
                origin: given.origin,
                value: shown.map(|value| value.expose().to_owned()),
                digest: None,
                is_secret: given.is_secret,
            });
            if given.is_secret {
                secrets.extend(given.value.clone().filter(is_masked));
            }
            variables.push((name, given.value));
        }
        let mut seen = Vec::new();
        secrets.retain(|secret| {
            let is_new = !secret.expose().is_empty() && !seen.contains(secret);
            seen.push(secret.clone());
            is_new
        });
        Settled {
            variables,
            records,
            secrets,
        }
    }

    fn value(&self, name: &EnvName) -> Option<&Secret> {
        self.given.get(name)?.value.as_ref()
    }

    fn is_secret(&self, name: &EnvName) -> bool {
        looks_secret(name.as_str()) || self.secret_names.contains(&name.as_str())
    }

    fn add(&mut self, name: EnvName, value: Option<Secret>, origin: &str, is_literal: bool) {
        let is_secret = self.is_secret(&name);
        let given = Given {
            value,
            origin: origin.to_owned(),
            is_public: is_literal && !is_secret,
            is_secret,
        };
        self.given.insert(name, given);
    }

    fn add_file(&mut self, origin: &str, file: &EnvFile) {
        for variable in &file.variables {
            let value = Some(variable.value.clone());
            self.add(variable.name.clone(), value, origin, false);
        }
    }

    /// Adds the variables of a job; gives back those that the caller did not supply.
    fn add_job(&mut self, job: &'a Job, environment: &Environment) -> Vec<&'a Variable> {
        let mut missing = Vec::new();
        for variable in &job.environment.0 {
            let name = (*variable.name).clone();
            match (&variable.value, environment.get(name.as_str())) {
                (Some(value), _) => {
                    let value = Some(Secret::new(value.as_str()));
                    self.add(name, value, "jobs.yaml", variable.is_literal);
                }
                (None, Some(value)) => {
                    self.add(name, Some(Secret::new(value)), "jobs.yaml", false);
                }
                // An env file may have it.
                (None, None) => missing.push(variable),
            }
        }
        missing
    }

    /// A proxy's address may hold a password; which hosts need none is no secret.
    fn add_proxy(&mut self, name: EnvName, value: &Secret) {
        let given = Given {
            value: Some(value.clone()),
            origin: "docker's config.json".to_owned(),
            is_public: false,
            is_secret: !name.as_str().eq_ignore_ascii_case("no_proxy"),
        };
        self.given.insert(name, given);
    }

    /// Of one that is given twice, the last counts. One that the caller has not set takes away
    /// what the image says, and nothing else.
    fn add_flags(&mut self, flags: &[(EnvName, Option<Secret>)], environment: &Environment) {
        let last: IndexMap<_, _> = flags.iter().map(|(name, value)| (name, value)).collect();
        for (name, value) in last {
            let callers = || environment.get(name.as_str()).map(Secret::new);
            let value = value.clone().or_else(callers);
            if value.is_none() && self.value(name).is_some() {
                let origin = &self.given[name].origin;
                self.warnings.push(format!(
                    "`--env {name}`: the caller has not set it, so it keeps its value of {origin}"
                ));
                continue;
            }
            self.add(name.clone(), value, "--env", false);
        }
    }
}

/// Lets a run see no GPU, whatever its image says, unless somebody says what it sees.
pub(super) fn hide_gpus(plan: &mut RunPlan) {
    if plan
        .variables
        .iter()
        .any(|variable| variable.name == GPU_VARIABLE)
    {
        return;
    }
    let name = GPU_VARIABLE.parse().expect("it is a name");
    plan.spec
        .environment
        .push((name, Some(Secret::new("void"))));
    plan.variables.push(VariableRecord {
        name: GPU_VARIABLE.to_owned(),
        origin: "jobctl".to_owned(),
        value: Some("void".to_owned()),
        digest: None,
        is_secret: false,
    });
}

/// Whether a secret is looked for in what the run says. A proxy without a password is none.
fn is_masked(value: &Secret) -> bool {
    let is_address = ["http://", "https://", "socks5://"]
        .iter()
        .any(|scheme| value.expose().starts_with(scheme));
    !is_address || value.expose().contains('@')
}

fn unset(variable: &Variable, manifest: &Manifest, job: &Name) -> Diagnostic {
    let name = &*variable.name;
    Rule::EnvUnset
        .error(format!(
            "job `{job}`: `{name}` has no value, and the caller has not set it"
        ))
        .at(&manifest.source, variable.name.span(), "")
        .help(format!(
            "set it: `{name}=… jobctl run {job}`; or leave it out: `--allow-unset`"
        ))
}

//! The variables of a run, in docker's order.

use indexmap::IndexMap;

use super::{RunFlags, RunPlan, Subject};
use crate::diagnostic::Diagnostic;
use crate::facts::Environment;
use crate::manifest::env_file::EnvFile;
use crate::manifest::schema::{Job, Variable};
use crate::manifest::{Manifest, Rule};
use crate::model::{EnvName, Name, Secret, Sensitive};
use crate::records::VariableRecord;
use crate::records::mask::Masker;

/// Where the container's certificate authorities appear.
pub const CA_BUNDLE_TARGET: &str = "/run/jobctl/ca-bundle.crt";
/// Where most programs look for the name of a file of certificate authorities.
const CA_BUNDLE_VARIABLE: &str = "SSL_CERT_FILE";
/// Which GPUs NVIDIA's runtime gives a container; `void` for none, whatever the image says.
const GPU_VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";
/// A value of fewer bytes holds a secret by chance: `train`, `test`, `1337`.
pub(in crate::plan) const HELD_BYTES: usize = 8;

/// The files of a run that are read before it is planned: each with its path as the user knows it.
#[derive(Debug, Clone, Default)]
pub struct EnvFiles {
    /// Those of the job, in order.
    pub of_job: Vec<(String, EnvFile)>,
    /// Those of the command line, in order.
    pub of_flags: Vec<(String, EnvFile)>,
    /// What is in the files of the manifest's secrets.
    pub secrets: Vec<Secret>,
}

/// A variable as it was given last.
struct Given {
    value: Option<Secret>,
    origin: String,
    from: From,
}

/// How a value came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// It is written in jobs.yaml for all to read, or is jobctl's own.
    Text,
    /// Variables were put into it.
    Interpolation,
    /// The user gave it.
    User,
}

/// The variables of a run, as they go into a plan.
pub(super) struct Settled {
    /// For the container.
    pub(super) variables: Vec<(EnvName, Option<Secret>)>,
    /// For the record, in the same order.
    pub(super) records: Vec<VariableRecord>,
    /// The values that nobody may see, each once, and their parts.
    pub(super) secrets: Vec<Secret>,
    /// What else is a secret.
    pub(super) sensitive: Sensitive,
    /// What the user should know of it.
    pub(super) warnings: Vec<String>,
}

/// The variables of a run: each at the place where it was first given, with the value that it was
/// given last. That is what a container of docker's sees, too.
pub(super) struct Variables {
    given: IndexMap<EnvName, Given>,
    sensitive: Sensitive,
    /// Secrets that are not variables of the run: declared, or put into something.
    known: Vec<Secret>,
    pub(super) warnings: Vec<String>,
    pub(super) errors: Vec<Diagnostic>,
}

impl Variables {
    /// Image < env files < `environment` < `--env-file` < docker's proxies < `--env`.
    ///
    /// Docker's proxies give way to those of the job, as compose has it.
    pub(super) fn collect(
        subject: &Subject<'_>,
        flags: &RunFlags,
        files: &EnvFiles,
        environment: &Environment,
    ) -> Self {
        let mut variables = Self::new(subject, files, environment);
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
                let value = Some(value.clone());
                variables.add(name, value, VariableRecord::DOCKER, From::User);
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

    fn new(subject: &Subject<'_>, files: &EnvFiles, environment: &Environment) -> Self {
        let mut known = files.secrets.clone();
        let mut names = Vec::new();
        let mut interpolated: Vec<(&str, &Secret)> = Vec::new();
        if let Subject::Job(manifest, _, job) = subject {
            let secrets = manifest.root.secrets.values();
            let variables = secrets.filter_map(|secret| secret.value.environment.as_deref());
            names.extend(variables.map(EnvName::as_str));
            known.extend(
                names
                    .iter()
                    .filter_map(|name| environment.get(name))
                    .map(Secret::new),
            );
            names.extend(job.sensitive.iter().map(|name| name.as_str()));
            let given = manifest.interpolated.iter();
            interpolated.extend(given.filter_map(|(name, value)| Some((&**name, value.as_ref()?))));
        }
        for (_, file) in files.of_job.iter().chain(&files.of_flags) {
            let given = file.interpolated.iter();
            interpolated.extend(given.map(|(name, value)| (&**name, value)));
        }
        let sensitive = Sensitive::new(names);
        for (name, value) in interpolated {
            if sensitive.is_secret(name, value.expose()) {
                known.push(value.clone());
            }
        }
        Self {
            given: IndexMap::new(),
            sensitive,
            known,
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Adds a variable of jobctl's own, unless it was given.
    pub(super) fn add_own(&mut self, name: &str, value: &str) {
        if !self.given.keys().any(|given| given.as_str() == name) {
            let given = Given {
                value: Some(Secret::new(value)),
                origin: VariableRecord::JOBCTL.to_owned(),
                from: From::Text,
            };
            let name = name.parse().expect("jobctl's own names are names");
            self.given.insert(name, given);
        }
    }

    /// Looks for secrets in the words of a command: the job may print them.
    pub(super) fn add_words(&mut self, words: &[String]) {
        let secrets = self.sensitive.secret_words(words).into_iter();
        self.known.extend(secrets.map(Secret::new));
    }

    /// Lets the container find its certificate authorities.
    pub(super) fn add_ca_bundle(&mut self) {
        self.add_own(CA_BUNDLE_VARIABLE, CA_BUNDLE_TARGET);
    }

    /// The variables for the container and for the record.
    pub(super) fn finish(self) -> Settled {
        let is_secret = self.secret_ones();
        let mut secrets = self.known;
        let mut records = Vec::new();
        let mut variables = Vec::new();
        let mut warnings = Vec::new();
        for ((name, given), is_secret) in self.given.into_iter().zip(is_secret) {
            let shown = given.value.as_ref().filter(|_| !is_secret);
            records.push(VariableRecord {
                name: name.to_string(),
                origin: given.origin,
                value: shown.map(|value| value.expose().to_owned()),
                digest: None,
                is_secret,
            });
            if is_secret && let Some(value) = &given.value {
                let length = value.expose().len();
                if (1..Masker::SHORTEST).contains(&length) {
                    warnings.push(format!(
                        "the secret `{name}` has fewer than {} bytes: it is not masked in logs",
                        Masker::SHORTEST
                    ));
                }
                secrets.push(value.clone());
            }
            variables.push((name, given.value));
        }
        let parts = |secret: &Secret| self.sensitive.parts(secret.expose());
        let parts: Vec<_> = secrets.iter().flat_map(parts).map(Secret::new).collect();
        secrets.extend(parts);
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
            sensitive: self.sensitive,
            warnings,
        }
    }

    /// Which of the variables are secrets: by name, by form, or because they hold one.
    fn secret_ones(&self) -> Vec<bool> {
        let value = |given: &Given| given.value.as_ref().map_or("", Secret::expose).to_owned();
        let says_so = |(name, given): (&EnvName, &Given)| {
            self.sensitive.is_secret(name.as_str(), &value(given))
        };
        let mut are_secret: Vec<_> = self.given.iter().map(says_so).collect();
        let mut known = self.known.clone();
        let of_variables = self.given.values().zip(&are_secret);
        let of_variables = of_variables.filter(|(_, is_secret)| **is_secret);
        known.extend(of_variables.filter_map(|(given, _)| given.value.clone()));
        // What holds a secret may be held by another.
        loop {
            let masker = Masker::new(&known);
            let mut found = Vec::new();
            for (given, is_secret) in self.given.values().zip(&mut are_secret) {
                let holds = match given.from {
                    _ if *is_secret => false,
                    From::Text => false,
                    From::Interpolation => masker.finds(&value(given), Masker::SHORTEST),
                    From::User => masker.finds(&value(given), HELD_BYTES),
                };
                if holds {
                    *is_secret = true;
                    found.extend(given.value.clone());
                }
            }
            if found.is_empty() {
                return are_secret;
            }
            known.extend(found);
        }
    }

    fn value(&self, name: &EnvName) -> Option<&Secret> {
        self.given.get(name)?.value.as_ref()
    }

    fn add(&mut self, name: EnvName, value: Option<Secret>, origin: &str, from: From) {
        let given = Given {
            value,
            origin: origin.to_owned(),
            from,
        };
        self.given.insert(name, given);
    }

    fn add_file(&mut self, origin: &str, file: &EnvFile) {
        let from = if file.interpolated.is_empty() {
            From::User
        } else {
            From::Interpolation
        };
        for variable in &file.variables {
            let value = Some(variable.value.clone());
            self.add(variable.name.clone(), value, origin, from);
        }
    }

    /// Adds the variables of a job; gives back those that the caller did not supply.
    fn add_job<'a>(&mut self, job: &'a Job, environment: &Environment) -> Vec<&'a Variable> {
        let mut missing = Vec::new();
        for variable in &job.environment.0 {
            let name = (*variable.name).clone();
            match (&variable.value, environment.get(name.as_str())) {
                (Some(value), _) => {
                    let value = Some(Secret::new(value.as_str()));
                    let from = if variable.is_literal {
                        From::Text
                    } else {
                        From::Interpolation
                    };
                    self.add(name, value, "jobs.yaml", from);
                }
                (None, Some(value)) => {
                    self.add(name, Some(Secret::new(value)), "jobs.yaml", From::User);
                }
                // An env file may have it.
                (None, None) => missing.push(variable),
            }
        }
        missing
    }

    /// Of one that is given twice, the last counts. One that the caller has not set takes away
    /// what the image and docker's configuration say, and nothing else.
    fn add_flags(&mut self, flags: &[(EnvName, Option<Secret>)], environment: &Environment) {
        let last: IndexMap<_, _> = flags.iter().map(|(name, value)| (name, value)).collect();
        for (name, value) in last {
            let callers = || environment.get(name.as_str()).map(Secret::new);
            let value = value.clone().or_else(callers);
            let is_dockers = |given: &Given| given.origin == VariableRecord::DOCKER;
            let is_dockers = self.given.get(name).is_some_and(is_dockers);
            if value.is_none() && self.value(name).is_some() && !is_dockers {
                let origin = &self.given[name].origin;
                self.warnings.push(format!(
                    "`--env {name}`: the caller has not set it, so it keeps its value of {origin}"
                ));
                continue;
            }
            self.add(name.clone(), value, "--env", From::User);
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
        origin: VariableRecord::JOBCTL.to_owned(),
        value: Some("void".to_owned()),
        digest: None,
        is_secret: false,
    });
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

//! What a verb needs of the process: flags, environment, output. The only reader of the three.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::ci::Ci;
use super::globals::{Globals, ProgressStyle};
use super::output::Output;
use super::standard::{Lines, Raw};
use super::threads::{self, NoThread};
use crate::diagnostic::Diagnostic;
use crate::engine::docker::client::Deadlines;
use crate::engine::docker::endpoint::{Endpoint, EndpointError, check_host, resolve};
use crate::engine::docker::{DockerConfig, DockerEngine, EndpointFlags, EngineError};
use crate::event::{Events, Stream};
use crate::facts::Environment;
use crate::manifest;
use crate::model::{RunId, Secret, ValueError, without_users};
use crate::plan::run::{RunPlan, Subject};
use crate::records::{Record, RunFolder, Store};
use crate::report::{self, Progress};

/// What a verb needs of the process.
pub(super) struct Context {
    pub(super) environment: Environment,
    pub(super) globals: Globals,
    pub(super) output: Output,
    pub(super) ci: Ci,
    /// The command line.
    words: Vec<OsString>,
}

impl Context {
    /// Captures the process.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place where the process's environment is read"
    )]
    pub(super) fn of_process(globals: Globals, words: Vec<OsString>) -> Result<Self, ValueError> {
        let here = std::env::current_dir()
            .map_err(|error| ValueError::new(format!("the working directory is gone: {error}")))?;
        let folder = match &globals.directory {
            Some(directory) => here.join(directory),
            None => here,
        };
        if !folder.is_dir() {
            let message = format!("--directory: `{}` is not a directory", folder.display());
            return Err(ValueError::new(message));
        }
        if let Some(host) = &globals.host
            && let Err(error) = check_host(host)
        {
            return Err(ValueError::new(error.to_string()).help(error.help()));
        }
        let environment = Environment::new(std::env::vars_os(), folder);
        let ci = Ci::of(&environment);
        let output = Output::new(&globals, ci.clone());
        Ok(Self {
            environment,
            globals,
            output,
            ci,
            words,
        })
    }

    /// The manifest that is meant: its path, and the path as the user knows it.
    pub(super) fn manifest(&self) -> Result<(PathBuf, PathBuf), Box<Diagnostic>> {
        let here = self.environment.current_dir();
        if let Some(file) = &self.globals.file {
            return Ok((here.join(file), file.clone()));
        }
        let Some(found) = manifest::find(here) else {
            return Err(Box::new(manifest::not_found(here)));
        };
        let shown = relative(&found, here);
        Ok((found, shown))
    }

    /// Whether the manifest that was named is there: runs are kept beside it, and a slip would find none.
    pub(super) fn check_file(&self) -> Result<(), String> {
        let here = self.environment.current_dir();
        match &self.globals.file {
            Some(file) if !here.join(file).exists() => {
                Err(format!("--file: `{}` does not exist", file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Where runs are kept: `JOBCTL_STATE_DIR`; else beside jobs.yaml; else among the user's state,
    /// as the XDG Base Directory Specification has it.
    pub(super) fn state_dir(&self) -> PathBuf {
        let environment = &self.environment;
        let here = environment.current_dir();
        // A link is followed where the user has named it, and not where a repository may have brought it.
        if let Some(folder) = environment.path("JOBCTL_STATE_DIR") {
            return resolved(here.join(folder));
        }
        if let Ok((manifest, _)) = self.manifest()
            && let Some(folder) = manifest.parent()
        {
            return folder.join(".jobctl");
        }
        self.user_state().unwrap_or_else(|| here.join(".jobctl"))
    }

    /// Where what is the user's and no project's is kept, as the XDG Base Directory Specification has it.
    pub(super) fn user_state(&self) -> Option<PathBuf> {
        let environment = &self.environment;
        let state = environment.path("XDG_STATE_HOME");
        let state = state.filter(|folder| folder.is_absolute());
        let home = environment.home().filter(|home| home.is_absolute());
        let state = state.or_else(|| Some(home?.join(".local/state")))?;
        Some(resolved(state.join("jobctl")))
    }

    /// The runs.
    pub(super) fn store(&self) -> Store {
        Store::new(self.state_dir())
    }

    /// The run that is meant.
    pub(super) fn resolve(&self, run: &str) -> Result<RunId, Box<Diagnostic>> {
        let read = |(path, shown): (PathBuf, PathBuf)| {
            manifest::load(&path, &shown, &self.environment).ok()
        };
        // What is wrong with jobs.yaml is no matter here.
        let manifest = self.manifest().ok().and_then(read);
        let names = manifest.iter().flat_map(|manifest| &manifest.root.jobs);
        let jobs: Vec<_> = names.map(|(name, _)| name.to_string()).collect();
        let found = self.store().resolve(run, &jobs);
        found.map_err(|error| Box::new((&error).into()))
    }

    /// That a job is not one of jobs.yaml, and which one was likely meant; nothing where it is one, or where
    /// no jobs.yaml can be read.
    pub(super) fn unknown_job(&self, job: &str) -> Option<Diagnostic> {
        let (path, shown) = self.manifest().ok()?;
        let manifest = manifest::load(&path, &shown, &self.environment).ok()?;
        let error = Subject::job(&manifest, Some(job)).err()?;
        Some(error.into())
    }

    /// The run that is meant, and its record.
    pub(super) fn find_run(&self, run: &str) -> Result<(RunFolder, Record), Box<Diagnostic>> {
        let folder = self.store().run(self.resolve(run)?);
        match folder.read() {
            Ok(record) => Ok((folder, record)),
            Err(error) => Err(Box::new((&error).into())),
        }
    }

    /// How wide what is written to stdout may be.
    pub(super) fn columns(&self) -> usize {
        let given = self.environment.get("COLUMNS");
        if let Some(columns) = given.and_then(|text| text.parse().ok()) {
            return columns;
        }
        match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 => size.ws_col.into(),
            _ => 80,
        }
    }

    /// What the command line says about the engine.
    pub(super) fn endpoint(&self) -> EndpointFlags {
        EndpointFlags {
            host: self.globals.host.clone(),
            context: self.globals.context.clone(),
        }
    }

    /// Where the engine is that is meant.
    pub(super) fn place(&self) -> Result<Endpoint, EndpointError> {
        let config = DockerConfig::read(&self.environment)?;
        resolve(&self.endpoint(), &self.environment, &config)
    }

    /// Connects to the engine that is meant.
    pub(super) async fn connect(&self) -> Result<DockerEngine, EngineError> {
        let endpoint = self.place()?;
        let ssh = self.environment.find_program("ssh");
        let engine = DockerEngine::connect(endpoint, ssh, Deadlines::default()).await?;
        Ok(engine.with_credentials(self.environment.clone()))
    }

    /// The command line as a record may keep it.
    pub(super) fn recorded_words(&self, plans: &[&RunPlan]) -> Vec<String> {
        let words = self
            .words
            .iter()
            .map(|word| word.to_string_lossy().into_owned());
        let words = words.collect();
        let words = plans
            .iter()
            .fold(words, |words: Vec<_>, plan| plan.discretion().words(&words));
        let words = words.iter();
        words.map(|word| without_users(word).into_owned()).collect()
    }

    /// This program, to keep running after this process, with what it needs to find the same engine: flags,
    /// and the few environment variables that it, ssh and credential helpers read. Whatever else your shell
    /// has, a password for one, does not stay in a process that does.
    pub(super) fn program(&self) -> io::Result<Program> {
        let names = self.environment.names().filter(|name| is_passed_on(name));
        let variables = names.filter_map(|name| {
            let value = self.environment.path(name)?;
            // It works in another directory.
            let is_relative = ["DOCKER_CERT_PATH", "DOCKER_CONFIG"].contains(&name);
            let value = if is_relative {
                self.environment.current_dir().join(value)
            } else {
                value
            };
            Some((name.to_owned(), value))
        });
        let mut args = Vec::new();
        let flags = [
            ("--host", &self.globals.host),
            ("--context", &self.globals.context),
        ];
        for (flag, value) in flags {
            args.extend(
                value
                    .iter()
                    .flat_map(|value| [flag.to_owned(), value.clone()]),
            );
        }
        Ok(Program {
            path: std::env::current_exe()?,
            args,
            variables: variables.collect(),
            state_dir: self.state_dir(),
        })
    }

    /// The proxies that docker's configuration names for the engine that is meant. What is wrong
    /// with either is told when the engine is connected to.
    pub(super) fn proxy_args(&self) -> BTreeMap<String, Secret> {
        let Ok(config) = DockerConfig::read(&self.environment) else {
            return BTreeMap::new();
        };
        let endpoint = resolve(&self.endpoint(), &self.environment, &config);
        let address = endpoint.map_or_else(|_| String::new(), |found| found.address.to_string());
        config.proxy_args(&address)
    }

    /// Runs what waits for engines and disks, and shows on stderr what it tells meanwhile.
    pub(super) fn watch<T>(&self, work: impl AsyncFnOnce(&Events) -> T) -> io::Result<T> {
        let reporter = report::reporter(
            self.progress(),
            self.ci
                .marks
                .map(|marks| (marks, Box::new(Raw(Stream::Stderr)) as Box<_>)),
            crate::facts::host::now(),
            Box::new(Lines(Stream::Stderr)),
        );
        let (events, received) = Events::channel();
        let runtime = threads::runtime()?;
        let drawn = report::spawn(reporter, received).map_err(|error| NoThread::of(&error))?;
        let value = runtime.block_on(async {
            let value = work(&events).await;
            drop(events);
            value
        });
        // A disk that hangs holds its thread for ever; nobody waits for that.
        runtime.shutdown_background();
        // A display that failed has nothing to do with the work.
        self.output.note_shown(&drawn.join().unwrap_or_default());
        Ok(value)
    }

    /// Adds to what a CI system shows people of this step.
    pub(super) fn summary(&self, text: impl FnOnce() -> String) -> io::Result<()> {
        if !self.ci.summary(text)? {
            self.output
                .warning("the step's summary is full: what this jobctl did is not in it");
        }
        Ok(())
    }

    /// Whether it is reported how a run ended that this process did not start: standard error is a terminal,
    /// CI's log, or the user asks for more.
    pub(super) fn tells_of_runs(&self) -> bool {
        let is_ci = self.environment.get_non_empty("CI").is_some();
        match self.globals.progress {
            ProgressStyle::Auto => std::io::stderr().is_terminal() || is_ci,
            _ => true,
        }
    }

    /// How progress is shown.
    pub(super) fn progress(&self) -> Progress {
        match self.globals.progress {
            _ if self.globals.quiet => Progress::Quiet,
            ProgressStyle::Tty => Progress::Terminal,
            ProgressStyle::Plain => Progress::Plain,
            ProgressStyle::Json => Progress::Json,
            ProgressStyle::Quiet => Progress::Quiet,
            ProgressStyle::Auto => {
                let is_dumb = self.environment.get("TERM") == Some("dumb");
                let is_ci = self.environment.get_non_empty("CI").is_some();
                if std::io::stderr().is_terminal() && !is_dumb && !is_ci {
                    Progress::Terminal
                } else {
                    Progress::Plain
                }
            }
        }
    }
}

/// How this program is started once more, to keep running after this process.
#[derive(Debug, Clone)]
pub(super) struct Program {
    path: PathBuf,
    args: Vec<String>,
    variables: Vec<(String, PathBuf)>,
    /// The state directory.
    pub(super) state_dir: PathBuf,
}

impl Program {
    /// It, to work on another state directory.
    pub(super) fn on(self, state_dir: PathBuf) -> Self {
        Self { state_dir, ..self }
    }

    /// It, for one of its own verbs, which works on the state directory.
    pub(super) fn command(&self, verb: &str) -> std::process::Command {
        let mut command = std::process::Command::new(&self.path);
        command.env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(&self.args);
        command.arg(verb).arg("--state").arg(&self.state_dir);
        command
    }
}

/// Environment variables that supervisors and listeners need.
const PASSED_ON: [&str; 27] = [
    // What finds the engine.
    "DOCKER_API_VERSION",
    "DOCKER_CERT_PATH",
    "DOCKER_CONFIG",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "HOME",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    // What ssh and the user's agents need.
    "GNUPGHOME",
    "KRB5CCNAME",
    "LOGNAME",
    "SSH_AUTH_SOCK",
    "USER",
    // What a pull needs: credentials, and where helpers find theirs.
    "AWS_CONFIG_FILE",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SHARED_CREDENTIALS_FILE",
    "CLOUDSDK_CONFIG",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_AUTH_CONFIG",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "PASSWORD_STORE_DIR",
    "REGISTRY_AUTH_FILE",
];

fn is_passed_on(name: &str) -> bool {
    let prefixes = ["JOBCTL_", "XDG_"];
    PASSED_ON.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// A path without the links on the way to it, as far as it exists.
pub(super) fn resolved(path: PathBuf) -> PathBuf {
    match path.canonicalize() {
        Ok(resolved) => resolved,
        Err(_) => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => resolved(parent.to_owned()).join(name),
            _ => path,
        },
    }
}

/// A file as seen from a folder: `jobs.yaml`, `../jobs.yaml`.
fn relative(file: &Path, folder: &Path) -> PathBuf {
    let Some(parent) = file.parent() else {
        return file.to_owned();
    };
    let levels = folder.ancestors().position(|ancestor| ancestor == parent);
    let (Some(levels), Some(name)) = (levels, file.file_name()) else {
        return file.to_owned();
    };
    let mut path: PathBuf = std::iter::repeat_n("..", levels).collect();
    path.push(name);
    path
}

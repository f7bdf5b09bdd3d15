//! `jobctl init`

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::Ending;
use super::context::{Context, resolved};
use crate::diagnostic::{Diagnostic, plain};
use crate::exit::Exit;
use crate::manifest::{self, Manifest};
use crate::model::seen_from;
use crate::ops::init::{Origin, OriginError, Project, Workflow};

/// Write a CI workflow for the jobs of a directory
///
/// It builds the images of jobs.yaml for every change, and pushes those of the default branch and of tags.
/// The file is written at the top of the git repository, and is yours to change; one that already exists is
/// left unchanged. CI gets jobctl from where you say, pinned to that very content; on a terminal you are asked.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The directory of jobs.yaml; here, if not given
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// The CI system
    #[arg(long, value_name = "SYSTEM")]
    ci: System,
    /// Where CI gets jobctl from: a git address with a tag or commit (`https://…@v1.2.3`), an image with its
    /// digest, or a file of the repository, by its path from the top
    #[arg(long, value_name = "SOURCE")]
    jobctl: Option<String>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// A CI system.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum System {
    /// `.github/workflows/jobctl.yml`
    Github,
    /// `.gitlab-ci.yml`
    Gitlab,
}

impl System {
    fn file(self) -> &'static str {
        match self {
            Self::Github => ".github/workflows/jobctl.yml",
            Self::Gitlab => ".gitlab-ci.yml",
        }
    }

    fn system(self) -> crate::ops::init::System {
        match self {
            Self::Github => crate::ops::init::System::GitHub,
            Self::Gitlab => crate::ops::init::System::GitLab,
        }
    }
}

pub(super) fn exec(args: &InitArgs, context: &mut Context) -> Ending {
    let here = context.environment.current_dir().to_owned();
    let directory = here.join(&args.folder);
    let file = context.globals.file.as_ref().map(|file| here.join(file));
    let project = match Project::find(&directory, file) {
        Ok(project) => project,
        Err(error) => {
            let message = format!("can't read `{}`: {}", args.folder.display(), plain(&error));
            return Ok(context.output.usage(&message, None));
        }
    };
    let path = project.top.join(args.ci.file());
    let is_top = resolved(directory.clone()) == project.top;
    let shown = if is_top {
        let shown = args.folder.join(args.ci.file());
        shown.strip_prefix(".").map(Path::to_owned).unwrap_or(shown)
    } else {
        // A CI system reads it at the top of the repository only.
        seen_from(&path, &resolved(here))
    };
    // Nothing is asked or looked up in vain.
    if !args.force && path.symlink_metadata().is_ok() {
        return Ok(already_there(context, &shown));
    }
    let manifest = match manifest(context, &project) {
        Ok(manifest) => manifest,
        Err(found) => {
            context.output.failure(&found);
            return Ok(Exit::Usage);
        }
    };
    let source = match &args.jobctl {
        Some(source) => Some(source.clone()),
        None => asked(context)?,
    };
    let Some(source) = source else {
        let message = "`--jobctl` is missing: where does CI get jobctl from?";
        let help = format!("`--jobctl SOURCE`: {}", OriginError::HELP);
        return Ok(context.output.usage(message, Some(&help)));
    };
    let origin = match Origin::pin(&source, &project.top) {
        Ok(origin) => origin,
        Err(error) => {
            let message = format!("--jobctl: {error}");
            return Ok(context.output.usage(&message, Some(&error.help)));
        }
    };
    let workflow = match Workflow::of(origin, &project, manifest.as_ref()) {
        Ok(workflow) => workflow,
        Err(message) => return Ok(context.output.usage(&message, None)),
    };
    match write(&path, &workflow.file(args.ci.system()), args.force) {
        Ok(()) => {
            context.output.note(&format!("wrote {}", shown.display()));
            if manifest.is_none() {
                let directory = args.folder.display();
                context.output.warning(&format!(
                    "there is no jobs.yaml in `{directory}`: the pipeline fails until there is one"
                ));
            }
            Ok(Exit::Success)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(already_there(context, &shown))
        }
        Err(error) => {
            let message = format!("can't write `{}`: {}", shown.display(), plain(&error));
            Ok(context.output.error(&message))
        }
    }
}

/// The project's manifest, if it has one.
fn manifest(context: &Context, project: &Project) -> Result<Option<Manifest>, Vec<Diagnostic>> {
    let Some(path) = &project.manifest else {
        return Ok(None);
    };
    let here = resolved(context.environment.current_dir().to_owned());
    let named = context.globals.file.clone();
    let shown = named.unwrap_or_else(|| seen_from(path, &here));
    manifest::load(path, &shown, &context.environment).map(Some)
}

fn already_there(context: &Context, shown: &Path) -> Exit {
    let why = Diagnostic::error("init", format!("`{}` already exists", shown.display()))
        .help("`--force` replaces it");
    context.output.failed(&why)
}

/// What the user answers on a terminal; nothing elsewhere.
fn asked(context: &Context) -> io::Result<Option<String>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    context.output.note(&format!(
        "where does CI get jobctl from? {}",
        OriginError::HELP
    ));
    context.output.ask("source:");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    let answer = answer.trim();
    Ok((!answer.is_empty()).then(|| answer.to_owned()))
}

fn write(path: &Path, text: &str, is_forced: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true);
    if is_forced {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(path)?.write_all(text.as_bytes())
}

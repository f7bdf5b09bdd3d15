//! `jobctl init`

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::Ending;
use super::context::Context;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::ops::init::{Origin, OriginError};

/// Write a CI workflow for the jobs of a directory
///
/// It builds the images of jobs.yaml for every change, and pushes those of the main branch and of tags.
/// The file is yours to change; one that is there already is left as it is. CI gets jobctl from where you
/// say, pinned to that very content; on a terminal you are asked.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The repository's folder; here, if not given
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// The CI system
    #[arg(long, value_name = "SYSTEM")]
    ci: System,
    /// Where CI gets jobctl from: a git address with a tag or commit (`https://…@v1.2.3`), an image with its
    /// digest, or a file of the repository
    #[arg(long, value_name = "SOURCE")]
    jobctl: Option<String>,
    /// Replace the file that is there
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
    let shown = args.folder.join(args.ci.file());
    let folder = context.environment.current_dir().join(&args.folder);
    let path = folder.join(args.ci.file());
    // Nothing is asked or looked up in vain.
    if !args.force && path.symlink_metadata().is_ok() {
        return already_there(context, &shown);
    }
    let source = match &args.jobctl {
        Some(source) => Some(source.clone()),
        None => asked(context)?,
    };
    let Some(source) = source else {
        let message = "it is not said where CI gets jobctl from";
        let help = format!("`--jobctl SOURCE`: {}", OriginError::HELP);
        return Ok(context.output.usage(message, Some(&help)));
    };
    let origin = match Origin::pin(&source, &folder) {
        Ok(origin) => origin,
        Err(error) => {
            let message = format!("--jobctl: {error}");
            return Ok(context.output.usage(&message, Some(&error.help)));
        }
    };
    match write(&path, &origin.file(args.ci.system()), args.force) {
        Ok(()) => {
            let shown = shown.strip_prefix(".").unwrap_or(&shown);
            context.output.note(&format!("wrote {}", shown.display()));
            Ok(Exit::Success)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            already_there(context, &shown)
        }
        Err(error) => {
            let message = format!("can't write `{}`: {error}", shown.display());
            Ok(context.output.error(&message))
        }
    }
}

fn already_there(context: &Context, shown: &Path) -> Ending {
    let why = Diagnostic::error("init", format!("`{}` is there already", shown.display()))
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
    context.output.ask("source: ");
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

//! `jobctl init`

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Ending;
use super::context::Context;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;

/// Write a CI workflow for the jobs of a directory
///
/// It builds the images of jobs.yaml for every change, and pushes those of the main branch and of tags.
/// The file is yours to change; one that is there already is left as it is.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The repository's folder; here, if not given
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// The CI system
    #[arg(long, value_name = "SYSTEM")]
    ci: System,
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
    /// The file, and what is in it.
    fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::Github => (
                ".github/workflows/jobctl.yml",
                include_str!("../../ci/github.yml"),
            ),
            Self::Gitlab => (".gitlab-ci.yml", include_str!("../../ci/gitlab.yml")),
        }
    }
}

pub(super) fn exec(args: &InitArgs, context: &mut Context) -> Ending {
    let (name, text) = args.ci.file();
    let shown = args.folder.join(name);
    let path = context.environment.current_dir().join(&shown);
    match write(&path, text, args.force) {
        Ok(()) => {
            let shown = shown.strip_prefix(".").unwrap_or(&shown);
            context.output.note(&format!("wrote {}", shown.display()));
            Ok(Exit::Success)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let why = Diagnostic::error("init", format!("`{}` is there already", shown.display()))
                .help("`--force` replaces it");
            context.output.failed(&why)
        }
        Err(error) => {
            let message = format!("can't write `{}`: {error}", shown.display());
            Ok(context.output.error(&message))
        }
    }
}

fn write(path: &PathBuf, text: &str, is_forced: bool) -> io::Result<()> {
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

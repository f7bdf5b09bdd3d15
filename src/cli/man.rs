//! `jobctl man`

use std::path::PathBuf;

use clap::Args;

use super::Ending;
use super::context::Context;
use crate::diagnostic::plain;
use crate::exit::Exit;

/// Print jobctl's man page, or write those of all commands
///
/// To read it: `jobctl man | man -l -`
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write the man pages of jobctl and all its verbs into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn exec(args: &ManArgs, context: &mut Context) -> Ending {
    let command = super::command();
    if let Some(folder) = &args.out {
        let directory = context.environment.current_dir().join(folder);
        let written = std::fs::create_dir_all(&directory)
            .and_then(|()| clap_mangen::generate_to(command, directory));
        if let Err(error) = written {
            let message = format!("can't write to `{}`: {}", folder.display(), plain(&error));
            return Ok(context.output.error(&message));
        }
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        context.output.text(&String::from_utf8_lossy(&page));
    }
    Ok(Exit::Success)
}

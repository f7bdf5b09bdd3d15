//! `jobctl completions`

use clap::Args;
use clap_complete::Shell;

use super::context::Context;
use crate::exit::Exit;

/// Print completions for a shell
///
/// For bash: `jobctl completions bash > /etc/bash_completion.d/jobctl`
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn exec(args: &CompletionsArgs, context: &mut Context) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "jobctl", &mut script);
    context.output.text(&String::from_utf8_lossy(&script));
    Exit::Success
}

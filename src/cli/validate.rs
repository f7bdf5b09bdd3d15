//! `jobctl validate`

use clap::Args;

use super::context::Context;
use crate::exit::Exit;
use crate::ops;
use crate::report::{validation_human, validation_json};

/// Check jobs.yaml, and report everything that is wrong with it
///
/// Ends with 0 if it is valid, 2 if it is not. Needs no engine.
#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// Count warnings as errors
    #[arg(long)]
    strict: bool,
}

pub(super) fn exec(args: &ValidateArgs, context: &mut Context) -> Exit {
    let validation = ops::validate::validate(
        context.manifest(),
        &context.state_dir(),
        &context.environment,
    );
    context.output.all_diagnostics(&validation.diagnostics);
    context.output.result(
        || validation_human(&validation),
        || validation_json(&validation),
    );
    let is_accepted =
        validation.defined.is_some() && (!args.strict || validation.diagnostics.is_empty());
    if is_accepted {
        Exit::Success
    } else {
        Exit::Usage
    }
}

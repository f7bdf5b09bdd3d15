//! `jobctl schema`

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::context::Context;
use crate::exit::Exit;
use crate::manifest::json_schema;
use crate::report::SCHEMAS;

/// Print the JSON Schema of jobs.yaml, or of a result
///
/// Editors complete and check jobs.yaml with it. Name it in the file's first line:
/// `# yaml-language-server: $schema=jobs.schema.json`. With a RESULT, the schema of what `--format json`
/// prints: `push` for `jobctl.push/1`.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// What `--format json` prints
    #[arg(
        value_name = "RESULT",
        value_parser = PossibleValuesParser::new(SCHEMAS.map(|(name, _)| name))
    )]
    result: Option<String>,
}

pub(super) fn exec(args: &SchemaArgs, context: &mut Context) -> Exit {
    let of_result = args.result.as_deref().and_then(|result| {
        let mut schemas = SCHEMAS.iter();
        schemas.find(|(name, _)| *name == result)
    });
    match of_result {
        Some((_, schema)) => context.output.text(schema.trim_end()),
        None => context.output.text(&format!("{:#}", json_schema())),
    }
    Exit::Success
}

//! `jobctl schema`

use clap::Args;

use super::Ending;
use super::context::Context;
use crate::exit::Exit;
use crate::manifest::json_schema;

/// Print the JSON Schema of jobs.yaml
///
/// Editors complete and check jobs.yaml with it. Name it in the file's first line:
/// `# yaml-language-server: $schema=jobs.schema.json`
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {}

pub(super) fn exec(_: &SchemaArgs, context: &mut Context) -> Ending {
    context.output.text(&format!("{:#}", json_schema()))?;
    Ok(Exit::Success)
}

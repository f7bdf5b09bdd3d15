//! Files of environment variables.

use schemars::JsonSchema;

use crate::manifest::decode::{Decode, Decoder, Field, Located, Table, decode_words};
use crate::manifest::node::{Kind, Node};
use crate::model::HostPath;

/// Files of environment variables: a path, or a list of paths and mappings. Later ones win.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EnvFiles(pub Vec<EnvFile>);

/// A file of environment variables.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EnvFile {
    /// The file, relative to this file.
    pub path: Located<HostPath>,
    /// `raw` (docker's `--env-file`, the default) or `compose` (quotes, comments, variables).
    pub format: Option<EnvFileFormat>,
    /// Whether it is an error if the file is not there; it is, unless this is `false`.
    pub required: Option<bool>,
}

/// How a file of environment variables is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum EnvFileFormat {
    /// As `docker run --env-file`: the value is everything behind the `=`.
    Raw,
    /// As compose: quotes, comments, and variables have a meaning.
    Compose,
}

decode_words!(EnvFileFormat, "`raw` or `compose`", {
    "raw" => Raw,
    "compose" => Compose,
});

impl Decode for EnvFile {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Kind::Scalar(_) = node.kind {
            return Some(Self {
                path: Located::decode(node, decoder)?,
                format: None,
                required: None,
            });
        }
        let mut table = Table::open(node, "an env file", decoder)?;
        let path = table.field("path", decoder);
        let format = table.field("format", decoder);
        let required = table.field("required", decoder);
        table.close(decoder);
        Some(Self {
            path: path?,
            format: format?,
            required: required?,
        })
    }
}

impl Decode for EnvFiles {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match node.kind {
            Kind::List(_) => Vec::decode(node, decoder).map(Self),
            _ => EnvFile::decode(node, decoder).map(|file| Self(vec![file])),
        }
    }
}

impl Field for EnvFiles {
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn present(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Self::decode(node, decoder)
    }
}

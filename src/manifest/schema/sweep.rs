//! Sweeps.

use schemars::JsonSchema;

use crate::manifest::decode::{Decode, Decoder, Located, Map, decode_table};
use crate::manifest::node::Node;
use crate::model::{EnvName, Name, Objective};

/// A job that is run once for each combination of values.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Sweep {
    /// The job.
    pub job: Located<Name>,
    /// Environment variables, and the values that each takes.
    pub matrix: Located<Map<EnvName, Values>>,
    /// How many members run at a time; 1 if not given.
    pub parallel: Option<Located<u32>>,
    /// Which member is the best: `max accuracy`, `min loss`.
    pub best: Option<Located<Objective>>,
}

decode_table!(Sweep, "a sweep", { job, matrix, parallel, best });

/// The values that a variable takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Values(pub Vec<Located<String>>);

impl Decode for Values {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let values = Vec::decode(node, decoder)?;
        if values.is_empty() {
            decoder.invalid(
                node,
                "the list of values is empty",
                r#"give it at least one value: `["1", "2"]`"#.to_owned(),
            );
            return None;
        }
        Some(Self(values))
    }
}

//! What a job needs of other jobs.

use schemars::JsonSchema;

use crate::manifest::decode::{Decode, Decoder, Entry, Field, Located, Names, decode_table};
use crate::manifest::node::{Kind, Node};
use crate::model::{ContainerPath, Gate, Name};

/// Jobs that must have succeeded first: a mapping of what is taken from each, or a list of names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Needs(pub Names<Need>);

/// What is taken from a job that is needed.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Need {
    /// Outputs of that job, and where each appears in this job's container (read-only).
    #[schemars(default)]
    pub outputs: Names<Located<ContainerPath>>,
    /// What its metrics must fulfil: `accuracy >= 0.8`, `loss <= promoted.loss + 0.01`.
    pub gate: Option<Located<Gate>>,
}

decode_table!(NeedTable, "a need", { outputs, gate });

/// A need that is written as a mapping.
struct NeedTable {
    outputs: Names<Located<ContainerPath>>,
    gate: Option<Located<Gate>>,
}

impl Decode for Need {
    /// Nothing at all is a need without conditions: `needs: { data: }`.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if node.kind == Kind::Null {
            return Some(Self::default());
        }
        let NeedTable { outputs, gate } = NeedTable::decode(node, decoder)?;
        Some(Self { outputs, gate })
    }
}

impl Decode for Needs {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.kind {
            Kind::List(items) => {
                let mut needs = Names::new();
                for item in items {
                    let key: Located<Name> = Located::decode(item, decoder)?;
                    let extent = key.span();
                    let value = Need::default();
                    needs.insert((*key).clone(), Entry { key, value, extent });
                }
                Some(Self(needs))
            }
            _ => Names::decode(node, decoder).map(Self),
        }
    }
}

impl Field for Needs {
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn present(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Self::decode(node, decoder)
    }
}

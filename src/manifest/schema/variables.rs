//! Environment variables and build arguments.

use crate::manifest::Rule;
use crate::manifest::decode::{Decode, Decoder, Field, Located};
use crate::manifest::node::{Kind, Node};
use crate::model::EnvName;

/// Variables by name, as a mapping (`NAME: value`) or a list (`NAME=value`), as in compose.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variables(pub Vec<Variable>);

/// One variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: Located<EnvName>,
    /// Its value; nothing if the caller's environment must supply it.
    pub value: Option<Located<String>>,
    /// Whether the value is there as it is, with no `${…}` in it.
    pub is_literal: bool,
}

impl Decode for Variables {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => {
                let entries = decoder.map(node)?;
                let variables = entries
                    .iter()
                    .map(|(key, node)| {
                        let name = decoder.key(key);
                        let (value, is_literal) = decoder.within(&key.text, |decoder| {
                            optional_text(node, decoder).map(|value| (value, is_literal(node)))
                        })?;
                        Some(Variable {
                            name: name?,
                            value,
                            is_literal,
                        })
                    })
                    .collect::<Vec<_>>();
                Some(Self(variables.into_iter().flatten().collect()))
            }
            Kind::List(items) => {
                let variables: Vec<_> = items.iter().map(|item| listed(item, decoder)).collect();
                let variables = Self(variables.into_iter().flatten().collect());
                variables.report_twice(decoder);
                Some(variables)
            }
            _ => {
                decoder.expected(node, "a mapping of variables such as `SEED: \"1\"`");
                None
            }
        }
    }
}

impl Field for Variables {
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn present(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        Self::decode(node, decoder)
    }
}

impl Variables {
    /// A list can name a variable twice, which a mapping can't.
    fn report_twice(&self, decoder: &mut Decoder<'_>) {
        for (index, variable) in self.0.iter().enumerate() {
            let first = self.0[..index]
                .iter()
                .find(|earlier| *earlier.name == *variable.name);
            if let Some(first) = first {
                let diagnostic = Rule::DuplicateKey
                    .error(format!("the variable `{}` is given twice", *variable.name));
                let diagnostic = decoder
                    .place(diagnostic, variable.name.span(), "the second one")
                    .related(first.name.span(), "the first one")
                    .help("keep one of them");
                decoder.report(diagnostic);
            }
        }
    }
}

/// A value, or nothing where the caller must supply it; nothing at all after an error.
#[expect(
    clippy::option_option,
    reason = "an error and an empty value are two things"
)]
fn optional_text(node: &Node, decoder: &mut Decoder<'_>) -> Option<Option<Located<String>>> {
    match node.kind {
        Kind::Null => Some(None),
        _ => Located::decode(node, decoder).map(Some),
    }
}

fn is_literal(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar(text) if !text.is_interpolated)
}

/// `NAME=value` or `NAME`.
fn listed(node: &Node, decoder: &mut Decoder<'_>) -> Option<Variable> {
    let text = decoder.text(node, "a variable such as `SEED=1`")?;
    let (name, value) = match text.value.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text.value.as_str(), None),
    };
    match name.parse() {
        Ok(name) => Some(Variable {
            name: Located::new(name, node.span.clone()),
            value: value.map(|value| Located::new(value.to_owned(), node.span.clone())),
            is_literal: !text.is_interpolated,
        }),
        Err(error) => {
            decoder.unparsable::<EnvName>(node, error);
            None
        }
    }
}

//! What a container runs.

use crate::manifest::decode::{Decode, Decoder};
use crate::manifest::node::{Kind, Node};

/// A command and its arguments.
///
/// Written as a list, or as one text that is split into words as a shell does it (quotes and
/// backslashes, nothing else), which is how compose reads it. No shell runs unless it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command(pub Vec<String>);

impl Decode for Command {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &node.kind {
            Kind::List(_) => Vec::decode(node, decoder).map(Self),
            Kind::Scalar(text) => {
                if let Ok(words) = shell_words::split(&text.value) {
                    return Some(Self(words));
                }
                decoder.invalid(
                    node,
                    "a quote is not closed",
                    r#"close it, or write a list: `["python", "train.py"]`"#.to_owned(),
                );
                None
            }
            _ => {
                decoder.expected(node, r#"a command such as `["python", "train.py"]`"#);
                None
            }
        }
    }
}

//! GPUs as a key: a scalar, or a mapping.

use crate::manifest::decode::{Decode, Decoder, Table};
use crate::manifest::node::{Kind, Node};
use crate::model::Gpus;

/// GPUs: what docker's `--gpus` takes, `none`, `optional`, a number, or a mapping of `count` or
/// `device_ids`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpusKey(pub Gpus);

impl Decode for GpusKey {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if !matches!(node.kind, Kind::Map(_)) {
            return Gpus::decode(node, decoder).map(Self);
        }
        let mut table = Table::open(node, "`gpus`", decoder)?;
        let count: Option<Option<u32>> = table.field("count", decoder);
        let device_ids: Option<Vec<String>> = table.field("device_ids", decoder);
        table.close(decoder);
        let written = match (count?, device_ids?.as_slice()) {
            (Some(count), []) => format!("count={count}"),
            (None, [first, rest @ ..]) => {
                let ids = std::iter::once(first)
                    .chain(rest)
                    .cloned()
                    .collect::<Vec<_>>();
                format!("device={}", ids.join(","))
            }
            (Some(_), _) => {
                decoder.invalid(
                    node,
                    "both `count` and `device_ids` are given",
                    "keep one: so many GPUs, or these GPUs".to_owned(),
                );
                return None;
            }
            (None, []) => {
                decoder.invalid(
                    node,
                    "neither `count` nor `device_ids` is given",
                    "write `gpus: all`, `gpus: 1` or `gpus: { device_ids: [\"0\"] }`".to_owned(),
                );
                return None;
            }
        };
        match written.parse() {
            Ok(gpus) => Some(Self(gpus)),
            Err(error) => {
                decoder.unparsable::<Gpus>(node, error);
                None
            }
        }
    }
}

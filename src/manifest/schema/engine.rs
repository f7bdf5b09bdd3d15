//! Engines other than this machine's Docker.

use schemars::JsonSchema;

use crate::manifest::decode::{Decode, Decoder, Located, Table};
use crate::manifest::node::Node;

/// An engine that jobs can be sent to with `--on`.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Engine {
    /// Docker Swarm: the swarm that the Docker Engine belongs to.
    Swarm {},
    /// Slurm: a cluster whose `sbatch` is on this machine.
    Slurm {
        /// The partition; the cluster's default if not given.
        partition: Option<Located<String>>,
    },
    /// Kubernetes: the cluster of the current kubeconfig.
    Kubernetes {
        /// The namespace; the context's default if not given.
        namespace: Option<Located<String>>,
    },
}

/// The key that says which engine it is.
#[derive(Clone, Copy)]
enum Type {
    Swarm,
    Slurm,
    Kubernetes,
}

crate::manifest::decode::decode_words!(Type, "`swarm`, `slurm` or `kubernetes`", {
    "swarm" => Swarm,
    "slurm" => Slurm,
    "kubernetes" => Kubernetes,
});

impl Decode for Engine {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut table = Table::open(node, "an engine", decoder)?;
        let engine = match table.field::<Located<Type>>("type", decoder).as_deref() {
            // Without a type no key can be called unknown.
            None => {
                table.close_missing(decoder);
                return None;
            }
            Some(Type::Swarm) => Some(Self::Swarm {}),
            Some(Type::Slurm) => table
                .field("partition", decoder)
                .map(|partition| Self::Slurm { partition }),
            Some(Type::Kubernetes) => table
                .field("namespace", decoder)
                .map(|namespace| Self::Kubernetes { namespace }),
        };
        table.close(decoder);
        engine
    }
}

//! How an image is built.

use schemars::JsonSchema;

use super::Variables;
use crate::manifest::decode::{Decode, Decoder, Located, Table};
use crate::manifest::node::{Kind, Node};
use crate::model::{HostPath, Name, Scalar as _};

/// How an image is built from a directory with a Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Build {
    /// The directory that is sent to the engine; relative to this file, `.` if not given.
    pub context: Option<Located<HostPath>>,
    /// The Dockerfile, relative to the context; `Dockerfile` if not given, or `dockerfile` where only that is there.
    pub dockerfile: Option<Located<HostPath>>,
    /// The stage of the Dockerfile that is built; the last one if not given.
    pub target: Option<Located<String>>,
    /// Build arguments. They stay visible in the image: secrets go under `secrets`.
    #[schemars(default)]
    pub args: Variables,
    /// Secrets that the Dockerfile mounts with `RUN --mount=type=secret,id=NAME`.
    #[schemars(default)]
    pub secrets: Vec<Located<Name>>,
    /// Base images that must be there first.
    #[schemars(default)]
    pub requires: Vec<Located<Name>>,
    /// Certificate authorities that the Dockerfile may mount as the secret `ca-bundle`: `host` for
    /// this machine's, or a file in PEM.
    pub ca_bundle: Option<Located<CaBundle>>,
}

impl Decode for Build {
    /// A text alone is the context, as in compose.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Kind::Scalar(_) = node.kind {
            return Some(Self {
                context: Some(Located::decode(node, decoder)?),
                ..Self::default()
            });
        }
        let mut table = Table::open(node, "`build`", decoder)?;
        let context = table.field("context", decoder);
        let dockerfile = table.field("dockerfile", decoder);
        let target = table.field("target", decoder);
        let args = table.field("args", decoder);
        let secrets = table.field("secrets", decoder);
        let requires = table.field("requires", decoder);
        let ca_bundle = table.field("ca_bundle", decoder);
        table.close(decoder);
        Some(Self {
            context: context?,
            dockerfile: dockerfile?,
            target: target?,
            args: args?,
            secrets: secrets?,
            requires: requires?,
            ca_bundle: ca_bundle?,
        })
    }
}

/// Which certificate authorities a build is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaBundle {
    /// Those that this machine trusts.
    Host,
    /// Those in a file.
    File(HostPath),
}

impl Decode for CaBundle {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.text(node, HostPath::EXPECTED)?;
        if text.value == "host" {
            return Some(Self::Host);
        }
        HostPath::decode(node, decoder).map(Self::File)
    }
}

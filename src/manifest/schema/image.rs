//! Images: defaults for those that jobs build, and base images.

use schemars::JsonSchema;

use super::Build;
use crate::manifest::decode::{Decode, Decoder, Located, decode_table, decode_words};
use crate::manifest::node::Node;
use crate::model::{HostPath, ImageRef, Name, Scalar as _, Version};

/// What holds for the images of all jobs that are built.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ImageDefaults {
    /// Put before every image's name as it is: `registry.example:5000/team-`.
    pub prefix: Option<Located<String>>,
    /// The images' version: SemVer, or `git` to take it from the tag `vX.Y.Z` of the commit.
    pub version: Option<Located<VersionSource>>,
    /// When the tag `latest` moves: for releases (the default), always, or never.
    pub latest: Option<Located<Latest>>,
}

decode_table!(ImageDefaults, "`image`", { prefix, version, latest });

/// Where an image's version comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionSource {
    /// It is written down.
    Literal(Version),
    /// It is the commit's tag `vX.Y.Z`.
    Git,
}

impl Decode for VersionSource {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.text(node, Version::EXPECTED)?;
        if text.value == "git" {
            return Some(Self::Git);
        }
        Version::decode(node, decoder).map(Self::Literal)
    }
}

/// When the tag `latest` moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Latest {
    /// For releases, not for pre-releases.
    Release,
    /// With every build.
    Always,
    /// Never.
    Never,
}

decode_words!(Latest, "`release`, `always` or `never`", {
    "release" => Release,
    "always" => Always,
    "never" => Never,
});

/// A base image: pulled, or built here.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BaseImage {
    /// The image to pull.
    pub pull: Option<Located<ImageRef>>,
    /// A program that makes the image where it can't be pulled; relative to this file. It runs on this
    /// machine, once it was allowed with `jobctl trust`.
    pub bootstrap: Option<Located<HostPath>>,
    /// How to build it.
    #[schemars(with = "Option<crate::manifest::json_schema::BuildForms>")]
    pub build: Option<Build>,
    /// Base images that must be there first.
    #[schemars(default)]
    pub requires: Vec<Located<Name>>,
}

decode_table!(BaseImage, "a base image", { pull, bootstrap, build, requires });

//! The top of the file.

use schemars::JsonSchema;

use super::{BaseImage, ImageDefaults, Job};
use crate::manifest::decode::{Decode, Decoder, Located, Names, Table, decode_table};
use crate::manifest::node::Node;
use crate::model::{EnvName, HostPath, Name};

/// The jobs of a project: how their images are built, how they run, what they need and give.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields, title = "jobs.yaml")]
pub struct Root {
    /// The version of this format: always 1.
    pub version: Located<FormatVersion>,
    /// The project's name: part of the names of its images, containers and volumes.
    pub name: Located<Name>,
    /// What holds for the images of all jobs that are built here.
    pub image: Option<ImageDefaults>,
    /// Base images that jobs need, by name; built or pulled first.
    #[schemars(default)]
    pub images: Names<BaseImage>,
    /// The jobs, by name.
    #[schemars(default)]
    pub jobs: Names<Job>,
    /// Where secrets come from, by name. The secrets themselves are never written here.
    #[schemars(default)]
    pub secrets: Names<Secret>,
}

/// Keys of features that are still to come, and what to do until then.
const NOT_SUPPORTED: [(&str, &str); 4] = [
    (
        "sweeps",
        "remove it, and run the job for each value: `jobctl run JOB -e NAME=VALUE`",
    ),
    (
        "schedules",
        "remove it, and call `jobctl up JOB` from cron or a systemd timer",
    ),
    (
        "engines",
        "remove it, and name another Docker Engine with `--host` or `DOCKER_HOST`",
    ),
    (
        "notify",
        "remove it, and send notices from what calls jobctl: its exit code says how a job ended",
    ),
];

impl Decode for Root {
    /// A root of which the version or the name can't be read is still checked, so that all errors
    /// come at once; the errors that were reported keep it from being used.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let mut table = Table::open(node, "a manifest", decoder)?;
        let version = table.field("version", decoder);
        let name = table.field("name", decoder);
        let image = table.field("image", decoder);
        let images = table.field("images", decoder);
        let jobs = table.field("jobs", decoder);
        let secrets = table.field("secrets", decoder);
        for (key, help) in NOT_SUPPORTED {
            table.refuse(key, help, decoder);
        }
        table.close(decoder);
        let unnamed = || "unnamed".parse().ok().map(|name| Located::new(name, 0..0));
        Some(Self {
            version: version.unwrap_or_else(|| Located::new(FormatVersion, 0..0)),
            name: name.or_else(unnamed)?,
            image: image?,
            images: images?,
            jobs: jobs?,
            secrets: secrets?,
        })
    }
}

/// The version of the format that a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatVersion;

impl Decode for FormatVersion {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = decoder.text(node, "`1`")?;
        if text.value == "1" {
            return Some(Self);
        }
        decoder.invalid(
            node,
            "this jobctl reads version 1 of the format",
            "write `version: 1`; an image's version goes under `image.version`".to_owned(),
        );
        None
    }
}

/// Where a secret comes from: exactly one of the two.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Secret {
    /// An environment variable of whoever calls jobctl.
    pub environment: Option<Located<EnvName>>,
    /// A file, relative to this file.
    pub file: Option<Located<HostPath>>,
}

decode_table!(Secret, "a secret's source", { environment, file });

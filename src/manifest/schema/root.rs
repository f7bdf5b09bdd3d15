//! The top of the file.

use schemars::JsonSchema;

use super::{BaseImage, Engine, ImageDefaults, Job, Notify, Sweep};
use crate::manifest::decode::{Decode, Decoder, Located, Names, Table, decode_table};
use crate::manifest::node::Node;
use crate::model::{Cron, EnvName, HostPath, Name};

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
    /// Jobs run once for each combination of values, by name.
    #[schemars(default)]
    pub sweeps: Names<Sweep>,
    /// Jobs run at certain times, by name.
    #[schemars(default)]
    pub schedules: Names<Schedule>,
    /// Other places than this machine's Docker Engine where jobs can run, by name.
    #[schemars(default)]
    pub engines: Names<Engine>,
    /// Where secrets come from, by name. The secrets themselves are never written here.
    #[schemars(default)]
    pub secrets: Names<Secret>,
    /// Who is told of what.
    #[schemars(default)]
    pub notify: Vec<Notify>,
}

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
        let sweeps = table.field("sweeps", decoder);
        let schedules = table.field("schedules", decoder);
        let engines = table.field("engines", decoder);
        let secrets = table.field("secrets", decoder);
        let notify = table.field("notify", decoder);
        table.close(decoder);
        let unnamed = || "unnamed".parse().ok().map(|name| Located::new(name, 0..0));
        Some(Self {
            version: version.unwrap_or_else(|| Located::new(FormatVersion, 0..0)),
            name: name.or_else(unnamed)?,
            image: image?,
            images: images?,
            jobs: jobs?,
            sweeps: sweeps?,
            schedules: schedules?,
            engines: engines?,
            secrets: secrets?,
            notify: notify?,
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

/// When a job runs by itself.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Schedule {
    /// Minute, hour, day of the month, month and day of the week, as cron has them.
    pub cron: Located<Cron>,
    /// The job, with what it needs.
    pub run: Located<Name>,
}

decode_table!(Schedule, "a schedule", { cron, run });

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

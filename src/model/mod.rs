//! Pure values: text on the command line and in `jobs.yaml`, parsed once into types.
//!
//! Each type has a file, named after it, and implements [`Scalar`].

mod amount;
pub(crate) mod csv;
mod device;
mod duration;
mod extra_host;
mod gate;
mod gpus;
mod image_ref;
pub mod labels;
mod metric;
mod mount;
mod name;
mod network;
pub(crate) mod number;
mod path;
mod platform;
mod port;
mod restart;
mod run_id;
mod secret;
mod sensitive;
mod tag;
mod ulimit;
mod version;

use std::fmt;
use std::str::FromStr;

pub use amount::{ByteSize, Cpus};
pub use device::Device;
pub use duration::Duration;
pub use extra_host::ExtraHost;
pub use gate::{Bound, Comparison, Condition, Gate};
pub use gpus::{Devices, GpuRequest, Gpus};
pub use image_ref::{ImageRef, check_prefix};
pub use metric::{MetricName, MetricPattern};
pub(crate) use mount::PROPAGATIONS;
pub use mount::{Mount, MountSource};
pub use name::{EnvName, Name};
pub use network::{NetworkAttachment, check_networks};
pub use path::{ContainerPath, HostPath, WorkingDir, clean, seen_from};
pub use platform::Platform;
pub use port::{Port, Protocol};
pub use restart::Restart;
pub use run_id::RunId;
pub use secret::Secret;
pub use sensitive::{
    STARS, Sensitive, is_secret_name, masked_source, starred_out, without_access, without_users,
};
pub use tag::{Digest, Tag};
pub use ulimit::Ulimit;
pub use version::Version;

/// Why a text is not a value of a type: what is wrong, and how to fix it.
///
/// The text itself may be a secret or very long, so parsers quote at most the part that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValueError {
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// How to fix it: a fragment such as ``write `1.2.0` ``.
    pub help: Option<String>,
}

impl ValueError {
    /// An error that says what is wrong.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    /// Adds how to fix it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A value that is written as one scalar. `Display` writes what `FromStr` reads.
pub trait Scalar: Sized + fmt::Display + FromStr<Err = ValueError> {
    /// The name of the type in the JSON Schema: `Duration`.
    const NAME: &'static str;
    /// What is expected, in the user's words: ``a duration such as `90s` or `1h30m` ``.
    const EXPECTED: &'static str;
    /// A regular expression (ECMA 262, anchored) that all valid texts match, and few others.
    const PATTERN: &'static str;
    /// Valid texts, the first being the most typical.
    const EXAMPLES: &'static [&'static str];
    /// Whether the unquoted YAML forms of a number are meant as well (`cpus: 2`).
    const ACCEPTS_NUMBERS: bool = false;
}

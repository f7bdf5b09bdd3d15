//! Volumes and folders in a container.

use std::fmt;
use std::str::FromStr;

use super::{ContainerPath, Scalar, ValueError};

/// What docker's `--volume` takes: `[SOURCE:]TARGET[:OPTIONS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    source: MountSource,
    target: ContainerPath,
    options: Vec<String>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A new volume without a name.
    Anonymous,
    /// A volume by its name, made when it is not there.
    Volume(String),
    /// A file or folder of the engine's machine; one that begins with `.` is relative.
    Path(String),
}

/// The options of a mount; at most one of each group.
const OPTIONS: [&[&str]; 5] = [
    &["rw", "ro"],
    &["z", "Z"],
    &OF_VOLUMES,
    &["consistent", "cached", "delegated"],
    &PROPAGATIONS,
];
/// What only a volume has a use for.
const OF_VOLUMES: [&str; 1] = ["nocopy"];
/// How mounts below pass between a folder and the container; volumes have no use for it.
pub(crate) const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

impl Mount {
    /// What is mounted.
    #[must_use]
    pub fn source(&self) -> &MountSource {
        &self.source
    }

    /// The same with another thing mounted.
    #[must_use]
    pub fn with_source(mut self, source: MountSource) -> Self {
        self.source = source;
        self
    }

    /// Where it appears in the container.
    #[must_use]
    pub fn target(&self) -> &ContainerPath {
        &self.target
    }

    /// The options as they were given.
    #[must_use]
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// Whether an option means something for what is mounted; engines refuse one that does not.
    fn has_use_for(&self, option: &str) -> bool {
        match self.source {
            MountSource::Path(_) => !OF_VOLUMES.contains(&option),
            MountSource::Anonymous | MountSource::Volume(_) => !PROPAGATIONS.contains(&option),
        }
    }

    /// Whether the container can't write to it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

impl FromStr for Mount {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parts: Vec<_> = text.split(':').collect();
        let (source, target, options) = match parts[..] {
            [target] => ("", target, ""),
            [source, target] => (source, target, ""),
            [source, target, options] => (source, target, options),
            _ => {
                return Err(ValueError::new("a volume has at most two colons")
                    .help("write `source:/target` or `source:/target:ro`"));
            }
        };
        // As docker has it: what was to be there, a variable that is empty for one, is missed.
        if parts.iter().any(|part| part.is_empty()) {
            let (message, help) = match parts[..] {
                ["", "", ..] | [_] => (
                    "the volume is empty",
                    "write `source:/target`, or `/target` alone".to_owned(),
                ),
                ["", target, ..] => (
                    "the volume's source is empty",
                    format!("write `name:{target}`, or `{target}` alone"),
                ),
                [source, "", ..] => (
                    "the volume's target is empty",
                    format!("write `{source}:/target`"),
                ),
                _ => (
                    "nothing follows the volume's last colon",
                    format!("write `{source}:{target}` or `{source}:{target}:ro`"),
                ),
            };
            return Err(ValueError::new(message).help(help));
        }
        if parts.len() == 2 && !target.starts_with('/') && source.starts_with('/') {
            let is_option = target.split(',').all(is_option);
            if is_option {
                return Err(ValueError::new("the volume has no target")
                    .help(format!("write `{source}:{source}:{target}`")));
            }
        }
        let mount = Self {
            source: parse_source(source)?,
            target: target.parse().map_err(|error: ValueError| ValueError {
                help: error.help.filter(|_| !target.starts_with('/')).map(|_| {
                    let target = target.trim_start_matches("./");
                    let options = if options.is_empty() {
                        String::new()
                    } else {
                        format!(":{options}")
                    };
                    let source = if source.is_empty() {
                        String::new()
                    } else {
                        format!("{source}:")
                    };
                    format!("write `{source}/{target}{options}`")
                }),
                ..error
            })?,
            options: parse_options(options)?,
        };
        match mount
            .options
            .iter()
            .find(|option| !mount.has_use_for(option))
        {
            Some(option) if matches!(mount.source, MountSource::Path(_)) => Err(ValueError::new(
                format!("`{option}` is for volumes, not for directories"),
            )
            .help("leave it out")),
            Some(option) => Err(ValueError::new(format!(
                "`{option}` is for directories of this machine, not for volumes"
            ))
            .help("leave it out, or begin the source with `/` or `.`")),
            None => Ok(mount),
        }
    }
}

fn parse_source(text: &str) -> Result<MountSource, ValueError> {
    if text.is_empty() {
        return Ok(MountSource::Anonymous);
    }
    if let Some(rest) = text.strip_prefix('~') {
        return Err(ValueError::new("`~` is not expanded in paths")
            .help(format!("write `${{HOME}}{rest}`")));
    }
    if text.starts_with(['/', '.']) {
        return Ok(MountSource::Path(text.to_owned()));
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if text.trim() != text {
        return Err(ValueError::new(format!(
            "there is a blank before or after `{}`",
            text.trim()
        ))
        .help(format!("write `{}`", text.trim())));
    }
    if text.contains('/') || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(
            ValueError::new(format!("`{text}` is neither a volume's name nor a path"))
                .help(format!("for a directory write `./{text}`")),
        );
    }
    if text.len() < 2 || !text.chars().all(is_word) {
        return Err(ValueError::new(format!("`{text}` is not a volume's name"))
            .help("use two or more letters, digits, `_`, `.`, `-`"));
    }
    Ok(MountSource::Volume(text.to_owned()))
}

fn is_option(option: &str) -> bool {
    OPTIONS.iter().any(|group| group.contains(&option))
}

fn parse_options(text: &str) -> Result<Vec<String>, ValueError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let options: Vec<_> = text.split(',').collect();
    if options.contains(&"") {
        return Err(ValueError::new("an option of the volume is empty")
            .help("leave out the comma before or behind it"));
    }
    if let Some(unknown) = options.iter().find(|option| !is_option(option)) {
        return Err(
            ValueError::new(format!("`{unknown}` is not an option of a volume"))
                .help("the common ones are `ro` and `rw`"),
        );
    }
    for group in OPTIONS {
        let of_group: Vec<_> = options
            .iter()
            .filter(|option| group.contains(option))
            .collect();
        if let [first, second, ..] = of_group[..] {
            return Err(
                ValueError::new(format!("`{first}` and `{second}` exclude each other"))
                    .help("keep one of them"),
            );
        }
    }
    Ok(options.into_iter().map(str::to_owned).collect())
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            MountSource::Anonymous => {}
            MountSource::Volume(source) | MountSource::Path(source) => write!(f, "{source}:")?,
        }
        self.target.fmt(f)?;
        if !self.options.is_empty() {
            write!(f, ":{}", self.options.join(","))?;
        }
        Ok(())
    }
}

impl Scalar for Mount {
    const NAME: &'static str = "Mount";
    const EXPECTED: &'static str = "a volume such as `cache:/root/.cache` or `./data:/data:ro`";
    const PATTERN: &'static str = "^([^:~][^:]*:)?/[^:]+(:[A-Za-z]+(,[A-Za-z]+)*)?$";
    const EXAMPLES: &'static [&'static str] = &["cache:/root/.cache", "./data:/data:ro"];
}

#[cfg(test)]
mod tests;

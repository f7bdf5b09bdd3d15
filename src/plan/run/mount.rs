//! What docker's `--mount` takes.

use std::path::Path;

use crate::engine::run::{Bound, BoundKind};
use crate::model::{PROPAGATIONS, ValueError, clean, csv};

/// Reads one `--mount` (docker/cli, `opts/mount.go`); a relative path is one of the folder's.
///
/// # Errors
///
/// It is malformed, or asks for what jobctl can't pass on.
pub fn bound(text: &str, folder: &Path) -> Result<Bound, ValueError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ValueError::new("the mount is empty").help(EXAMPLE));
    }
    let mut bound = Bound::of(BoundKind::Volume, None, "");
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let value = value.map(|value| plain(key, value)).transpose()?;
        add(&mut bound, plain(key, key)?, value)?;
    }
    finish(bound, folder)
}

/// The fields that have a value.
const KEYS: [&str; 11] = [
    "type",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "tmpfs-size",
    "tmpfs-mode",
    "bind-propagation",
    "bind-recursive",
    "consistency",
];
const EXAMPLE: &str = "write `type=bind,source=PATH,target=/PATH`";

/// A text without blanks around it.
fn plain<'a>(key: &str, text: &'a str) -> Result<&'a str, ValueError> {
    let trimmed = text.trim();
    if key.trim().is_empty() {
        return Err(
            ValueError::new("a field has no name").help(format!("leave out the comma; {EXAMPLE}"))
        );
    }
    if trimmed.is_empty() {
        return Err(
            ValueError::new(format!("`{key}` is empty")).help(format!("write `{key}=VALUE`"))
        );
    }
    if trimmed != text {
        return Err(
            ValueError::new(format!("there are blanks around `{trimmed}`"))
                .help("leave them out, or write them into a path as `./ NAME`"),
        );
    }
    Ok(text)
}

/// Adds one field.
fn add(bound: &mut Bound, key: &str, value: Option<&str>) -> Result<(), ValueError> {
    let key = key.to_ascii_lowercase();
    let switch = || match value {
        None | Some("1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        Some(_) => Err(ValueError::new(format!("`{key}` is `true` or `false`"))
            .help(format!("write `{key}` alone"))),
    };
    match key.as_str() {
        "readonly" | "ro" => {
            bound.is_read_only = switch()?;
            return Ok(());
        }
        "volume-nocopy" => {
            bound.is_not_copied_to = switch()?;
            return Ok(());
        }
        // Off is what engines do if nothing is said.
        "bind-nonrecursive" if !switch()? => return Ok(()),
        _ => {}
    }
    if !KEYS.contains(&key.as_str()) {
        return Err(
            ValueError::new(format!("jobctl can't pass `{key}` on to the engine")).help(
                "it takes `type`, `source`, `target`, `readonly`, `bind-propagation`, \
                 `volume-nocopy`, `tmpfs-size`, `tmpfs-mode` and `consistency`",
            ),
        );
    }
    let value = value.ok_or_else(|| {
        ValueError::new(format!("the field `{key}` has no value")).help(format!("write `{key}=…`"))
    })?;
    match key.as_str() {
        "type" => bound.kind = kind(value)?,
        "source" | "src" => bound.source = Some(value.to_owned()),
        "target" | "dst" | "destination" => value.clone_into(&mut bound.target),
        "tmpfs-size" => bound.size = Some(value.parse()?),
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8);
            bound.mode = Some(mode.map_err(|_| {
                ValueError::new(format!("`{value}` is not a file's permissions"))
                    .help("write them in octal digits: `tmpfs-mode=1770`")
            })?);
        }
        "bind-propagation" => {
            let value = value.to_ascii_lowercase();
            if !PROPAGATIONS.contains(&value.as_str()) {
                return Err(ValueError::new(format!("`{value}` is not a propagation"))
                    .help(format!("write one of {}", PROPAGATIONS.join(", "))));
            }
            bound.propagation = Some(value);
        }
        // That is what engines do if nothing is said.
        "bind-recursive" if value == "enabled" => {}
        "bind-recursive" => {
            return Err(ValueError::new(format!(
                "jobctl can't pass `{key}={value}` on to the engine"
            ))
            .help("it takes `bind-recursive=enabled`, which is what engines do"));
        }
        _ => bound.consistency = Some(value.to_ascii_lowercase()),
    }
    Ok(())
}

fn kind(text: &str) -> Result<BoundKind, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "bind" => Ok(BoundKind::Bind),
        "volume" => Ok(BoundKind::Volume),
        "tmpfs" => Ok(BoundKind::Tmpfs),
        _ => Err(ValueError::new("jobctl does not know this type of mount")
            .help("write `type=bind`, `type=volume` or `type=tmpfs`")),
    }
}

fn finish(mut bound: Bound, folder: &Path) -> Result<Bound, ValueError> {
    if bound.target.is_empty() {
        return Err(ValueError::new("where it appears is not said").help("add `target=/PATH`"));
    }
    if !bound.target.starts_with('/') {
        let help = format!("write `target=/{}`", bound.target.trim_start_matches("./"));
        return Err(ValueError::new("the target is not an absolute path").help(help));
    }
    let options = [
        (
            BoundKind::Tmpfs,
            bound.size.is_some() || bound.mode.is_some(),
            "tmpfs",
        ),
        (BoundKind::Volume, bound.is_not_copied_to, "volume"),
        (BoundKind::Bind, bound.propagation.is_some(), "bind"),
    ];
    for (kind, is_given, name) in options {
        if is_given && bound.kind != kind {
            return Err(ValueError::new(format!("`{name}-…` is for `type={name}`"))
                .help(format!("add `type={name}`, or leave it out")));
        }
    }
    match (bound.kind, &bound.source) {
        (BoundKind::Bind, None) => {
            return Err(ValueError::new("what is mounted is not said").help("add `source=PATH`"));
        }
        (BoundKind::Bind, Some(source)) => {
            let source = clean(&folder.join(source));
            bound.source = Some(source.to_string_lossy().into_owned());
        }
        (BoundKind::Volume, Some(source)) if source.starts_with(['/', '.']) => {
            return Err(
                ValueError::new("a path is no volume").help("add `type=bind` to mount a directory")
            );
        }
        (BoundKind::Tmpfs, Some(_)) => {
            return Err(ValueError::new("a tmpfs has no source").help("leave `source` out"));
        }
        _ => {}
    }
    Ok(bound)
}

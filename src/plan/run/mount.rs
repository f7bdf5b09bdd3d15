//! What docker's `--mount` takes.

use std::path::Path;

use crate::engine::run::{Bound, BoundKind};
use crate::model::{ValueError, clean, csv};

/// Reads one `--mount` (docker/cli, `opts/mount.go`); a relative path is one of the folder's.
///
/// # Errors
///
/// It is malformed, or asks for what jobctl can't pass on.
pub fn bound(text: &str, folder: &Path) -> Result<Bound, ValueError> {
    let mut bound = Bound {
        kind: BoundKind::Volume,
        source: None,
        target: String::new(),
        is_read_only: false,
        size: None,
    };
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let key = key.to_ascii_lowercase();
        let text = value.ok_or_else(|| {
            ValueError::new(format!("the field `{key}` has no value"))
                .help(format!("write `{key}=…`"))
        });
        match key.as_str() {
            "readonly" | "ro" => {
                bound.is_read_only = match value {
                    None | Some("" | "1" | "true") => true,
                    Some("0" | "false") => false,
                    Some(_) => {
                        return Err(ValueError::new("`readonly` is `true` or `false`")
                            .help("write `readonly` alone"));
                    }
                }
            }
            "type" => bound.kind = kind(text?)?,
            "source" | "src" => bound.source = Some(text?.to_owned()),
            "target" | "dst" | "destination" => text?.clone_into(&mut bound.target),
            "tmpfs-size" => bound.size = Some(text?.parse()?),
            _ => {
                return Err(ValueError::new(format!(
                    "jobctl can't pass `{key}` on to the engine"
                ))
                .help(
                    "it takes `type`, `source`, `target`, `readonly` and `tmpfs-size`; `--volume` \
                     and `--tmpfs` take further options",
                ));
            }
        }
    }
    finish(bound, folder)
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
    if bound.size.is_some() && bound.kind != BoundKind::Tmpfs {
        return Err(ValueError::new("only a tmpfs has a size").help("add `type=tmpfs`"));
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
                ValueError::new("a path is no volume").help("add `type=bind` to mount a folder")
            );
        }
        (BoundKind::Tmpfs, Some(_)) => {
            return Err(ValueError::new("a tmpfs has no source").help("leave `source` out"));
        }
        _ => {}
    }
    Ok(bound)
}

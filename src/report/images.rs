//! Images: which there are, and what was pulled.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::printable;
use super::table::columns;
use super::words::{ago, bytes};
use crate::engine::docker::LocalImage;
use crate::model::Digest;
use crate::model::labels::{STANDARD_LABELS, is_stamped};
use crate::ops::pull::Pulled;
use crate::plan::run::JOB_LABEL;

/// How many digits tell an image from others.
const SHORT: usize = 12;

/// A table: id, job, version, age, size, and names. Sizes are those of unpacked layers.
#[must_use]
pub fn images_human(images: &[LocalImage], now: Timestamp) -> String {
    let heads = ["IMAGE", "JOB", "VERSION", "CREATED", "SIZE", "NAMES"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for image in images {
        let age = image.created.map(|then| now.duration_since(then));
        let id = image.id.as_str();
        let (_, digits) = id.split_once(':').unwrap_or(("", id));
        let row = [
            digits.chars().take(SHORT).collect(),
            image.labels.get(JOB_LABEL).cloned().unwrap_or_default(),
            standard(image, "version").unwrap_or("-").to_owned(),
            age.map_or_else(|| "-".to_owned(), |age| ago(age.unsigned_abs())),
            bytes(image.size),
            image.tags.join(" "),
        ];
        rows.push(row.map(|cell| printable::line(&cell)).to_vec());
    }
    columns(&rows)
}

/// `{"schema":"jobctl.images/1","images":[…]}`.
#[must_use]
pub fn images_json(images: &[LocalImage]) -> Value {
    let images = images.iter().map(image);
    json!({ "schema": "jobctl.images/1", "images": images.collect::<Vec<_>>() })
}

/// What a standard label says of an image; not what one that jobctl built has from its base.
fn standard<'a>(image: &'a LocalImage, key: &str) -> Option<&'a str> {
    let value = image.labels.get(&format!("{STANDARD_LABELS}{key}"))?;
    (is_stamped(&image.labels, key) != Some(false)).then_some(value.as_str())
}

fn image(image: &LocalImage) -> Value {
    json!({
        "id": image.id.as_str(),
        "job": image.labels.get(JOB_LABEL),
        "version": standard(image, "version"),
        "revision": standard(image, "revision"),
        "created": image.created,
        "bytes": image.size,
        "names": image.tags,
        "digests": image.repo_digests,
    })
}

/// A line for each image that was pulled: its name, and the digest that the registry has it under; `-`
/// where that is not known.
#[must_use]
pub fn pull_human(pulled: &[Pulled]) -> String {
    let mut text = String::new();
    for pulled in pulled {
        let digest = pulled.digest.as_ref().map_or("-", Digest::as_str);
        let _ = writeln!(text, "{} {digest}", pulled.name.familiar());
    }
    text
}

/// `{"schema":"jobctl.pull/1","images":[…]}`.
#[must_use]
pub fn pull_json(pulled: &[Pulled]) -> Value {
    let images = pulled.iter().map(|pulled| {
        let mut result = image(&pulled.image);
        result["name"] = pulled.name.familiar().to_string().into();
        result["digest"] = pulled.digest.as_ref().map(Digest::as_str).into();
        result
    });
    json!({ "schema": "jobctl.pull/1", "images": images.collect::<Vec<_>>() })
}

//! What BuildKit builds an image from, as the names of its vertices say.
//!
//! Newer versions say it in build information and attestations too, each in another form; the names of
//! vertices are in all of them (`frontend/dockerfile/dockerfile2llb`). Whatever is not known here counts
//! as a source of which nothing is known.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1::Vertex;

use crate::engine::build::{Mask, NamedSource};
use crate::facts::shown_address;
use crate::model::{Digest, ImageRef};

/// Internal steps that bring nothing in that the context's and the Dockerfile's digests do not cover.
const INTERNAL: [&str; 8] = [
    "load build definition",
    "load .dockerignore",
    "load build context",
    "load metadata for ",
    "setting cache mount permissions",
    "settings cache mount permissions",
    "preparing inline document",
    "helper image for file operations",
];
/// Instructions whose own vertices fetch nothing.
const STEPS: [&str; 5] = ["COPY", "LINK", "RUN", "WORKDIR", "ADD"];

/// The sources of an image while it is built.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// By whole name.
    images: BTreeMap<String, Named>,
    others: BTreeMap<String, Option<Digest>>,
}

#[derive(Debug, Default)]
struct Named {
    /// What a registry said.
    digest: Option<Digest>,
    /// Whether a stage begins from it, if a vertex says so.
    begins_stage: Option<bool>,
}

impl Sources {
    /// Notes what a vertex says.
    pub(super) fn note(&mut self, vertex: &Vertex) {
        let name = vertex.name.trim();
        if name.is_empty() {
            return;
        }
        let (stage, step) = match name
            .strip_prefix('[')
            .and_then(|name| name.split_once("] "))
        {
            Some((stage, step)) => (Some(stage), step.trim_start()),
            None => (None, name),
        };
        if stage.is_some_and(|stage| stage.ends_with("internal")) {
            if let Some(image) = step.strip_prefix("load metadata for ") {
                self.image(image, None);
            } else if !INTERNAL.iter().any(|known| step.starts_with(known)) {
                self.others.insert(name.to_owned(), None);
            }
            return;
        }
        let (keyword, rest) = step.split_once(' ').unwrap_or((step, ""));
        match keyword {
            "FROM" => self.image(rest, Some(stage.is_some())),
            // What a step adds comes from the context, or from a vertex without inputs of its own.
            "ADD" if vertex.inputs.is_empty() => {
                let flags = rest.split_whitespace();
                let checksum = flags
                    .clone()
                    .find_map(|flag| flag.strip_prefix("--checksum="));
                let is_source = |word: &&str| word.contains("://") || word.contains('@');
                let source = flags.filter(|word| !word.starts_with("--")).find(is_source);
                let digest = checksum.and_then(|digest| digest.parse().ok());
                self.others
                    .insert(source.unwrap_or(step).to_owned(), digest);
            }
            keyword if STEPS.contains(&keyword) => {}
            "exporting" | "importing" => {}
            _ => {
                self.others.insert(step.to_owned(), None);
            }
        }
    }

    fn image(&mut self, name: &str, begins_stage: Option<bool>) {
        // Names have no tag in some vertices.
        let name = name.trim();
        let image = name
            .parse()
            .map(|image: ImageRef| image.tagged().to_string());
        let known = self
            .images
            .entry(image.unwrap_or_else(|_| name.to_owned()))
            .or_default();
        known.begins_stage = match (known.begins_stage, begins_stage) {
            (Some(before), Some(now)) => Some(before || now),
            (before, now) => before.or(now),
        };
    }

    /// What the image is made from, by name.
    pub(super) fn named(&self, mask: &Mask) -> Vec<NamedSource> {
        let mut images: BTreeMap<String, Named> = BTreeMap::new();
        for (name, known) in &self.images {
            // A name that got its digest from a registry was asked for without.
            let resolved = name.parse().ok().and_then(|image: ImageRef| {
                let asked = image.without_digest().tagged().to_string();
                let digest = image.digest()?.clone();
                self.images.contains_key(&asked).then_some((asked, digest))
            });
            let (name, digest) = match resolved {
                Some((asked, digest)) => (asked, Some(digest)),
                None => (name.clone(), None),
            };
            let entry = images.entry(name).or_default();
            entry.digest = entry.digest.take().or(digest);
            entry.begins_stage = entry.begins_stage.or(known.begins_stage);
        }
        let images = images.into_iter().map(|(name, known)| {
            let pinned = name
                .parse()
                .ok()
                .and_then(|image: ImageRef| image.digest().cloned());
            NamedSource {
                is_image: true,
                begins_stage: known.begins_stage.unwrap_or(true),
                digest: pinned.or(known.digest),
                name: mask(&name),
            }
        });
        let others = self.others.iter().map(|(name, digest)| NamedSource {
            is_image: false,
            begins_stage: false,
            digest: digest.clone(),
            name: mask(&shown_address(name)),
        });
        images.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(vertices: &[(&str, bool)]) -> Vec<(String, bool, Option<String>)> {
        let mut sources = Sources::default();
        for (name, has_inputs) in vertices {
            sources.note(&Vertex {
                name: (*name).to_owned(),
                inputs: has_inputs
                    .then(|| "sha256:1".to_owned())
                    .into_iter()
                    .collect(),
                ..Vertex::default()
            });
        }
        let named = sources.named(&|text: &str| text.replace("canary", "***"));
        named
            .into_iter()
            .map(|source| {
                let digest = source.digest.map(|digest| digest.to_string());
                (source.name, source.is_image && source.begins_stage, digest)
            })
            .collect()
    }

    const DIGEST: &str = "sha256:3f8a3f8a3f8a3f8a3f8a3f8a3f8a3f8a3f8a3f8a3f8a3f8a3f8a3f8a3f8a3f8a";

    #[test]
    fn images_and_addresses_are_sources_and_steps_are_not() {
        let from = format!("FROM docker.io/library/c:1@{DIGEST}");
        let pinned = format!("[stage-1 1/4] FROM docker.io/library/p@{DIGEST}");
        let pinned_metadata = format!("[internal] load metadata for docker.io/library/p@{DIGEST}");
        let checked = format!("[stage-1 4/4] ADD --checksum={DIGEST} https://x.example/g /g");
        let found = named(&[
            ("[internal] load build definition from Dockerfile", false),
            ("[internal] load .dockerignore", false),
            (
                "[internal] load metadata for docker.io/library/a:latest",
                false,
            ),
            ("[a 1/2] FROM docker.io/library/a", false),
            ("[internal] load build context", false),
            ("[linux/amd64 stage-1 2/4] COPY . /", true),
            (
                "[stage-1 3/4] ADD https://u:canary@x.example/f?token=1 /f",
                false,
            ),
            (
                "[stage-1 3/4] ADD https://u:canary@x.example/f?token=1 /f",
                true,
            ),
            (&checked, false),
            ("FROM docker.io/library/b:1", false),
            ("[internal] load metadata for docker.io/library/c:1", false),
            (&from, false),
            (&pinned_metadata, false),
            (&pinned, false),
            ("http://x.example/h-canary", false),
            ("exporting to image", true),
        ]);
        let image = |name: &str| format!("docker.io/library/{name}");
        let expected = [
            (image("a:latest"), true, None),
            (image("b:1"), false, None),
            (image("c:1"), false, Some(DIGEST.to_owned())),
            (image(&format!("p@{DIGEST}")), true, Some(DIGEST.to_owned())),
            ("http://x.example/h-***".to_owned(), false, None),
            ("https://x.example/f".to_owned(), false, None),
            (
                "https://x.example/g".to_owned(),
                false,
                Some(DIGEST.to_owned()),
            ),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_known_is_a_source() {
        for name in [
            "resolve image config for docker.io/docker/dockerfile:1",
            "docker-image://docker.io/docker/dockerfile:1",
            "[internal] load git source https://x.example/r.git",
            "[internal] something new",
            "something new",
        ] {
            assert_eq!(named(&[(name, true)]).len(), 1, "{name}");
        }
    }
}

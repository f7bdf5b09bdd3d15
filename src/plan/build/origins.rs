//! What an image is made from, as its label says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::labels::STANDARD_LABELS;
use crate::model::{Digest, ImageRef};

/// All that an image is made from, besides its context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    /// By name, each once.
    pub list: Vec<Origin>,
    /// The image that it continues: its whole name, and the digest that its registry knows.
    pub base: Option<(ImageRef, Option<Digest>)>,
    /// Standard labels about a base that an image of these has itself. The new image would inherit them,
    /// and they are not about its own base.
    pub inherited: BTreeSet<&'static str>,
}

/// An image or an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The whole name of an image, or an address without credentials.
    pub name: String,
    /// The id of an image on the engine, the digest that the registry has it under where the engine
    /// does not have it, or a file's checksum; nothing where it is not known.
    pub digest: Option<Digest>,
}

/// The standard labels about a base.
const BASE_KEYS: [&str; 2] = ["base.digest", "base.name"];

impl Origins {
    /// Notes what could be inherited from an image with these labels.
    pub fn note_labels(&mut self, labels: &BTreeMap<String, String>) {
        let has = |key: &&str| labels.contains_key(&format!("{STANDARD_LABELS}{key}"));
        self.inherited.extend(BASE_KEYS.into_iter().filter(has));
    }

    /// The label's value: `[{"name":"docker.io/library/debian:trixie-slim","digest":"sha256:…"}]`.
    pub(super) fn label(&self) -> String {
        let list = self.list.iter();
        let list = list.map(|Origin { name, digest }| match digest {
            Some(digest) => json!({ "name": name, "digest": digest.as_str() }),
            None => json!({ "name": name }),
        });
        list.collect::<Value>().to_string()
    }

    /// What the label of an image says; `None` if it can't be read.
    #[must_use]
    pub fn of_label(label: &str) -> Option<Vec<Origin>> {
        let list: Vec<Value> = serde_json::from_str(label).ok()?;
        let list = list.iter().map(|origin| {
            let digest = match origin.get("digest") {
                Some(digest) => Some(digest.as_str()?.parse().ok()?),
                None => None,
            };
            Some(Origin {
                name: origin.get("name")?.as_str()?.to_owned(),
                digest,
            })
        });
        list.collect()
    }
}

impl Origin {
    /// Whether it can never be another than it was: an image's name has a digest, an address has a checksum.
    /// A name in which a secret is masked is neither, and nobody can look for what it names.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        match self.name.parse::<ImageRef>() {
            Ok(image) => image.digest().is_some(),
            Err(_) => self.digest.is_some() && self.name.contains("://"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_written() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let origins = Origins {
            list: vec![
                Origin {
                    name: "docker.io/library/a:1".to_owned(),
                    digest: Some(digest.clone()),
                },
                Origin {
                    name: "https://x.example/f".to_owned(),
                    digest: None,
                },
            ],
            ..Origins::default()
        };
        let label = origins.label();
        let expected = format!(
            "[{{\"name\":\"docker.io/library/a:1\",\"digest\":\"{digest}\"}},\
             {{\"name\":\"https://x.example/f\"}}]"
        );
        assert_eq!(label, expected);
        assert_eq!(Origins::of_label(&label), Some(origins.list));
        assert_eq!(Origins::of_label("[]"), Some(Vec::new()));
        for label in [
            "",
            "{}",
            "[1]",
            "[{}]",
            "[{\"name\":\"a\",\"digest\":\"x\"}]",
        ] {
            assert_eq!(Origins::of_label(label), None, "{label}");
        }
    }

    #[test]
    fn what_has_a_digest_in_its_name_stays_the_same() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        for (name, has_digest, expected) in [
            (format!("docker.io/library/a:1@{digest}"), true, true),
            ("docker.io/library/a:1".to_owned(), true, false),
            ("https://x.example/f".to_owned(), true, true),
            ("https://x.example/f".to_owned(), false, false),
            ("https://x.example/***/f".to_owned(), true, true),
            // Which image, or which digest, is not known.
            ("docker.io/library/hxb-***:1".to_owned(), true, false),
            ("***/a:1".to_owned(), true, false),
            (format!("docker.io/library/***@{digest}"), true, false),
        ] {
            let origin = Origin {
                name,
                digest: has_digest.then(|| digest.clone()),
            };
            assert_eq!(origin.is_fixed(), expected, "{origin:?}");
        }
    }
}

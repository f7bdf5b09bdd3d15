//! Labels of images and containers: which are jobctl's own.

use std::collections::BTreeMap;

/// What labels of jobctl's own begin with.
pub const OWN_LABELS: &str = "dev.jobctl.";
/// The one label of these that users may set: what tests make has it.
pub const TEST_LABEL: &str = "dev.jobctl.test";
/// The label of what an image was built from: all that decides its content, in one digest.
pub const PLAN_LABEL: &str = "dev.jobctl.plan";
/// The label of the images and addresses that an image was made from, each with its digest: a list in JSON.
pub const SOURCES_LABEL: &str = "dev.jobctl.sources";
/// The label that lists which of the [`STANDARD_KEYS`] jobctl set on an image, separated by commas.
pub const STAMPED_LABEL: &str = "dev.jobctl.stamped";
/// What labels of the OCI image specification begin with ("Pre-Defined Annotation Keys").
pub const STANDARD_LABELS: &str = "org.opencontainers.image.";
/// Those of them that jobctl sets: they say where an image comes from, not what is in it.
pub const STANDARD_KEYS: [&str; 7] = [
    "base.digest",
    "base.name",
    "created",
    "revision",
    "source",
    "title",
    "version",
];

/// The label in which Podman's builder says its version.
const BUILDER_LABEL: &str = "io.buildah.version";

/// Whether jobctl set one of the [`STANDARD_KEYS`] on an image that it built, or the image inherited it; `None`
/// where the labels don't say.
#[must_use]
pub fn is_stamped(labels: &BTreeMap<String, String>, key: &str) -> Option<bool> {
    let stamped = labels.get(STAMPED_LABEL)?;
    Some(stamped.split(',').any(|stamped| stamped == key))
}

/// The labels of an image that are part of its content: all but those that jobctl and the builder set.
#[must_use]
pub fn content_labels(labels: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let stamped: Vec<&str> = match labels.get(STAMPED_LABEL) {
        Some(keys) => keys.split(',').collect(),
        // An earlier jobctl built it, and did not say which.
        None if labels.contains_key(PLAN_LABEL) => STANDARD_KEYS.to_vec(),
        None => Vec::new(),
    };
    let is_ours = |name: &str| match name.strip_prefix(STANDARD_LABELS) {
        Some(key) => stamped.contains(&key),
        None => (name.starts_with(OWN_LABELS) && name != TEST_LABEL) || name == BUILDER_LABEL,
    };
    let labels = labels.iter().filter(|(name, _)| !is_ours(name));
    labels
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_content_unless_jobctl_set_it() {
        let version = "org.opencontainers.image.version";
        for (labels, expected) in [
            (&[][..], &[][..]),
            (&["team", version], &["team", version]),
            // What an earlier jobctl set is not listed.
            (
                &[PLAN_LABEL, version, "org.opencontainers.image.vendor"],
                &["org.opencontainers.image.vendor"],
            ),
            (
                &["dev.jobctl.job", BUILDER_LABEL, TEST_LABEL],
                &[TEST_LABEL],
            ),
        ] {
            let labels = labels
                .iter()
                .map(|name| ((*name).to_owned(), String::new()));
            let labels: BTreeMap<_, _> = labels.collect();
            let found: Vec<_> = content_labels(&labels).into_keys().collect();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected, "{labels:?}");
        }
    }

    #[test]
    fn a_standard_label_that_jobctl_did_not_set_is_content() {
        let labels = [
            (STAMPED_LABEL, "created,title"),
            ("org.opencontainers.image.created", "2026-01-01"),
            ("org.opencontainers.image.version", "the user's own"),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let labels = labels.into_iter().collect();
        let found: Vec<_> = content_labels(&labels).into_keys().collect();
        assert_eq!(found, ["org.opencontainers.image.version"]);
    }
}

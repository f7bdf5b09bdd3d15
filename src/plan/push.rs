//! Which names are pushed, in which order, and what may be replaced.

use std::time::Duration;

use jiff::Timestamp;

use crate::engine::docker::{EngineError, LocalImage};
use crate::model::{Digest, ImageRef, Tag, Version};
use crate::plan::build::PlanError;
use crate::plan::tags::{is_generated, moves, newer};

/// How long is waited before a second try, at most, and the longest of all tries.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How large a chunk of a layer is, in bytes: at first, at last, and if a registry wants it larger.
const FIRST_CHUNK: u64 = 1 << 20;
const LARGEST_CHUNK: u64 = 8 << 20;
const LARGEST_WANTED: u64 = 64 << 20;

/// A name of an image, and the image that it is to stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name; with a tag.
    pub name: ImageRef,
    /// The image's id on the engine.
    pub id: Digest,
    /// The image's version, if it has one.
    pub version: Option<Version>,
    /// Whether that is what git says (`version: git`).
    pub is_of_git: bool,
}

impl Wanted {
    /// Whether the name moves from release to release.
    #[must_use]
    pub fn moves(&self) -> bool {
        moves(self.name.tag().map_or("latest", Tag::as_str))
    }

    /// The newest release that keeps the name, among those of its repository. A pre-release is older than its
    /// release.
    #[must_use]
    pub fn newer<'a>(
        &self,
        releases: impl IntoIterator<Item = &'a Version>,
    ) -> Option<&'a Version> {
        let tag = self.name.tag().map_or("latest", Tag::as_str);
        newer(tag, self.version.as_ref()?, releases)
    }
}

/// A name that an image gets on the engine, unless the name that it is pushed as stays with a newer release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineName {
    /// The name; with a tag.
    pub name: ImageRef,
    /// The image's id on the engine.
    pub id: Digest,
    /// The name itself if it is pushed, else the same tag with the prefix.
    pub pushed_as: ImageRef,
}

impl EngineName {
    /// The name of what is pushed.
    #[must_use]
    pub fn pushed(wanted: &Wanted) -> Self {
        Self {
            name: wanted.name.clone(),
            id: wanted.id.clone(),
            pushed_as: wanted.name.clone(),
        }
    }
}

/// An image that was built of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built<'a> {
    /// The image. When it was made it says itself: all images of a commit say the same where the engine
    /// takes that from `SOURCE_DATE_EPOCH`.
    pub image: &'a LocalImage,
    /// Its names in the repository that is pushed to.
    pub names: Vec<ImageRef>,
    /// When this project last built it, found it up to date or pulled it as a job's, if it did.
    pub claimed: Option<Timestamp>,
    /// Whether any of the user's projects did.
    pub is_known: bool,
    /// When the engine last named it, which most builds do; not all engines say it.
    pub tagged: Option<Timestamp>,
}

/// The image of a job that was built last. What this project has built is known best, then what another one has;
/// among other images, it is the one that was named last, or the youngest where the engine does not say when it
/// named one (20.10, Podman); among images of the same age, the one with the most names, since a build takes those
/// that move.
#[must_use]
pub fn newest(built: Vec<Built<'_>>) -> Option<Built<'_>> {
    // Of two that are alike in all this, the first, as the engine lists them.
    built.into_iter().rev().max_by_key(|built| {
        let time = built.tagged.or(built.image.created);
        (built.claimed, built.is_known, time, built.names.len())
    })
}

/// The name by which an image that isn't known may be newer than the one that is taken for the newest: `latest`, or
/// a version that is not older than that of the other.
#[must_use]
pub fn overlooked<'a>(built: &'a [Built<'_>], newest: &Built<'_>) -> Option<&'a ImageRef> {
    let versions = |names: &[ImageRef]| {
        let names = names.iter().filter(|name| !is_generated(name));
        names.filter_map(version).max()
    };
    let own = versions(&newest.names);
    let is_newer = |name: &&ImageRef| {
        is_latest(name)
            || !is_generated(name) && version(name).is_some_and(|other| Some(other) >= own)
    };
    let others = built
        .iter()
        .filter(|other| other.image.id != newest.image.id);
    let mut unknown = others.filter(|other| !other.is_known);
    unknown.find_map(|other| {
        let mut names = other.names.iter();
        let latest = names.clone().find(|name| is_latest(name));
        latest.or_else(|| names.find(is_newer))
    })
}

/// The names in the order in which they are pushed, by [`turn`].
///
/// # Errors
///
/// A name has no registry: nobody may push to Docker Hub's own images.
pub fn order(mut wanted: Vec<Wanted>) -> Result<Vec<Wanted>, PlanError> {
    for Wanted { name, .. } in &wanted {
        let canonical = name.canonical();
        let is_hubs_own =
            canonical.domain() == Some("docker.io") && canonical.path().starts_with("library/");
        if is_hubs_own {
            return Err(PlanError::new(
                format!("`{name}` names no registry"),
                "give the registry, and your folder in it: `--image-prefix registry.example.com/team/`, \
                 or `image: { prefix: … }` in jobs.yaml",
            ));
        }
    }
    wanted.sort_by_key(|wanted| turn(&wanted.name));
    let mut ordered = Vec::new();
    for one in wanted {
        if !ordered.contains(&one) {
            ordered.push(one);
        }
    }
    Ok(ordered)
}

/// When a name is pushed: versions first, then those that move with no release, then `1` and `1.2`, and `latest`
/// last. So no name moves to an image whose release is refused.
#[must_use]
pub fn turn(name: &ImageRef) -> impl Ord + use<> {
    let tag = name.tag().map_or("latest", Tag::as_str);
    (is_latest(name), moves(tag), version(name).is_none())
}

/// Whether a name is that of a release, which stands for the same image for ever.
#[must_use]
pub fn is_release(name: &ImageRef) -> bool {
    version(name).is_some_and(|version| !version.is_prerelease())
}

/// Whether a name is `latest`, be it written or not.
fn is_latest(name: &ImageRef) -> bool {
    name.tag().is_none_or(|tag| tag.as_str() == "latest")
}

/// The version that a name's tag says.
#[must_use]
pub fn version(name: &ImageRef) -> Option<Version> {
    let text = name.tag()?.as_str().replacen('_', "+", 1);
    text.parse().ok()
}

/// What is to be done when an engine could not push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Nobody is let in with these credentials, or without any.
    LogIn,
    /// The user may not push there.
    AskForRights,
    /// It goes better the next time.
    TryAgain,
    /// It never will.
    GiveUp,
}

/// What an engine's words say can be done. It tells what a registry answered as text alone.
#[must_use]
pub fn remedy(error: &EngineError) -> Remedy {
    let (EngineError::Failed { message } | EngineError::Refused { message, .. }) = error else {
        // What is wrong with the engine itself is the user's to mend.
        return Remedy::GiveUp;
    };
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&[
        "unauthorized",
        "no basic auth credentials",
        "authentication required",
    ]) {
        Remedy::LogIn
    } else if says(&["denied", "forbidden", "status: 403", "http 403"]) {
        Remedy::AskForRights
    } else if says(&[
        "status: 429",
        "status: 500",
        "status: 502",
        "status: 503",
        "status: 504",
        "http 429",
        "500 internal",
        "502 bad",
        "503 service",
        "504 gateway",
        "too many requests",
        "toomanyrequests",
        "connection refused",
        "connection reset",
        "broken pipe",
        "eof",
        "timeout",
        "deadline exceeded",
        "blob upload unknown",
        "blob upload invalid",
        "no route to host",
        "server misbehaving",
    ]) {
        Remedy::TryAgain
    } else {
        Remedy::GiveUp
    }
}

/// How long is waited after so many tries, if the registry does not say.
#[must_use]
pub fn pause(tries: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(tries.saturating_sub(1));
    FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
}

/// How large the next chunk of a layer is, in bytes, once so much of it was accepted: a link that breaks
/// costs a small part of what was sent. A registry may want so many at least.
#[must_use]
pub fn chunk(accepted: u64, least: u64) -> usize {
    let length = (accepted / 64).clamp(FIRST_CHUNK, LARGEST_CHUNK);
    let length = length.max(least.min(LARGEST_WANTED));
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_was_built_last_is_pushed() {
        // When it was made, claimed and named, and with how many names.
        type Image = (i64, Option<i64>, Option<i64>, usize);
        let time = |second| Timestamp::from_second(second).ok();
        let cases: [([Image; 2], usize); 11] = [
            // A commit that is older may be built last.
            ([(20, None, Some(1), 1), (10, None, Some(2), 1)], 1),
            // The same commit, with changes.
            ([(10, None, Some(2), 1), (10, None, Some(1), 3)], 0),
            // Where the engine does not say when it named them.
            ([(10, None, None, 3), (20, None, None, 1)], 1),
            ([(10, None, None, 1), (10, None, None, 2)], 1),
            ([(10, None, None, 1), (10, None, None, 1)], 0),
            // Where it says so of some.
            ([(20, None, None, 1), (10, None, Some(30), 1)], 1),
            ([(20, None, None, 1), (10, None, Some(15), 1)], 0),
            // Where this project knows it, whatever else is newer.
            ([(10, Some(40), None, 1), (20, Some(41), None, 1)], 1),
            ([(10, Some(42), None, 1), (20, Some(41), Some(50), 3)], 0),
            ([(10, Some(40), None, 1), (20, None, Some(50), 3)], 0),
            ([(20, None, None, 3), (10, Some(5), None, 1)], 1),
        ];
        for (images, expected) in cases {
            let local = images.map(|(created, _, _, _)| LocalImage {
                has_triggers: false,
                id: Digest::of(b"image"),
                tags: Vec::new(),
                repo_digests: Vec::new(),
                labels: BTreeMap::new(),
                created: time(created),
                tagged: None,
                size: 0,
            });
            let built = local
                .iter()
                .zip(images)
                .map(|(image, (_, claimed, tagged, names))| Built {
                    image,
                    names: vec!["registry:5000/app:1".parse().unwrap(); names],
                    claimed: claimed.and_then(time),
                    is_known: claimed.is_some(),
                    tagged: tagged.and_then(time),
                });
            let found = newest(built.collect()).unwrap();
            assert!(
                std::ptr::eq(found.image, &raw const local[expected]),
                "{images:?}"
            );
        }
        assert_eq!(newest(Vec::new()), None);
    }

    #[test]
    fn an_image_that_is_not_known_and_may_be_newer_is_noticed() {
        for (names, is_known, expected) in [
            (
                &["app:ctx-0123456789ab", "app:latest"][..],
                false,
                Some("app:latest"),
            ),
            (&["app:1.3.0"], false, Some("app:1.3.0")),
            (&["r.example/app:1.2.3"], false, Some("r.example/app:1.2.3")),
            (&["app:1.2.3-rc.1"], false, None),
            (&["app:1.2"], false, None),
            (&["app:9.0.0-dirty.g0123456789ab"], false, None),
            (&["app:ctx-0123456789ab"], false, None),
            (&["app:latest"], true, None),
        ] {
            let image = |content: &[u8]| LocalImage {
                has_triggers: false,
                id: Digest::of(content),
                tags: Vec::new(),
                repo_digests: Vec::new(),
                labels: BTreeMap::new(),
                created: None,
                tagged: None,
                size: 0,
            };
            let (own, other) = (image(b"own"), image(b"other"));
            let built = |image, names: &[&str], is_known| Built {
                image,
                names: names.iter().map(|name| name.parse().unwrap()).collect(),
                claimed: None,
                is_known,
                tagged: None,
            };
            let own = built(&own, &["app:1.2.3", "app:1"], true);
            let all = [own.clone(), built(&other, names, is_known)];
            let found = overlooked(&all, &own).map(ToString::to_string);
            assert_eq!(found.as_deref(), expected, "{names:?}");
        }
    }

    fn wanted(names: &[&str]) -> Vec<Wanted> {
        let id = Digest::from([0; 32]);
        let wanted = names.iter().map(|name| Wanted {
            name: name.parse().unwrap(),
            id: id.clone(),
            version: None,
            is_of_git: false,
        });
        wanted.collect()
    }

    #[test]
    fn releases_come_first_latest_last_and_names_have_a_registry() {
        let asked = [
            "r/b:latest",
            "r/a:1",
            "r/a:1.2",
            "r/a:1.2.3",
            "r/a:ctx-0123456789ab",
            "r/a",
            "r/b:2",
            "r/b:2.0.0-rc.1",
            "r/a:1.2.3",
        ];
        let names = order(wanted(&asked)).unwrap();
        let names: Vec<_> = names.iter().map(|one| one.name.to_string()).collect();
        let expected = [
            "r/a:1.2.3",
            "r/b:2.0.0-rc.1",
            "r/a:ctx-0123456789ab",
            "r/a:1",
            "r/a:1.2",
            "r/b:2",
            "r/b:latest",
            "r/a",
        ];
        assert_eq!(names, expected);
        let error = order(wanted(&["app:1.2.3"])).unwrap_err();
        assert_eq!(error.message, "`app:1.2.3` names no registry");
        assert!(order(wanted(&["me/app:1", "reg:5000/app:1"])).is_ok());
    }

    #[test]
    fn releases_are_told_from_names_that_move() {
        for (name, expected) in [
            ("r/a:1.2.3", true),
            ("r/a:1.2.3_build", true),
            ("r/a:1.2.3-rc.1", false),
            ("r/a:1.2.3-SNAPSHOT", false),
            ("r/a:1.2", false),
            ("r/a:1", false),
            ("r/a:latest", false),
            ("r/a:ctx-0123456789ab", false),
            ("r/a", false),
        ] {
            assert_eq!(is_release(&name.parse().unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn an_engines_words_say_what_can_be_done() {
        for (message, expected) in [
            ("no basic auth credentials", Remedy::LogIn),
            ("unauthorized: authentication required", Remedy::LogIn),
            (
                "denied: requested access to the resource is denied",
                Remedy::AskForRights,
            ),
            (
                "received unexpected HTTP status: 503 Service Unavailable",
                Remedy::TryAgain,
            ),
            (
                "dial tcp 127.0.0.1:5000: connect: connection refused",
                Remedy::TryAgain,
            ),
            ("unexpected EOF", Remedy::TryAgain),
            (
                "received unexpected HTTP status: 502 Oops",
                Remedy::TryAgain,
            ),
            (
                "received unexpected HTTP status: 501 Not Implemented",
                Remedy::GiveUp,
            ),
            (
                "error parsing HTTP 429 response body: EOF",
                Remedy::TryAgain,
            ),
            // Digits of digests and ports are no statuses.
            ("manifest invalid: sha256:0429403a", Remedy::GiveUp),
            ("toomanyrequests: slow down", Remedy::TryAgain),
            ("manifest invalid: manifest invalid", Remedy::GiveUp),
            (
                "x509: certificate signed by unknown authority",
                Remedy::GiveUp,
            ),
            ("tag does not exist: r/a:1", Remedy::GiveUp),
        ] {
            let message = message.to_owned();
            assert_eq!(
                remedy(&EngineError::Failed {
                    message: message.clone()
                }),
                expected,
                "{message}"
            );
        }
        let gone = EngineError::Hung {
            address: String::new(),
            waited: Duration::ZERO,
        };
        assert_eq!(remedy(&gone), Remedy::GiveUp);
    }

    #[test]
    fn pauses_grow_and_end() {
        let seconds: Vec<_> = (1..=7).map(|tries| pause(tries).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    }
    #[test]
    fn a_link_that_breaks_five_times_costs_less_than_a_tenth_of_a_large_layer() {
        for size in [100_000_000, 1_000_000_000, 100_000_000_000] {
            let lost = 5 * chunk(size, 0) as u64;
            assert!(lost * 10 <= size, "{lost} of {size}");
        }
        assert_eq!(chunk(0, 0), 1 << 20);
        assert_eq!(chunk(u64::MAX, 0), 8 << 20);
        assert_eq!(chunk(0, 5_242_880), 5_242_880);
        assert_eq!(chunk(0, u64::MAX), 64 << 20);
    }
}

//! Why two builds of the same differ, as the paths of what differs tell.

use super::compare::{Comparison, Difference, Times};

/// Why files differ, and what to write into the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Why, as a fragment: `pip keeps what it downloaded`.
    pub why: &'static str,
    /// What to do about it.
    pub help: &'static str,
    /// How many of the files that differ it explains.
    pub files: usize,
}

/// A pattern, why what it matches differs, and what to do about it. A pattern that begins with a
/// slash is the beginning of a path, one that begins with a star the end of one, any other a part.
/// The first that matches counts.
const KNOWN: [(&[&str], &str, &str); 11] = [
    (
        &["__pycache__/", "*.pyc", "*/__pycache__"],
        "Python writes the time of a source file into what it compiles",
        "`pip install --no-compile`, and `ENV PYTHONDONTWRITEBYTECODE=1` before anything runs",
    ),
    (
        &["/root/.cache/pip/", ".cache/pip/"],
        "pip keeps what it downloaded, with times",
        "`pip install --no-cache-dir`, or `RUN --mount=type=cache,target=/root/.cache/pip …`",
    ),
    (
        &[
            "/var/lib/apt/",
            "/var/cache/apt/",
            "/var/log/",
            "/var/lib/dpkg/",
            "/var/cache/debconf/",
        ],
        "apt and dpkg leave lists and logs with times",
        "at the end of the same RUN: `rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
         /var/cache/debconf/*-old /var/lib/dpkg/*-old`",
    ),
    (
        &["/var/cache/ldconfig/"],
        "ldconfig notes when libraries were changed",
        "at the end of the same RUN: `rm -f /var/cache/ldconfig/aux-cache`",
    ),
    (
        &["/etc/shadow"],
        "the day on which a user was added is in /etc/shadow",
        "`ARG SOURCE_DATE_EPOCH` before the RUN (useradd takes the day from it), or \
         `chage --lastday 0 USER` after",
    ),
    (
        &["/etc/machine-id", "/var/lib/dbus/machine-id"],
        "a machine's id is drawn at random",
        "`: > /etc/machine-id` at the end of the same RUN; one is made when it is needed",
    ),
    (
        &["/etc/ssh/ssh_host_", "/etc/ssl/private/", "*.key", "*.pem"],
        "keys are drawn at random",
        "make keys when the container starts: in an image, everybody who has it has them too",
    ),
    (
        &[
            "/root/.npm/",
            "_logs/",
            "/tmp/",
            "/var/tmp/",
            "/var/cache/",
            ".cache/",
        ],
        "a cache or a temporary file was left",
        "remove it in the same RUN, or keep it out of the image: `RUN --mount=type=cache,target=…`",
    ),
    (
        &[".git/"],
        "git notes times and places in `.git`",
        "remove `.git` in the RUN that clones",
    ),
    (
        &[
            "*.a", "*.jar", "*.whl", "*.zip", "*.tar", "*.gz", "*.tgz", "*.xz",
        ],
        "archives hold times and an order",
        "`ARG SOURCE_DATE_EPOCH` before the RUN; `ar D`, `gzip -n`, \
         `tar --sort=name --mtime=@$SOURCE_DATE_EPOCH`",
    ),
    (
        &[""],
        "what a step writes depends on the time, on chance, on the machine, or on the network",
        "look for `date`, `uname`, `hostname`, random numbers, parallel steps, and downloads \
         without a version",
    ),
];

/// Why times differ where no time is given to the build.
const NO_TIME: (&str, &str) = (
    "the build is given no time, and takes the clock's",
    "set SOURCE_DATE_EPOCH, or commit the directory: the commit's time is then given",
);
/// Why an image's own time differs where one is given.
const OLD_ENGINE: (&str, &str) = (
    "this engine gives an image the time of its building, whatever it is told",
    "nothing in the Dockerfile helps: newer engines take SOURCE_DATE_EPOCH",
);
/// Why files' times differ where one is given.
const NEW_FILES: (&str, &str) = (
    "what a step writes gets the time of its writing",
    "set times in a stage, `RUN find /out -exec touch --no-dereference --date=@$SOURCE_DATE_EPOCH \
     {} +`, and `COPY --from=STAGE /out/ /` into a fresh base; or use an engine with containerd's \
     image store, where jobctl sets them",
);

/// Why only times differ. `has_time` says whether the build was given one.
#[must_use]
pub(super) fn causes_of_times(times: &Times, has_time: bool) -> Vec<Cause> {
    let cause = |(why, help), files| Cause { why, help, files };
    if !has_time {
        return vec![cause(NO_TIME, times.files)];
    }
    let of_image = times.of_image.then(|| cause(OLD_ENGINE, 0));
    let of_files = (times.files > 0).then(|| cause(NEW_FILES, times.files));
    of_image.into_iter().chain(of_files).collect()
}

/// Why more than times differs, the reason for most of the files first.
#[must_use]
pub(super) fn causes(comparison: &Comparison) -> Vec<Cause> {
    let mut found = KNOWN.map(|(_, why, help)| Cause {
        why,
        help,
        files: 0,
    });
    for difference in &comparison.differences {
        if let Difference::File { path, .. } = difference {
            let path = format!("/{path}");
            let known = |patterns: &[&str]| patterns.iter().any(|pattern| matches(pattern, &path));
            if let Some(index) = KNOWN.iter().position(|(patterns, ..)| known(patterns)) {
                found[index].files += 1;
            }
        }
    }
    let mut found: Vec<_> = found.into_iter().filter(|cause| cause.files > 0).collect();
    found.sort_by_key(|cause| std::cmp::Reverse(cause.files));
    found
}

fn matches(pattern: &str, path: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.starts_with('/')) {
        (Some(end), _) => path.ends_with(end),
        (None, true) => path.starts_with(pattern),
        (None, false) => path.contains(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::causes;
    use crate::ops::build::compare::{Aspect, Change, Comparison, Difference};

    fn of(paths: &[&str]) -> Vec<(&'static str, usize)> {
        let file = |path: &&str| Difference::File {
            layer: 1,
            step: None,
            path: (*path).to_owned(),
            change: Change::Aspects(vec![Aspect::Content]),
        };
        let comparison = Comparison {
            differences: paths.iter().map(file).collect(),
            ..Comparison::default()
        };
        let found = causes(&comparison).into_iter();
        found.map(|cause| (cause.why, cause.files)).collect()
    }

    #[test]
    fn a_path_tells_the_cause() {
        for (path, word) in [
            ("usr/lib/python3/a/__pycache__/b.cpython-313.pyc", "Python"),
            ("root/.cache/pip/http/1", "pip"),
            ("home/me/.cache/pip/http/1", "pip"),
            ("var/lib/apt/lists/x_Packages.lz4", "apt"),
            ("var/log/dpkg.log", "apt"),
            ("var/cache/ldconfig/aux-cache", "ldconfig"),
            ("etc/shadow-", "shadow"),
            ("etc/machine-id", "machine"),
            ("etc/ssh/ssh_host_rsa_key", "keys"),
            ("tmp/x", "temporary"),
            ("src/.git/index", "git"),
            ("opt/lib/x.jar", "archives"),
            ("x", "chance"),
        ] {
            let found = of(&[path]);
            assert_eq!(found.len(), 1, "{path}");
            assert!(found[0].0.contains(word), "{path}: {found:?}");
        }
    }

    #[test]
    fn the_cause_of_most_files_comes_first() {
        let found = of(&["x", "a/b.pyc", "a/c.pyc"]);
        let counts: Vec<_> = found.iter().map(|(_, files)| *files).collect();
        assert_eq!(counts, [2, 1]);
    }
}

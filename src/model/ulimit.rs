//! Limits of a process's resources.

use std::fmt;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// What docker's `--ulimit` takes: `NAME=SOFT[:HARD]`; -1 is no limit (docker/go-units, `ulimit.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    name: &'static str,
    soft: i64,
    hard: i64,
}

/// The limits that Linux has, as docker names them.
const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Ulimit {
    /// The limit's name: `nofile`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What holds; a process may raise it up to the hard limit.
    #[must_use]
    pub fn soft(&self) -> i64 {
        self.soft
    }

    /// What it may be raised to.
    #[must_use]
    pub fn hard(&self) -> i64 {
        self.hard
    }
}

impl FromStr for Ulimit {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let malformed = || {
            ValueError::new("this is not a limit").help("write `nofile=1024` or `nofile=1024:4096`")
        };
        let (name, values) = text.split_once('=').ok_or_else(malformed)?;
        let Some(name) = NAMES.iter().find(|known| **known == name) else {
            return Err(ValueError::new("there is no such limit")
                .help(format!("the limits are {}", NAMES.join(", "))));
        };
        let mut values = values.split(':').map(str::parse::<i64>);
        let (soft, hard) = match (values.next(), values.next(), values.next()) {
            (Some(Ok(soft)), None, _) => (soft, soft),
            (Some(Ok(soft)), Some(Ok(hard)), None) => (soft, hard),
            _ => return Err(malformed()),
        };
        if soft < -1 || hard < -1 {
            return Err(malformed());
        }
        if hard != -1 && (soft == -1 || soft > hard) {
            return Err(
                ValueError::new("the soft limit is above the hard one").help(format!(
                    "write `{name}={hard}:{hard}`, or raise the hard one"
                )),
            );
        }
        Ok(Self { name, soft, hard })
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.name, self.soft, self.hard)
    }
}

impl Scalar for Ulimit {
    const NAME: &'static str = "Ulimit";
    const EXPECTED: &'static str = "a limit such as `nofile=1024:4096`";
    const PATTERN: &'static str = "^[a-z]+=-?[0-9]+(:-?[0-9]+)?$";
    const EXAMPLES: &'static [&'static str] = &["nofile=1024:4096", "memlock=-1"];
}

#[cfg(test)]
mod tests {
    use super::Ulimit;

    /// The cases of docker/go-units' `TestParseUlimit…`, then ours.
    #[test]
    fn limits_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("nofile=512:1024", Some((512, 1024))),
            ("nofile=1024", Some((1024, 1024))),
            ("core=0:-1", Some((0, -1))),
            ("memlock=-1", Some((-1, -1))),
            ("memlock=-1:-1", Some((-1, -1))),
            ("notavalidtype=1024:1024", None),
            ("nofile=notanumber", None),
            ("nofile=1024:512", None),
            ("nofile=-1:512", None),
            ("nofile=:", None),
            ("nofile", None),
            ("nofile=1:2:3", None),
            ("nofile=-2", None),
        ] {
            let read = text.parse::<Ulimit>();
            let read = read.ok().map(|limit| (limit.soft(), limit.hard()));
            assert_eq!(read, expected, "{text}");
        }
    }
}

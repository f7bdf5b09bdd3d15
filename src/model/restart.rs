//! When the engine starts a container again.

use std::fmt;
use std::str::FromStr;

use super::{Scalar, ValueError};

/// When the engine starts a container again by itself, as docker's `--restart` and compose's `restart` have
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// Whenever it ended.
    Always,
    /// Whenever it ended, unless somebody stopped it.
    UnlessStopped,
    /// When it failed; at most so often.
    OnFailure(Option<u32>),
}

impl FromStr for Restart {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (policy, count) = match text.split_once(':') {
            Some((policy, count)) => (policy, Some(count)),
            None => (text, None),
        };
        match (policy, count.map(str::parse)) {
            ("" | "no", None) => Ok(Self::No),
            ("always", None) => Ok(Self::Always),
            ("unless-stopped", None) => Ok(Self::UnlessStopped),
            ("on-failure", None) => Ok(Self::OnFailure(None)),
            ("on-failure", Some(Ok(count))) => Ok(Self::OnFailure(Some(count))),
            _ => Err(ValueError::new("this is not a restart policy")
                .help("write `no`, `always`, `on-failure`, `on-failure:3` or `unless-stopped`")),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
            Self::OnFailure(None) => f.write_str("on-failure"),
            Self::OnFailure(Some(count)) => write!(f, "on-failure:{count}"),
        }
    }
}

impl Scalar for Restart {
    const NAME: &'static str = "Restart";
    const EXPECTED: &'static str = "a restart policy such as `unless-stopped` or `on-failure:3`";
    const PATTERN: &'static str = "^(no|always|unless-stopped|on-failure(:[0-9]+)?)$";
    const EXAMPLES: &'static [&'static str] = &["unless-stopped", "on-failure:3", "always", "no"];
}

#[cfg(test)]
mod tests {
    use super::Restart;

    #[test]
    fn policies_are_read_as_docker_reads_them() {
        for text in [
            "no",
            "always",
            "unless-stopped",
            "on-failure",
            "on-failure:3",
        ] {
            assert_eq!(text.parse::<Restart>().unwrap().to_string(), text);
        }
        assert_eq!("".parse::<Restart>().unwrap(), Restart::No);
        for text in ["never", "always:3", "on-failure:", "on-failure:-1", "No"] {
            let error = text.parse::<Restart>().expect_err(text);
            assert_eq!(error.message, "this is not a restart policy", "{text}");
        }
    }
}

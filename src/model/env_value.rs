//! The value of an environment variable.

use std::fmt;

/// The value of an environment variable, which may be a secret: it is read by
/// [`expose`](Self::expose) and by nothing else. It has no `Display` and is not serialised, and
/// `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvValue(String);

impl EnvValue {
    /// A value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for whoever hands it to a job.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvValue(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::EnvValue;

    #[test]
    fn it_does_not_print() {
        let value = EnvValue::new("canary");
        assert_eq!(format!("{value:?}"), "EnvValue(…)");
        assert_eq!(value.expose(), "canary");
    }
}

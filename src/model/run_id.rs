//! Names of runs.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{NoContext, Uuid};

use super::ValueError;

/// A run's id: a UUID of version 7 (RFC 9562), so that ids are in the order of time.
///
/// Written without dashes; any prefix that no other run has names the run as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Uuid);

impl RunId {
    /// How many digits people are shown: the milliseconds, and a little of what is random.
    pub const SHOWN: usize = 14;

    /// A new id, made at that time.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(
            NoContext,
            seconds,
            nanoseconds,
        )))
    }

    /// When it was made.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        let time = self.0.get_timestamp().map(|time| time.to_unix());
        let (seconds, nanoseconds) = time.unwrap_or_default();
        let seconds = i64::try_from(seconds).unwrap_or(0);
        let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
        Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// As people are shown it.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..Self::SHOWN].to_owned()
    }

    /// The last digits, which are random: what tells containers apart.
    #[must_use]
    pub fn suffix(&self) -> String {
        let text = self.to_string();
        text[text.len() - 8..].to_owned()
    }
}

impl FromStr for RunId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match Uuid::try_parse(text) {
            Ok(id) if id.get_version_num() == 7 => Ok(Self(id)),
            _ => Err(ValueError::new("this is not a run's id")
                .help("`jobctl runs` shows them: 32 hexadecimal digits")),
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::RunId;

    #[test]
    fn ids_are_in_the_order_of_time() {
        let times = [0, 1, 1_700_000_000, 4_000_000_000];
        let ids = times.map(|second| RunId::new(Timestamp::from_second(second).unwrap()));
        assert!(ids.is_sorted());
        assert_eq!(ids.map(|id| id.time().as_second()), times);
        assert_ne!(RunId::new(ids[2].time()), ids[2]);
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = RunId::new(Timestamp::from_second(1_700_000_000).unwrap());
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().starts_with(&id.short()));
        assert!(
            "018bcfe5-6800-4000-8000-000000000000"
                .parse::<RunId>()
                .is_err()
        );
        assert!("".parse::<RunId>().is_err());
    }
}

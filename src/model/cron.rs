//! Times at which something is repeated.

use std::fmt;
use std::str::FromStr;

use croner::parser::{CronParser, Seconds, Year};

use super::{Scalar, ValueError};

/// A pattern of cron (Vixie): minute, hour, day of the month, month, day of the week; or a nickname
/// such as `@daily`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron(String);

impl Cron {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Cron {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        const HELP: &str =
            "write minute, hour, day, month, weekday: `15 3 * * *` is 03:15 every day";
        let fields = text.split_whitespace().count();
        if !text.starts_with('@') && fields != 5 {
            return Err(
                ValueError::new(format!("a pattern has five fields, not {fields}")).help(HELP),
            );
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        match parser.parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.rsplit(": ").next().unwrap_or_default();
                let reason = reason.trim_end_matches('.').to_lowercase();
                Err(ValueError::new(format!("this is not a pattern of cron: {reason}")).help(HELP))
            }
        }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Cron {
    const NAME: &'static str = "Cron";
    const EXPECTED: &'static str = "a pattern of cron such as `15 3 * * *`";
    const PATTERN: &'static str = r"^\s*(@[a-z]+|\S+(\s+\S+){4})\s*$";
    const EXAMPLES: &'static [&'static str] = &["15 3 * * *", "@daily"];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Cron;

    #[test]
    fn patterns_of_cron_are_taken() {
        for text in [
            "15 3 * * *",
            "*/5 * * * *",
            "0 0 1 1 *",
            "0 9-17 * * MON-FRI",
            "@daily",
        ] {
            assert!(text.parse::<Cron>().is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "daily",
            "* * * *",
            "0 15 3 * * *",
            "61 3 * * *",
            "0 25 * * *",
            "@often",
        ] {
            assert!(text.parse::<Cron>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9*/,@a-zA-Z# L-]{0,30}") {
            let _ = text.parse::<Cron>();
        }
    }
}

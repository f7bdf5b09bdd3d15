//! Who is told of what.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;

use crate::manifest::decode::{Located, decode_table, decode_words};
use crate::model::{Scalar, ValueError};

/// Somebody who is told when something happens.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Notify {
    /// What is told.
    pub on: Located<Vec<Occasion>>,
    /// The address that gets a POST of JSON. Empty: nobody is told.
    pub webhook: Located<Webhook>,
}

decode_table!(Notify, "a notification", { on, webhook });

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Occasion {
    /// A run succeeded.
    Finished,
    /// A run failed.
    Failed,
    /// A run's end could not be seen.
    Lost,
    /// A gate was not met.
    GateRejected,
}

decode_words!(Occasion, "`finished`, `failed`, `lost` or `gate_rejected`", {
    "finished" => Finished,
    "failed" => Failed,
    "lost" => Lost,
    "gate_rejected" => GateRejected,
});

/// An http or https address; may be a secret, so it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook(String);

impl Webhook {
    /// The address, if there is one.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&self.0)
    }
}

impl FromStr for Webhook {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let rest = ["http://", "https://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        match rest {
            _ if text.is_empty() => Ok(Self(String::new())),
            Some(rest) if !rest.is_empty() && !text.contains(char::is_whitespace) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(ValueError::new("this is not an http or https address")
                .help("write `https://…`, or nothing to tell nobody")),
        }
    }
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "(address)" })
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({self})")
    }
}

impl Scalar for Webhook {
    const NAME: &'static str = "Webhook";
    const EXPECTED: &'static str = "an address such as `https://example.org/hook`";
    const PATTERN: &'static str = r"^(https?://\S+)?$";
    const EXAMPLES: &'static [&'static str] = &["${WEBHOOK_URL:-}"];
}

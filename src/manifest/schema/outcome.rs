//! What happens when a job fails.

use schemars::JsonSchema;

use crate::manifest::decode::{Located, decode_table, decode_words};
use crate::model::Duration;

/// Whether and when a failed job is run again.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retry {
    /// How often the job is run in all.
    pub attempts: Located<u32>,
    /// Which failures count; `infra` if not given. An ordinary failure only if `error` is named.
    #[schemars(default)]
    pub on: Vec<Located<RetryCause>>,
    /// The time before the second attempt; doubled before each further one.
    pub backoff: Option<Located<Duration>>,
}

decode_table!(Retry, "`retry`", { attempts, on, backoff });

/// Why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum RetryCause {
    /// The engine or the machine failed, not the job.
    Infra,
    /// The job ran out of memory.
    Oom,
    /// The job ended with a code other than 0.
    Error,
    /// The job ran out of time.
    Timeout,
}

decode_words!(RetryCause, "`infra`, `oom`, `error` or `timeout`", {
    "infra" => Infra,
    "oom" => Oom,
    "error" => Error,
    "timeout" => Timeout,
});

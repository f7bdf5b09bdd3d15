//! Run records on disk: what was run, with what, and what came of it.
//!
//! The engine is the truth, the record is the memory: a run's record is written before the engine
//! is asked for anything, and carries all that is needed to find the run again, to finish it, and
//! to run it once more.

mod record;
pub mod spec;

pub use record::{
    Attempt, CollectedFile, Ending, EngineRecord, HostRecord, ImageRecord, InputRecord,
    OutputRecord, Policy, Record, RetryRecord, SCHEMA, SourceRecord, State, VariableRecord,
};

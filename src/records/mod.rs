//! Run records on disk: what was run, with what, and what came of it.
//!
//! The engine is the truth, the record is the memory: a run's record is written before the engine
//! is asked for anything, and carries all that is needed to find the run again, to finish it, and
//! to run it once more.

mod context_files;
pub(crate) mod durable;
mod error;
mod file_lock;
mod folder;
mod host_program;
mod image;
mod index;
mod key;
mod lock;
pub mod log;
pub mod mask;
pub mod metrics;
mod outputs;
mod promoted;
mod record;
mod resolve;
mod room;
mod services;
mod source;
pub mod spec;
mod store;
mod summary;
mod trust;
mod work;

pub use error::{ReadError, StoreError};
pub use file_lock::{FileLock, Holder};
pub use folder::RunFolder;
pub use host_program::{HostProgram, NamedFile};
pub use image::ImageRecord;
pub use key::Key;
pub(crate) use key::hex;
pub use lock::RunLock;
pub use outputs::{
    CollectedFile, FileList, LIST as FILE_LIST, OutputRecord, OutputsDirectory, TreeDigest,
};
pub use promoted::{Promoted, Promotion, Rollback, RolledBackFrom};
pub use record::{
    Attempt, Ending, EngineRecord, HostRecord, InputRecord, Policy, Record, RetryRecord, SCHEMA,
    State, VariableRecord,
};
pub use resolve::ResolveError;
pub use services::{Route, ServiceFolder};
pub use source::{LeftOut, LeftOutReason, SourceRecord};
pub use store::{Listing, OpenRun, Store};
pub use summary::Summary;
pub use trust::{Grant, Trust, Untrusted};

//! What decisions may know of the world, captured once and passed as values.

mod environment;

pub use environment::Environment;

//! The server as its clients see it: over TCP, with a model whose answers are known.
#![expect(unreachable_pub, reason = "tests have no users outside")]
#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

mod client;
mod connections;
mod fake;
mod lifecycle;
mod model;
mod requests;

//! The server as its clients see it: over TCP, with a model whose answers are known.
#![expect(unreachable_pub, reason = "nobody uses a test from outside")]
#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

mod client;
mod connections;
mod fake;
mod lifecycle;
mod model;
mod requests;

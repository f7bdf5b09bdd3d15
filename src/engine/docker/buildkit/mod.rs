//! Building with BuildKit: a session of our own, and BuildKit's own `Solve`.
//!
//! bollard's ways to BuildKit send the whole context each time, or give no progress, or no secrets;
//! this one sends changed files only and gives all three. `session` serves what BuildKit calls back
//! for (`file_sync`, `health`, `secrets`, `ssh`); `control` talks to it; `solve` does both; `progress` puts
//! what BuildKit tells into our events, and `sources` keeps what it names there as an image's sources.

mod control;
mod failure;
mod file_sync;
mod health;
mod progress;
mod secrets;
mod session;
mod solve;
mod sources;
mod ssh;
mod wire;

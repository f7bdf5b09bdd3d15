//! Running containers through the library, on the real engine.

mod ends;
mod exec;
mod faults;
mod files;
mod logs;
mod podman;
mod settings;
mod sight;
mod streams;
mod wire;

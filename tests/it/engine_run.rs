//! Running containers through the library, on the real engine.

mod ends;
mod streams;

//! An ignore file is read or refused, and matches any path without a panic.
#![no_main]

use jobctl::context::Patterns;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (text, path) = input;
    if let Ok(patterns) = Patterns::parse_ignore_file(text) {
        let _ = patterns.matches(path);
        let _ = patterns.may_match_inside(path);
    }
});

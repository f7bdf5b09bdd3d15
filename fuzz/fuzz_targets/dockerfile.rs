//! Whatever a Dockerfile says, its sources are found or given up.
#![no_main]

use std::collections::BTreeMap;

use jobctl::plan::dockerfile::{Dockerfile, lines_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Dockerfile::read(text).sources(None, &BTreeMap::new());
    let _ = lines_of(text, Some("[1/2] RUN true"), "exit code: 1");
});

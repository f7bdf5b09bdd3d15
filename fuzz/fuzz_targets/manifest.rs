//! A manifest is read or refused, whatever is in it.
#![no_main]

use std::path::Path;

use jobctl::facts::Environment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let environment = Environment::new([("HOME", "/home/user")], "/");
    let _ = jobctl::manifest::parse(text, Path::new("jobs.yaml"), Path::new("/"), &environment);
});

//! An env file is read or refused, in either grammar.
#![no_main]

use std::path::Path;

use jobctl::facts::Environment;
use jobctl::manifest::env_file::{EnvFile, Reading, Unset};
use jobctl::manifest::schema::EnvFileFormat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let caller = Environment::new([("SET", "value")], "/");
    for format in [EnvFileFormat::Raw, EnvFileFormat::Compose] {
        for unset in [Unset::Allowed, Unset::Refused] {
            let reading = Reading {
                format,
                caller: &caller,
                unset,
            };
            let _ = EnvFile::parse(bytes, Path::new("test.env"), &reading);
        }
    }
});

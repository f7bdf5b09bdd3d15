//! The `jobctl` binary: see the library's documentation for the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    jobctl::cli::main()
}

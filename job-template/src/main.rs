//! `finetuning-job`: trains, evaluates, serves.

use std::process::ExitCode;

fn main() -> ExitCode {
    finetuning_job::commands::main()
}

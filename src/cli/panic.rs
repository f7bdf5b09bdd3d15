//! What happens when jobctl has a bug.

use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;

use super::output::fail_early;
use super::threads::NoThread;
use crate::exit::Exit;

/// Shows a hidden cursor again and ends whatever style was on.
const RESTORE_TERMINAL: &[u8] = b"\r\x1b[2K\x1b[0m\x1b[?25h";

/// How the standard library and tokio begin what they say where they are not given a thread.
const NO_THREAD: [&str; 2] = ["failed to spawn thread", "OS can't spawn worker thread"];

/// Makes a panic leave the terminal usable and say what to do.
pub(super) fn install_hook() {
    let standard = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let mut stderr = io::stderr();
        if stderr.is_terminal() {
            let _ = stderr.write_all(RESTORE_TERMINAL);
        }
        if is_for_want_of_a_thread(panic) {
            end_without_thread();
        }
        standard(panic);
        let _ = writeln!(
            stderr,
            "\nThis is a bug in jobctl {}. Runs that are under way go on. Please report it with the \
             lines above and what you did.",
            env!("CARGO_PKG_VERSION")
        );
    }));
}

fn is_for_want_of_a_thread(panic: &PanicHookInfo<'_>) -> bool {
    let said = panic.payload_as_str().unwrap_or_default();
    NO_THREAD.iter().any(|words| said.starts_with(words))
}

/// The machine's limit was reached later than [`super::threads::runtime`] could see. That is no bug,
/// and no code of a job's.
#[expect(
    clippy::exit,
    reason = "the thread that panics may not be the main one"
)]
fn end_without_thread() {
    let message = format!("no thread can be started\nhelp: {}", NoThread::HELP);
    std::process::exit(fail_early(&message, Exit::Engine).code().into());
}

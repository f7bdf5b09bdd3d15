//! What happens when jobctl has a bug.

use std::io::{self, IsTerminal, Write};

/// Shows a hidden cursor again and ends whatever style was on.
const RESTORE_TERMINAL: &[u8] = b"\r\x1b[2K\x1b[0m\x1b[?25h";

/// Makes a panic leave the terminal usable and say what to do.
pub(super) fn install_hook() {
    let standard = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let mut stderr = io::stderr();
        if stderr.is_terminal() {
            let _ = stderr.write_all(RESTORE_TERMINAL);
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

//! What the program reports on standard error: lines for people or, with `LOG_FORMAT=json`, an object a line for
//! programs.

#![expect(
    clippy::print_stderr,
    reason = "this is the only place that reports to people"
)]

use std::panic::{self, PanicHookInfo};

/// Reports in JSON from now on, panics too.
///
/// # Errors
/// It was called before.
pub fn start_json() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_writer(std::io::stderr)
        .try_init()?;
    panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place = place.unwrap_or_default(), "panic: {message}");
    }));
    Ok(())
}

/// Whether it reports in JSON. Else there is nobody who takes what `tracing` is given.
#[must_use]
pub fn is_json() -> bool {
    tracing::dispatcher::has_been_set()
}

/// Reports a line.
pub fn say(line: &str) {
    if is_json() {
        tracing::info!("{line}");
    } else {
        eprintln!("{line}");
    }
}

/// Reports what makes the program fail.
pub fn fail(message: &str) {
    if is_json() {
        tracing::error!("{message}");
    } else {
        for line in message.lines() {
            let prefix = if line.starts_with("help: ") {
                ""
            } else {
                "error: "
            };
            eprintln!("{prefix}{line}");
        }
    }
}

/// Reports why a request failed that the server should have answered.
pub fn fail_request(id: &str, message: &str) {
    if is_json() {
        tracing::error!(request_id = id, "{message}");
    } else {
        eprintln!("error {id}: {message}");
    }
}

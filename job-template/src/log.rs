//! What the program reports on standard error: lines for people or, with `LOG_FORMAT=json`, an object a line for
//! programs. It is all [`tracing`]'s events, so that the server's own are among them.

use std::fmt::{self, Debug};
use std::io::stderr;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry};

static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Reports from now on, in JSON or in lines. To be called once.
pub fn start(is_json: bool) {
    IS_JSON.store(is_json, Ordering::Relaxed);
    if !is_json {
        return lines(stderr).init();
    }
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_writer(stderr)
        // What can't be written would be reported there, too, and fail again.
        .log_internal_errors(false)
        .init();
    panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place = place.unwrap_or_default(), "panic: {message}");
    }));
}

/// Whether it reports in JSON.
#[must_use]
pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Reports a line.
pub fn say(line: &str) {
    tracing::info!("{line}");
}

/// Reports what makes the program fail.
pub fn fail(message: &str) {
    tracing::error!("{message}");
}

/// Writes events as lines, but for those of requests, which are for programs.
fn lines<W>(writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let shown = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target(text_server::REQUEST_LOG, LevelFilter::OFF);
    let lines = layer().event_format(Lines).with_writer(writer);
    tracing_subscriber::registry().with(lines.with_filter(shown))
}

/// An event as people read it: its message, after `error:` or the id of the request that failed.
struct Lines;

impl FormatEvent<Registry, DefaultFields> for Lines {
    fn format_event(
        &self,
        _: &FmtContext<'_, Registry, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields {
            message,
            request_id,
        } = fields;
        match request_id {
            _ if *event.metadata().level() > Level::ERROR => writeln!(writer, "{message}"),
            Some(id) => writeln!(writer, "error {id}: {message}"),
            None => message.lines().try_for_each(|line| {
                let prefix = if line.starts_with("help: ") {
                    ""
                } else {
                    "error: "
                };
                writeln!(writer, "{prefix}{line}")
            }),
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    request_id: Option<String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "request_id" {
            self.request_id = Some(value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn people_read_messages_and_not_each_request() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        tracing::subscriber::with_default(lines(Arc::clone(&file)), || {
            say("ready");
            fail("PORT=\"high\": a number\nhelp: set it");
            tracing::error!(request_id = "5f0c", "the model failed");
            tracing::info!(target: text_server::REQUEST_LOG, request_id = "5f0c", "request");
            tracing::debug!("of a library");
        });
        let mut written = String::new();
        (&*file).rewind().unwrap();
        (&*file).read_to_string(&mut written).unwrap();
        assert_eq!(
            written,
            "ready\nerror: PORT=\"high\": a number\nhelp: set it\nerror 5f0c: the model failed\n"
        );
    }
}

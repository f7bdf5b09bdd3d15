//! `jobctl logs`

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tokio::time::sleep;

use super::context::Context;
use super::run::display::Display;
use super::run::{Hold, Signals, Unrun, ending, say, signals};
use super::{Ending, reach};
use crate::engine::run::Chunk;
use crate::exit::Exit;
use crate::facts::host::now;
use crate::model::{self, ValueError};
use crate::ops::run::{Ended, Streams, attend, catch_up};
use crate::records::log::{LogPiece, LogReader, LogSelection};
use crate::report::stamped;

/// How often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(50);

/// Print what a run wrote to standard output and standard error
///
/// It is read from the record, so it is still there after the container is gone. Each stream goes to its own
/// here.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The run: an id or its beginning, `JOB` for its latest run, `JOB~1` for the one before
    run: String,
    /// Wait for more, until the run is over
    #[arg(short, long)]
    follow: bool,
    /// The manifest; `-f` follows here
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only what was written since: 10m ago, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was written until then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only so many of the last lines, or `all`
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// End with the job's exit code
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn exec(args: &LogsArgs, context: &mut Context) -> Ending {
    context.globals.file.clone_from(&args.file);
    if let Err(message) = context.check_file() {
        return Ok(context.output.usage(&message, None));
    }
    let selection = match selection(args) {
        Ok(selection) => selection,
        Err(ValueError { message, help }) => {
            let help = help.as_deref();
            return Ok(if args.exit_code {
                context.output.unrun(&message, help)
            } else {
                context.output.usage(&message, help)
            });
        }
    };
    let store = context.store();
    let id = match reach::run(context, &args.run) {
        Ok(id) => id,
        Err(exit) if args.exit_code => return Ok(exit),
        Err(exit) => return Ok(exit.of_other_verb()),
    };
    let (display, shown) = Display::start()?;
    let mut reader = match store.run(id).log_reader(selection) {
        Ok(reader) => reader,
        Err(error) => return Ok(say(context, Err(error.into()))),
    };
    let outcome = context.watch(async |events| {
        let connect = || context.connect();
        if !args.follow {
            // What was written since its jobctl was killed.
            Box::pin(catch_up(connect, &store, id, events)).await?;
            reader = store.run(id).log_reader(selection)?;
        }
        let mut lines = Lines {
            timestamps: args.timestamps,
            shown,
            is_new_line: [true; 2],
        };
        if !args.follow {
            if lines.pass_on(&mut reader).await? && !store.run(id).is_locked()? {
                lines.pass_on_rest(&mut reader).await?;
            }
            return Ok(None);
        }
        let mut hold = Hold::take(Signals::listen(false), false)?;
        let mut ended = None;
        {
            let attending = attend(
                connect,
                &store,
                id,
                Streams::default(),
                &mut hold.controls,
                events,
            );
            let mut attending = std::pin::pin!(attending);
            loop {
                let is_read = lines.pass_on(&mut reader).await?;
                if is_read && let Some(Ended::Over(_)) = &ended {
                    lines.pass_on_rest(&mut reader).await?;
                }
                if !is_read || ended.is_some() {
                    break;
                }
                tokio::select! {
                    outcome = &mut attending => ended = Some(outcome?),
                    () = sleep(LOOK) => {}
                }
            }
        }
        Ok(ended)
    })?;
    let shown = display.finish();
    if reader.is_unordered() {
        context.output.warning(
            "the run's `log.index` is damaged: the whole log is shown, but its order and times are \
             unknown from where the damage begins",
        );
    }
    if reader.has_gap() {
        context
            .output
            .warning("the log is not whole: the disk was full while the job wrote");
    }
    let exit = match outcome {
        Err(unrun) => say(context, Err(unrun)),
        Ok(Some(Ended::Over(record))) if args.exit_code => ending::exit(&record),
        Ok(None) if args.exit_code => match reach::record(context, &args.run) {
            Ok(record) => ending::exit(&record),
            Err(exit) => exit,
        },
        Ok(Some(Ended::Detached(_))) => signals::parting(),
        Ok(_) => Exit::Success,
    };
    // `logs | head` is no failure.
    let shown = shown.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    });
    Ok(context.output.shown(shown, exit))
}

/// What is shown of a log.
struct Lines {
    timestamps: bool,
    shown: tokio::sync::mpsc::Sender<Chunk>,
    is_new_line: [bool; 2],
}

impl Lines {
    /// Passes on what there is; whether anybody still reads it.
    async fn pass_on(&mut self, reader: &mut LogReader) -> Result<bool, Unrun> {
        while let Some(piece) = reader.read_more()? {
            let chunk = self.chunk(&piece);
            if self.shown.send(chunk).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Passes on what nobody has noted and nobody will: no more is written.
    async fn pass_on_rest(&mut self, reader: &mut LogReader) -> Result<(), Unrun> {
        while let Some(piece) = reader.read_rest()? {
            let chunk = self.chunk(&piece);
            if self.shown.send(chunk).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn chunk(&mut self, piece: &LogPiece<'_>) -> Chunk {
        let bytes = if self.timestamps {
            stamped(piece, &mut self.is_new_line)
        } else {
            piece.bytes.to_vec()
        };
        Chunk {
            stream: piece.stream,
            bytes: bytes.into(),
            time: None,
        }
    }
}

fn selection(args: &LogsArgs) -> Result<LogSelection, ValueError> {
    let time = |flag: &str, text: &Option<String>| {
        let read = |text: &String| {
            moment(text).ok_or_else(|| {
                ValueError::new(format!("{flag}: `{text}` is not a time"))
                    .help("write how long ago, `10m`, or a time: `2026-01-31T12:00:00Z`")
            })
        };
        text.as_ref().map(read).transpose()
    };
    let tail = match args.tail.as_deref() {
        None | Some("all") => None,
        Some(count) => Some(count.parse().map_err(|_| {
            ValueError::new(format!("--tail: `{count}` is not a number of lines"))
                .help("write `--tail 100`, or `--tail all`")
        })?),
    };
    Ok(LogSelection {
        since: time("--since", &args.since)?,
        until: time("--until", &args.until)?,
        tail,
        ..LogSelection::default()
    })
}

/// A time, seconds since 1970, or how long ago.
fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    if let Ok(ago) = text.parse::<model::Duration>() {
        return now().checked_sub(ago.get()).ok();
    }
    let local: jiff::civil::DateTime = text.parse().ok()?;
    let zoned = local.to_zoned(jiff::tz::TimeZone::system()).ok()?;
    Some(zoned.timestamp())
}

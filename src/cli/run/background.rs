//! Runs a job that nobody waits for at this terminal.
//!
//! There is no daemon: each such run has a process of its own, this program once more, which ends
//! with it. It is given the run's lock, so that the run is never without a supervisor, and the
//! container's description with its variables through a socket, so that no secret is in a file or
//! in a list of processes. When it is killed, the next jobctl goes on with the run.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

use super::Wishes;
use super::foreground::{Signals, Unrun, prepared};
use crate::cli::Ending;
use crate::cli::context::{Context, Program};
use crate::diagnostic::plain;
use crate::event::{Event, Events};
use crate::exit::Exit;
use crate::model::{RunId, Secret};
use crate::ops::run::{Ended, Prepared, Streams, adopt, supervise};
use crate::plan::run::{Pull, RunPlan};
use crate::records::{OpenRun, RunFolder, RunLock, Store, spec};

/// Supervise a run that was prepared: for jobctl itself.
#[derive(Debug, Args)]
pub(in crate::cli) struct SuperviseArgs {
    /// The directory of records
    #[arg(long)]
    state: PathBuf,
    /// The run
    run: String,
    /// The run keeps running, and has no supervisor
    #[arg(long)]
    adopt: bool,
}

/// How long a job whose program seems to be missing is given to end for it.
const ENDING: Duration = Duration::from_secs(10);

/// What a supervisor is told, besides what stands in the record.
#[derive(Serialize, Deserialize)]
struct Orders {
    spec: Value,
    environment: Vec<(String, Option<String>)>,
    copied: Vec<(PathBuf, String)>,
    pulls: Pulls,
    cidfile: Option<PathBuf>,
    secrets: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum Pulls {
    Missing,
    Always,
    Never,
}

/// What a supervisor tells: that the job started, or how it ended before that.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) enum Told {
    Started { container: String },
    Over { code: u8, message: String },
}

/// Starts a run and its supervisor, and waits until the job has started.
pub(super) fn exec(context: &Context, plan: RunPlan, wishes: &Wishes) -> Ending {
    let store = context.store();
    let outcome: Result<_, Unrun> = context.watch(async |events| {
        let mut signals = Signals::listen(true);
        let (_engine, prepared) =
            prepared(context, &store, plan, wishes, &mut signals, events).await?;
        let id = prepared.record.id;
        let launching = (context.program())
            .and_then(|program| launch(&program, &prepared, wishes.cidfile.clone()));
        let reply = match launching {
            Ok(launched) => started(launched, &store, id, &mut signals, events).await,
            Err(error) => Err(error),
        };
        Ok((id, reply))
    })?;
    let (id, reply) = match outcome {
        Ok(outcome) => outcome,
        Err(unrun) => return Ok(super::foreground::say(context, Err(unrun))),
    };
    let reply = match reply {
        Ok(Some(reply)) => reply,
        Ok(None) => {
            let message = format!("the run {} is being stopped", id.short());
            return Ok(context.output.interrupted(&message));
        }
        Err(error) => {
            let message = format!("the run's supervisor can't be started: {}", plain(&error));
            return Ok(context.output.unrun(&message, None));
        }
    };
    let record = store.run(id).read().ok();
    match reply {
        Told::Started { .. } | Told::Over { code: 0, .. } => {
            if let Some(record) = record {
                super::ending::say_started(context, &record);
            }
            context.output.ids(std::iter::once(id));
            Ok(Exit::Success)
        }
        Told::Over { code, message } => {
            if let Some(record) = record {
                super::ending::let_ci_know(context, &record);
                // The job itself ended: its record says more.
                if message.is_empty() {
                    return Ok(super::ending::say_failed(context, &record));
                }
            }
            context.output.unrun(&message, None);
            Ok(Exit::Job(code))
        }
    }
}

/// Waits until a job has started. Ctrl-C stops the run instead; who asks twice does not wait for that, and
/// hears nothing.
async fn started(
    launched: Launch,
    store: &Store,
    id: RunId,
    signals: &mut Signals,
    events: &Events,
) -> io::Result<Option<Told>> {
    let mut waiting = tokio::task::spawn_blocking(|| launched.wait());
    let reply = |reply: Result<io::Result<Told>, _>| reply.map_err(io::Error::other)?.map(Some);
    tokio::select! {
        waited = &mut waiting => return reply(waited),
        _ = signals.interrupted() => {}
    }
    store.run(id).want_stop()?;
    events.send(Event::Note(format!(
        "stopping the run {}; asked again, jobctl waits no longer",
        id.short()
    )));
    let waited = tokio::select! {
        waited = &mut waiting => waited,
        _ = signals.interrupted() => return Ok(None),
    };
    match reply(waited)? {
        // It was too late for its supervisor not to start it.
        Some(Told::Started { .. }) => Ok(None),
        reply => Ok(reply),
    }
}

/// A supervisor that was started.
pub(in crate::cli) struct Launch {
    child: Child,
    socket: UnixStream,
    folder: RunFolder,
}

/// Starts a run's supervisor.
pub(in crate::cli) fn launch(
    program: &Program,
    prepared: &Prepared,
    cidfile: Option<PathBuf>,
) -> io::Result<Launch> {
    let (ours, theirs) = UnixStream::pair()?;
    let log = prepared.run.folder.supervisor_log()?;
    let mut command = program.command("supervise");
    command
        .arg(prepared.record.id.to_string())
        // Its record is there, wherever the folder is moved to.
        .current_dir(&program.state_dir)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        // Whoever has this file open has the lock.
        .stdout(Stdio::from(prepared.run.lock.file()?))
        .stderr(log);
    let child = command.spawn()?;
    let orders = Orders {
        spec: spec::to_json(&prepared.spec),
        environment: prepared
            .spec
            .environment
            .iter()
            .map(|(name, value)| {
                let value = value.as_ref().map(|value| value.expose().to_owned());
                (name.as_str().to_owned(), value)
            })
            .collect(),
        copied: prepared.copied.clone(),
        cidfile,
        pulls: match prepared.pull {
            Pull::Missing => Pulls::Missing,
            Pull::Always => Pulls::Always,
            Pull::Never => Pulls::Never,
        },
        secrets: prepared
            .secrets
            .iter()
            .map(|secret| secret.expose().to_owned())
            .collect(),
    };
    let mut sink = &ours;
    serde_json::to_writer(&mut sink, &orders)?;
    sink.write_all(b"\n")?;
    Ok(Launch {
        child,
        socket: ours,
        folder: prepared.run.folder.clone(),
    })
}

impl Launch {
    /// Waits until the job has started, or never will.
    pub(in crate::cli) fn wait(mut self) -> io::Result<Told> {
        let mut line = String::new();
        BufReader::new(&self.socket).read_line(&mut line)?;
        serde_json::from_str(&line).or_else(|_| {
            let _ = self.child.wait();
            let mut said = String::new();
            let mut log = self.folder.supervisor_log()?;
            log.read_to_string(&mut said)?;
            Ok(Told::Over {
                code: Exit::Engine.code(),
                message: format!("the run's supervisor ended: {}", said.trim()),
            })
        })
    }
}

/// Supervises a run: what the other half of [`launch`] does.
pub(in crate::cli) fn supervise_exec(args: &SuperviseArgs, context: &mut Context) -> Ending {
    // A terminal that is closed takes its processes along, but not those of another session.
    let _ = rustix::process::setsid();
    // The folder that it works in is the state folder; that it is called so tells people whose it is.
    let store = Store::new(".".into());
    let Ok(id) = args.run.parse::<RunId>() else {
        return Ok(context.output.usage("this is not a run's id", None));
    };
    if args.adopt {
        return adopt_exec(&store, id, context);
    }
    let socket = UnixStream::from(rustix::io::dup(rustix::stdio::stdin())?);
    let lock_file = File::from(rustix::io::dup(rustix::stdio::stdout())?);
    let nothing = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    let mut line = String::new();
    BufReader::new(&socket).read_line(&mut line)?;
    let orders: Orders = serde_json::from_str(&line)?;
    let folder = store.run(id);
    let record = folder.read().map_err(io::Error::other)?;
    let lock = RunLock::of(id, lock_file);
    let mut container = spec::from_json(&orders.spec).map_err(io::Error::other)?;
    container.environment = orders
        .environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.map(Secret::new))))
        .collect();
    let prepared = Prepared {
        record,
        run: OpenRun { folder, lock },
        spec: container,
        copied: orders.copied,
        pull: match orders.pulls {
            Pulls::Missing => Pull::Missing,
            Pulls::Always => Pull::Always,
            Pulls::Never => Pull::Never,
        },
        secrets: orders.secrets.into_iter().map(Secret::new).collect(),
    };
    let outcome = context.watch(async |events| {
        let engine = context.connect().await?;
        let (started, is_started) = tokio::sync::oneshot::channel();
        let (sender, mut controls) = unbounded_channel();
        super::signals::listen_as_supervisor(&sender);
        // What an init process can't execute, the engine has started all the same. One that the engine starts
        // again has no end to wait for.
        let (lacks_program, is_lacking) = tokio::sync::oneshot::channel();
        let is_checked = prepared.spec.init == Some(true) && prepared.spec.restart.is_none();
        let streams = Streams {
            started: Some(started),
            lacks_program: is_checked.then_some(lacks_program),
            cidfile: orders.cidfile,
            ..Streams::default()
        };
        let (over, is_over) = tokio::sync::oneshot::channel();
        let telling = async {
            let container = is_started.await.ok()?;
            if is_lacking.await.unwrap_or(false) && timeout(ENDING, is_over).await.is_ok() {
                return Some(container);
            }
            tell_started(&socket, container);
            None
        };
        let supervising = async {
            let supervising = supervise(&engine, prepared, streams, &mut controls, events);
            let ended = Box::pin(supervising).await;
            // Nobody waits for it if all looks good.
            let _ = over.send(());
            ended
        };
        let (ended, untold) = tokio::join!(supervising, telling);
        let ended = ended?;
        // It may have ended for another reason.
        let is_unfound =
            matches!(&ended, Ended::Over(record) if matches!(record.exit_code, Some(126 | 127)));
        if let Some(container) = untold.filter(|_| !is_unfound) {
            tell_started(&socket, container);
        }
        Ok(ended)
    })?;
    // Whoever started it hears this only if the job never started.
    let (code, message) = match &outcome {
        Ok(Ended::Over(record)) => {
            let message = record
                .attempts
                .last()
                .and_then(|attempt| attempt.message.clone());
            let code = super::ending::exit(record).code();
            (code, message.unwrap_or_default())
        }
        Ok(Ended::Detached(_)) => {
            let message = "the run's supervisor was asked to end before the job started";
            (Exit::Engine.code(), message.to_owned())
        }
        Err(Unrun::Failure(failure)) => (Exit::Engine.code(), failure.to_string()),
        Err(Unrun::Interrupted(exit)) => (exit.code(), "interrupted".to_owned()),
    };
    tell(&socket, &Told::Over { code, message });
    Ok(Exit::Success)
}

/// Starts a supervisor for a run that has none, and waits until it supervises the run, or can't.
pub(in crate::cli) fn adopt_in_background(
    program: &Program,
    id: RunId,
    log: File,
) -> io::Result<()> {
    let mut child = program
        .command("supervise")
        .arg("--adopt")
        .arg(id.to_string())
        .current_dir(&program.state_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    if let Some(mut stdout) = child.stdout.take() {
        // It closes it.
        io::copy(&mut stdout, &mut io::sink())?;
    }
    Ok(())
}

/// Supervises a run that keeps running: what the other process of [`adopt_in_background`] does.
fn adopt_exec(store: &Store, id: RunId, context: &Context) -> Ending {
    context.watch(async |events| {
        let engine = context.connect().await.map_err(io::Error::other)?;
        let (started, is_started) = tokio::sync::oneshot::channel();
        let (sender, mut controls) = unbounded_channel();
        super::signals::listen_as_supervisor(&sender);
        let streams = Streams {
            started: Some(started),
            ..Streams::default()
        };
        let telling = tokio::spawn(async {
            // The end of the output ends the wait for it, whatever became of it.
            let _ = is_started.await;
            let nothing = OpenOptions::new().write(true).open("/dev/null")?;
            rustix::stdio::dup2_stdout(&nothing)?;
            io::Result::Ok(())
        });
        let adopting = adopt(&engine, store, id, streams, &mut controls, events);
        let adopted = Box::pin(adopting).await;
        telling.await.map_err(io::Error::other)??;
        adopted.map_err(io::Error::other)?;
        Ok(Exit::Success)
    })?
}

fn tell_started(socket: &UnixStream, container: String) {
    tell(socket, &Told::Started { container });
    let _ = socket.shutdown(std::net::Shutdown::Both);
}

fn tell(mut socket: &UnixStream, told: &Told) {
    let line = serde_json::to_string(told).expect("it is plain");
    // Whoever started it may be gone.
    let _ = writeln!(socket, "{line}");
}

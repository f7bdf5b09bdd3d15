//! The process that listens on a service's ports.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::Ending;
use super::context::{Context, Program};
use super::run::adopt_in_background;
use crate::exit::Exit;
use crate::model::Name;
use crate::ops::forward::{ConnectionLimits, bind, forward};
use crate::records::{FileLock, ServiceFolder, Store};

/// How often it is looked whether the service's directory is still there.
const LOOK: Duration = Duration::from_millis(500);
/// The time between two supervisors that are started for a run.
const BETWEEN: Duration = Duration::from_secs(5);
/// What is told once it listens.
pub(super) const READY: &str = "ready";

/// Listen on a service's ports: for jobctl itself.
#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    /// The directory of records
    #[arg(long)]
    state: PathBuf,
    /// The service
    job: String,
}

pub(super) fn exec(args: &ListenArgs, context: &mut Context) -> Ending {
    // A terminal that is closed takes its processes along, but not those of another session.
    let _ = rustix::process::setsid();
    let job = match args.job.parse::<Name>() {
        Ok(job) => job,
        Err(error) => return tell(&error.message),
    };
    // It may be moved while this process listens.
    let (_folder, folder) = Store::new(args.state.clone()).service(&job).pinned()?;
    let Some(_lock) = FileLock::take(&folder.lock())? else {
        return tell(READY);
    };
    let route = match folder.route() {
        Ok(Some(route)) => route,
        Ok(None) => return tell("it has no route"),
        Err(error) => return tell(&error.to_string()),
    };
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Less is less, and no error.
    let _ = setrlimit(Resource::Nofile, limit);
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let limits = ConnectionLimits::of_files(files);
    let program = context.program()?.on(args.state.clone());
    context.watch(async |events| {
        let mut listeners = Vec::new();
        for (address, _) in route.ports {
            match bind(address) {
                Ok(listener) => listeners.push((address, listener)),
                Err(error) => return tell(&format!("{address}: {error}")),
            }
        }
        let mut ended = signal(SignalKind::terminate())?;
        let listeners = listeners.into_iter().map(|(address, listener)| {
            listener.set_nonblocking(true)?;
            Ok((address, tokio::net::TcpListener::from_std(listener)?))
        });
        let listeners = listeners.collect::<std::io::Result<_>>()?;
        let socket = folder.answer()?;
        let asked = folder.clone();
        tell(READY)?;
        let store = Store::new(args.state.clone());
        let stop = async {
            tokio::select! {
                _ = ended.recv() => {}
                () = asked.asked_to_stop(&socket) => {}
                () = gone(&asked) => {}
                () = keep_supervised(&program, &store, &asked) => {}
            }
        };
        forward(folder, listeners, limits, events.clone(), stop).await;
        Ok(Exit::Success)
    })?
}

/// Waits until the service's directory is removed: from then on nobody could stop this process, or say where
/// its connections are to go.
async fn gone(folder: &ServiceFolder) {
    while folder.route_file().exists() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Starts a supervisor for the run that serves whenever it has none: only that one notices that the engine has
/// started the container again with other ports, and those that it had may be anybody's by then.
async fn keep_supervised(program: &Program, store: &Store, folder: &ServiceFolder) {
    loop {
        tokio::time::sleep(LOOK).await;
        // A state directory that was moved has its runs elsewhere.
        let Ok(Some(route)) = folder.route() else {
            continue;
        };
        let run = store.run(route.run);
        if run.is_locked().unwrap_or(true) {
            continue;
        }
        if !run.read().is_ok_and(|record| !record.state.is_final()) {
            continue;
        }
        let Ok(log) = run.supervisor_log() else {
            continue;
        };
        let program = program.clone();
        let adopting = move || adopt_in_background(&program, route.run, log);
        let adopted = tokio::task::spawn_blocking(adopting).await;
        if !adopted.is_ok_and(|adopted| adopted.is_ok()) {
            tracing::info!("the run {} has no supervisor", route.run.short());
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

/// Tells whoever started this process, who then waits no longer.
fn tell(what: &str) -> Ending {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{what}")?;
    stdout.flush()?;
    let nothing = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok(Exit::Failed)
}

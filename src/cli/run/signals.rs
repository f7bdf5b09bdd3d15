//! This process's signals, as what is asked of a run.

use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::terminal;
use crate::exit::Exit;
use crate::ops::run::Control;

/// What this process was last asked by to leave a run, as an exit code.
static PARTING: Mutex<Option<Exit>> = Mutex::new(None);

/// What a verb ends with that has left a run whose end it does not know: as shells number the signal that it
/// was left for, 0 for the detach keys. Without either, the engine is gone.
pub(in crate::cli) fn parting() -> Exit {
    asked_to_part().unwrap_or(Exit::Engine)
}

/// What this process was asked by to leave a run, if it was.
pub(in crate::cli) fn asked_to_part() -> Option<Exit> {
    *PARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of why this process is asked to leave a run.
pub(super) fn note_parting(exit: Exit) {
    *PARTING.lock().unwrap_or_else(PoisonError::into_inner) = Some(exit);
}

/// Signals that go to the job as they are.
const PASSED: [(&str, i32); 6] = [
    ("SIGQUIT", 3),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGALRM", 14),
    ("SIGCONT", 18),
    ("SIGTSTP", 20),
];

/// Sends on what this process is told, until nobody listens any more.
///
/// A terminal that is closed lets go of the job, as does Ctrl-C where signals aren't the job's.
pub(in crate::cli) fn listen(controls: &UnboundedSender<Control>, passes_signals: bool) {
    let interrupt = if passes_signals {
        Control::Interrupt
    } else {
        Control::Detach
    };
    let terminate = if passes_signals {
        Control::Terminate
    } else {
        Control::Detach
    };
    spawn(controls, SignalKind::interrupt(), move || Some(interrupt));
    spawn(controls, SignalKind::terminate(), move || Some(terminate));
    spawn(controls, SignalKind::hangup(), || Some(Control::Detach));
    spawn(controls, SignalKind::window_change(), || {
        terminal::size().map(|(columns, rows)| Control::Resize(columns, rows))
    });
    if passes_signals {
        for (name, number) in PASSED {
            spawn(controls, SignalKind::from_raw(number), move || {
                Some(Control::Signal(name))
            });
        }
    }
}

/// The same for a process that supervises a run which nobody waits for: it is told to end with its
/// machine, and the run is then let go.
pub(in crate::cli) fn listen_as_supervisor(controls: &UnboundedSender<Control>) {
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        spawn(controls, kind, || Some(Control::Detach));
    }
}

/// The same for a process that runs several jobs, whose signals and sizes are nobody's in particular.
pub(in crate::cli) fn listen_for_all(controls: &UnboundedSender<Control>) {
    spawn(controls, SignalKind::interrupt(), || {
        Some(Control::Interrupt)
    });
    spawn(controls, SignalKind::terminate(), || {
        Some(Control::Terminate)
    });
    spawn(controls, SignalKind::hangup(), || Some(Control::Detach));
}

/// Whether this process was started with a signal that it is to ignore, as `nohup` and shells without job
/// control do: that stays so (POSIX, 2.12 of the shell's language).
pub(in crate::cli) fn is_ignored(kind: SignalKind) -> bool {
    static IGNORED: OnceLock<u64> = OnceLock::new();

    // Before any of them is listened for; where that can't be read, none is ignored.
    let ignored = IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or_default()
    });
    let number = kind.as_raw_value();
    (1..=64).contains(&number) && ignored >> (number - 1) & 1 == 1
}

/// What a process ends with that a signal has ended, as shells number it.
fn exit_code(kind: SignalKind) -> Option<Exit> {
    match kind {
        kind if kind == SignalKind::interrupt() => Some(Exit::Interrupted),
        kind if kind == SignalKind::terminate() => Some(Exit::Terminated),
        kind if kind == SignalKind::hangup() => Some(Exit::HungUp),
        _ => None,
    }
}

fn spawn(
    controls: &UnboundedSender<Control>,
    kind: SignalKind,
    control: impl Fn() -> Option<Control> + Send + 'static,
) {
    let may_be_ignored = [SignalKind::hangup(), SignalKind::interrupt()];
    if may_be_ignored.contains(&kind) && is_ignored(kind) {
        return;
    }
    let Ok(mut signals) = signal(kind) else {
        return;
    };
    let controls = controls.clone();
    // Ends with the runtime, or with whoever listens.
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            if let Some(exit) = exit_code(kind) {
                note_parting(exit);
            }
            if let Some(control) = control()
                && controls.send(control).is_err()
            {
                return;
            }
        }
    });
}

//! How an attempt, and with it a run, ended.

use crate::engine::run::{Container, RunError};
use crate::records::{Attempt, Ending, Record, State};

use super::cancel::StopCause;
use super::control::Orders;

/// What the engine says of a container that it lost hold of: nothing that its program said.
const UNKNOWN_CODE: i64 = 255;

/// Notes in an attempt how its container ended.
pub(super) fn note_end(attempt: &mut Attempt, container: &Container, orders: Orders) {
    attempt.started = container.started;
    attempt.restarts = attempt.restarts.max(container.restarts);
    // The engine takes the two times from two clocks: a program may seem to end before it started.
    let started = container.started;
    attempt.finished =
        (container.finished).map(|time| started.map_or(time, |start| start.max(time)));
    attempt.exit_code = container.exit_code;
    attempt.is_oom_killed = container.is_oom_killed;
    attempt.memory_limit = container.memory_limit;
    let code = container.exit_code.unwrap_or(UNKNOWN_CODE);
    attempt.signal = (code > 128 && code <= 128 + 64)
        .then(|| i32::try_from(code - 128).expect("it is 64 at most"));
    attempt.ending = Some(if orders.is_timed_out {
        Ending::Timeout
    } else if orders.is_stopped {
        Ending::Stopped
    } else if code == 137 && container.is_oom_killed {
        Ending::Oom
    } else if code == 0 {
        Ending::Success
    } else {
        Ending::Error
    });
    if let Some(error) = container.error.as_ref().filter(|error| !error.is_empty()) {
        attempt.message = Some(error.clone());
    }
}

/// Notes in an attempt that its container has been started again: once or more often than the engine had
/// counted when it was last looked at. An engine that is started itself counts from nothing.
pub(super) fn note_restart(attempt: &mut Attempt, container: &Container, seen: &mut Option<u32>) {
    let count = container.restarts;
    let new = match *seen {
        Some(seen) if count > seen => count - seen,
        Some(_) => count.saturating_add(1),
        None => count.saturating_sub(attempt.restarts).max(1),
    };
    attempt.restarts = attempt.restarts.saturating_add(new);
    attempt.started = container.started;
    *seen = Some(count);
}

/// Notes what is seen of a container that was out of sight: it may have been started again meanwhile.
pub(super) fn note_seen(attempt: &mut Attempt, container: &Container, seen: &mut Option<u32>) {
    let is_again = attempt.started.is_some() && container.started > attempt.started;
    if container.status.is_up() && is_again {
        note_restart(attempt, container, seen);
    } else {
        attempt.restarts = attempt.restarts.max(container.restarts);
        attempt.started = container.started;
        *seen = Some(container.restarts);
    }
}

/// Notes in an attempt that its container did not start.
pub(super) fn note_failure(attempt: &mut Attempt, error: &RunError) {
    attempt.ending = Some(match error {
        RunError::NotFound { .. } | RunError::NotExecutable { .. } => Ending::NotStarted,
        _ => Ending::Infra,
    });
    attempt.exit_code = match error {
        RunError::NotFound { .. } => Some(127),
        RunError::NotExecutable { .. } => Some(126),
        _ => None,
    };
    attempt.message = Some(match error {
        RunError::NoInit { .. } | RunError::OtherPlatform { .. } | RunError::NoPeer { .. } => {
            format!("{error}; {}", error.help().unwrap_or_default())
        }
        error => error.to_string(),
    });
}

/// Notes in an attempt that its container is gone, and with it how it ended.
pub(super) fn note_removal(attempt: &mut Attempt) {
    attempt.ending = Some(Ending::Removed);
    attempt.message = Some("its container was removed by somebody else".to_owned());
    attempt.is_removed = true;
}

/// Makes the run's end that of its last attempt, or that of a stop while none was under way: before its
/// container started, or between two attempts.
pub(super) fn conclude(record: &mut Record, stopped: Option<StopCause>) {
    let fails_on_oom = record.policy.fails_on_oom;
    if let Some(attempt) = record.attempts.last_mut()
        && attempt.is_oom_killed
        && attempt.ending == Some(Ending::Success)
        && fails_on_oom
    {
        attempt.ending = Some(Ending::Oom);
    }
    let Some(attempt) = record.attempts.last() else {
        record.state = State::Failed;
        record.ending = Some(Ending::Infra);
        record.exit_code = Some(125);
        return;
    };
    let ending = stopped.map_or(attempt.ending.unwrap_or(Ending::Lost), StopCause::ending);
    record.started = attempt.started;
    record.finished = attempt.finished;
    let is_lost = !record.lost_outputs.is_empty();
    record.ending = Some(if is_lost { Ending::OutputsLost } else { ending });
    record.state = match ending {
        _ if is_lost => State::Failed,
        Ending::Success => State::Finished,
        Ending::Lost => State::Lost,
        // Whoever stops a service wanted its end, and a program that ends with 0 made a good one.
        Ending::Stopped if attempt.exit_code == Some(0) && stopped.is_none() => State::Finished,
        _ => State::Failed,
    };
    let code = match ending {
        _ if stopped.is_some() => stopped.map_or(125, StopCause::exit_code),
        Ending::Timeout => 124,
        Ending::Infra | Ending::Lost | Ending::Removed => 125,
        // Also where its program went on without the process that was killed.
        Ending::Oom => 137,
        // What is beyond a byte is cut off by the kernel in the same way.
        _ => attempt.exit_code.map_or(125, |code| code.to_le_bytes()[0]),
    };
    record.exit_code = Some(if is_lost { code.max(1) } else { code });
    let oom = "the kernel killed a process of it because its memory was full";
    let is_new = !record.warnings.iter().any(|warning| warning == oom);
    if attempt.is_oom_killed && ending != Ending::Oom && is_new {
        record.warnings.push(oom.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::run::Status;

    fn container(code: i64, is_oom_killed: bool) -> Container {
        Container {
            status: Status::Exited,
            exit_code: Some(code),
            is_oom_killed,
            ..Container::default()
        }
    }

    #[test]
    fn no_program_ends_before_it_started() {
        let at = |second| jiff::Timestamp::from_second(second).ok();
        let mut ended = container(0, false);
        for (started, finished, noted) in [(1, 2, 2), (2, 1, 2)] {
            (ended.started, ended.finished) = (at(started), at(finished));
            let mut attempt = Attempt::default();
            note_end(&mut attempt, &ended, Orders::default());
            assert_eq!(attempt.finished, at(noted));
        }
    }

    #[test]
    fn restarts_are_counted_over_an_engine_that_counts_anew() {
        let at = |second| jiff::Timestamp::from_second(second).ok();
        let (mut attempt, mut seen) = (Attempt::default(), Some(0));
        let mut looks = |start: i64, restarts, is_followed| {
            let mut found = container(0, false);
            (found.status, found.started, found.restarts) = (Status::Running, at(start), restarts);
            if is_followed {
                note_restart(&mut attempt, &found, &mut seen);
            } else {
                note_seen(&mut attempt, &found, &mut seen);
            }
            attempt.restarts
        };
        assert_eq!(looks(1, 0, false), 0);
        assert_eq!(looks(2, 1, true), 1);
        // Two at once.
        assert_eq!(looks(4, 3, true), 3);
        // The same that was seen before.
        assert_eq!(looks(4, 3, false), 3);
        // The engine was started again, and then the container once more.
        assert_eq!(looks(5, 0, false), 4);
        assert_eq!(looks(6, 1, true), 5);
        // Another supervisor, which knows the record alone.
        let mut adopted = Attempt {
            restarts: 5,
            started: at(6),
            ..Attempt::default()
        };
        let mut found = container(0, false);
        (found.status, found.started, found.restarts) = (Status::Running, at(7), 2);
        note_seen(&mut adopted, &found, &mut None);
        assert_eq!(adopted.restarts, 6);
    }

    #[test]
    fn an_end_is_told_by_code_memory_and_orders() {
        let none = Orders::default();
        let stopped = Orders {
            is_stopped: true,
            ..none
        };
        let timed_out = Orders {
            is_timed_out: true,
            is_stopped: true,
        };
        for (code, is_oom_killed, orders, ending, signal) in [
            (0, false, none, Ending::Success, None),
            (3, false, none, Ending::Error, None),
            (137, true, none, Ending::Oom, Some(9)),
            (137, false, none, Ending::Error, Some(9)),
            (0, true, none, Ending::Success, None),
            (143, false, stopped, Ending::Stopped, Some(15)),
            (137, false, timed_out, Ending::Timeout, Some(9)),
            (255, false, none, Ending::Error, None),
        ] {
            let mut attempt = Attempt::default();
            note_end(&mut attempt, &container(code, is_oom_killed), orders);
            assert_eq!(attempt.ending, Some(ending), "{code}");
            assert_eq!(attempt.signal, signal, "{code}");
        }
    }
}

//! The state of a container as one enum, changed only by the pure [`step`].
//!
//! ```text
//! Created ──start──▶ Starting ──ok──▶ Running ◀──▶ Paused
//!    ▲                  │ fail            │ exit
//!    │                  ▼                 ├──(policy)──▶ Restarting ──timer──▶ Starting
//!    │               Created/Exited       ▼
//!    └──────────────────────────────── Exited ──start──▶ Starting
//! any but Running ──remove──▶ Removing ──▶ (gone)          cleanup failed ──▶ Dead
//! ```

use std::time::Duration;

use barque_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::spec::RestartPolicy;

/// Back-off of restarts: first wait, doubled each time, back to the first after a run of this length.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);
pub const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum State {
    Created {
        error: Option<StartFailure>,
    },
    Starting {
        since: Timestamp,
        /// The run before: a start that fails does not undo it.
        #[serde(default)]
        before: Option<Exit>,
    },
    Running(Running),
    Restarting {
        exit: Exit,
        backoff: Duration,
        not_before: Timestamp,
    },
    Exited {
        exit: Exit,
    },
    Removing {
        exit: Option<Exit>,
    },
    Dead {
        why: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    pub pid: i32,
    pub started_at: Timestamp,
    pub paused: bool,
    /// Somebody asked it to stop: the restart policy does not apply to the exit that follows.
    pub stop_requested: bool,
    /// The wait before the next restart.
    pub backoff: Duration,
}

/// How the last run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// 0..=255; 128+n for signal n.
    pub code: i32,
    pub oom_killed: bool,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    /// Why it could not start, where it never ran.
    pub error: String,
    /// It ended because somebody stopped it: `unless-stopped` keeps it down over engine restarts.
    pub stopped_by_user: bool,
}

/// A start that did not come to running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartFailure {
    pub message: String,
    /// 126, 127 or 128.
    pub code: i32,
    pub at: Timestamp,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    StartRequested,
    Started { pid: i32 },
    StartFailed(StartFailure),
    StopRequested,
    Paused,
    Unpaused,
    ProcessExited { code: i32, oom_killed: bool },
    RestartDue,
    RemoveRequested,
    RemoveFailed(String),
}

/// What the driver has to do after a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Launch,
    /// Launch again after this long.
    ScheduleRestart(Duration),
    CancelRestart,
    /// The last run is over and no other follows.
    Ended,
    Remove,
}

/// Why an event does not fit a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    AlreadyStarted,
    NotRunning,
    Paused,
    NotPaused,
    Running,
    Restarting,
    Removing,
    Dead,
    Stale,
}

impl State {
    pub fn is_running(&self) -> bool {
        matches!(self, State::Running(_))
    }

    /// Running as Docker sees it: also between two runs of a restart policy.
    pub fn is_up(&self) -> bool {
        matches!(self, State::Running(_) | State::Restarting { .. })
    }

    pub fn running(&self) -> Option<&Running> {
        match self {
            State::Running(r) => Some(r),
            _ => None,
        }
    }

    /// How the last run ended, if there was one.
    pub fn last_exit(&self) -> Option<&Exit> {
        match self {
            State::Exited { exit } | State::Restarting { exit, .. } => Some(exit),
            State::Removing { exit } => exit.as_ref(),
            _ => None,
        }
    }

    /// Docker's word: created, running, paused, restarting, removing, exited or dead.
    pub fn status(&self) -> &'static str {
        match self {
            State::Created { .. } | State::Starting { .. } => "created",
            State::Running(r) if r.paused => "paused",
            State::Running(_) => "running",
            State::Restarting { .. } => "restarting",
            State::Exited { .. } => "exited",
            State::Removing { .. } => "removing",
            State::Dead { .. } => "dead",
        }
    }
}

/// The machine. `now` is given, so that this is a function of its arguments.
pub fn step(state: &State, event: Event, policy: Policy, now: Timestamp) -> Result<(State, Vec<Effect>), Denied> {
    match (state, event) {
        (State::Removing { .. }, Event::RemoveFailed(why)) => Ok((State::Dead { why }, vec![])),
        (State::Removing { .. }, _) => Err(Denied::Removing),
        (State::Created { .. } | State::Exited { .. }, Event::StartRequested) => {
            Ok((starting(state, now), vec![Effect::Launch]))
        }
        (State::Restarting { .. }, Event::StartRequested | Event::RestartDue) => {
            Ok((starting(state, now), vec![Effect::CancelRestart, Effect::Launch]))
        }
        (State::Running(r), Event::StartRequested) => {
            Err(if r.paused { Denied::Paused } else { Denied::AlreadyStarted })
        }
        (State::Starting { .. }, Event::StartRequested) => Err(Denied::AlreadyStarted),
        (State::Starting { .. }, Event::Started { pid }) => {
            let backoff = policy.backoff.unwrap_or(BACKOFF_FIRST);
            let running = Running { pid, started_at: now, paused: false, stop_requested: false, backoff };
            Ok((State::Running(running), vec![]))
        }
        (State::Starting { before, .. }, Event::StartFailed(failure)) => {
            Ok(start_failed(failure, before.as_ref(), now))
        }
        (State::Running(r), Event::StopRequested) => {
            Ok((State::Running(Running { stop_requested: true, ..r.clone() }), vec![]))
        }
        (State::Restarting { exit, .. }, Event::StopRequested) => {
            let exit = Exit { stopped_by_user: true, ..exit.clone() };
            Ok((State::Exited { exit }, vec![Effect::CancelRestart, Effect::Ended]))
        }
        (State::Running(r), Event::Paused) if r.paused => Err(Denied::Paused),
        (State::Running(r), Event::Paused) => Ok((State::Running(Running { paused: true, ..r.clone() }), vec![])),
        (State::Running(r), Event::Unpaused) if !r.paused => Err(Denied::NotPaused),
        (State::Running(r), Event::Unpaused) => Ok((State::Running(Running { paused: false, ..r.clone() }), vec![])),
        (State::Running(r), Event::ProcessExited { code, oom_killed }) => Ok(exited(r, code, oom_killed, policy, now)),
        (State::Running(r), Event::RemoveRequested) if r.paused => Err(Denied::Paused),
        (State::Running(_) | State::Starting { .. }, Event::RemoveRequested) => Err(Denied::Running),
        (State::Restarting { .. }, Event::RemoveRequested) => Err(Denied::Restarting),
        (_, Event::RemoveRequested) => {
            let exit = state.last_exit().cloned();
            Ok((State::Removing { exit }, vec![Effect::CancelRestart, Effect::Remove]))
        }
        (State::Dead { .. }, _) => Err(Denied::Dead),
        (_, Event::Unpaused) => Err(Denied::NotPaused),
        (_, Event::StopRequested | Event::Paused) => Err(Denied::NotRunning),
        _ => Err(Denied::Stale),
    }
}

/// What decides whether an ended container starts again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    pub restart: RestartPolicy,
    /// Restarts so far.
    pub restarts: u32,
    /// The wait that preceded this start, doubled for the next.
    pub backoff: Option<Duration>,
}

fn starting(from: &State, now: Timestamp) -> State {
    State::Starting { since: now, before: from.last_exit().cloned() }
}

/// A failed first start leaves `created`; a container that ran before has exited once more.
fn start_failed(failure: StartFailure, before: Option<&Exit>, now: Timestamp) -> (State, Vec<Effect>) {
    let Some(before) = before else {
        return (State::Created { error: Some(failure) }, vec![Effect::Ended]);
    };
    let exit = Exit {
        code: failure.code,
        oom_killed: false,
        started_at: before.started_at,
        finished_at: now,
        error: failure.message,
        stopped_by_user: false,
    };
    (State::Exited { exit }, vec![Effect::Ended])
}

fn exited(r: &Running, code: i32, oom_killed: bool, policy: Policy, now: Timestamp) -> (State, Vec<Effect>) {
    let exit = Exit {
        code,
        oom_killed,
        started_at: Some(r.started_at),
        finished_at: now,
        error: String::new(),
        stopped_by_user: r.stop_requested,
    };
    let again = !r.stop_requested
        && match policy.restart {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { max_retries } => {
                code != 0 && (max_retries == 0 || policy.restarts < max_retries)
            }
        };
    if !again {
        return (State::Exited { exit }, vec![Effect::Ended]);
    }
    let long_run = now.since(r.started_at) >= BACKOFF_RESET_AFTER;
    let backoff = if long_run { BACKOFF_FIRST } else { r.backoff };
    let state = State::Restarting { exit, backoff, not_before: now + backoff };
    (state, vec![Effect::ScheduleRestart(backoff)])
}

/// The wait after this one.
pub fn next_backoff(current: Duration) -> Duration {
    (current * 2).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn running(stop_requested: bool) -> State {
        State::Running(Running { pid: 7, started_at: at(0), paused: false, stop_requested, backoff: BACKOFF_FIRST })
    }

    fn policy(restart: RestartPolicy, restarts: u32) -> Policy {
        Policy { restart, restarts, backoff: None }
    }

    fn exit(code: i32) -> Event {
        Event::ProcessExited { code, oom_killed: false }
    }

    #[test]
    fn a_start_goes_through_starting() {
        let (s, e) = step(&State::Created { error: None }, Event::StartRequested, Policy::default(), at(1)).unwrap();
        assert_eq!(e, [Effect::Launch]);
        let (s, e) = step(&s, Event::Started { pid: 7 }, Policy::default(), at(2)).unwrap();
        assert!(e.is_empty());
        assert_eq!(s.status(), "running");
        assert_eq!(step(&s, Event::StartRequested, Policy::default(), at(3)), Err(Denied::AlreadyStarted));
    }

    #[test]
    fn on_failure_restarts_only_failures_and_only_so_often() {
        let on_failure = RestartPolicy::OnFailure { max_retries: 2 };
        let next = |code, restarts| step(&running(false), exit(code), policy(on_failure, restarts), at(5)).unwrap().0;
        assert_eq!(next(0, 0).status(), "exited");
        assert_eq!(next(1, 1).status(), "restarting");
        assert_eq!(next(1, 2).status(), "exited");
    }

    #[test]
    fn a_requested_stop_beats_every_policy() {
        let (s, e) = step(&running(true), exit(137), policy(RestartPolicy::Always, 0), at(5)).unwrap();
        assert_eq!(s.status(), "exited");
        assert_eq!(e, [Effect::Ended]);
        assert!(s.last_exit().unwrap().stopped_by_user);
    }

    #[test]
    fn backoff_resets_after_a_long_run() {
        let long = Running {
            pid: 7,
            started_at: at(0),
            paused: false,
            stop_requested: false,
            backoff: Duration::from_secs(5),
        };
        let state = State::Running(long);
        let (_, e) = step(&state, exit(1), policy(RestartPolicy::Always, 3), at(11_000)).unwrap();
        assert_eq!(e, [Effect::ScheduleRestart(BACKOFF_FIRST)]);
        let (_, e) = step(&state, exit(1), policy(RestartPolicy::Always, 3), at(1_000)).unwrap();
        assert_eq!(e, [Effect::ScheduleRestart(Duration::from_secs(5))]);
        assert_eq!(next_backoff(Duration::from_secs(50)), BACKOFF_MAX);
    }

    #[test]
    fn running_containers_are_not_removed() {
        assert_eq!(step(&running(false), Event::RemoveRequested, Policy::default(), at(1)), Err(Denied::Running));
        let exited = step(&running(false), exit(0), Policy::default(), at(1)).unwrap().0;
        let (s, e) = step(&exited, Event::RemoveRequested, Policy::default(), at(2)).unwrap();
        assert_eq!(e, [Effect::CancelRestart, Effect::Remove]);
        assert_eq!(step(&s, Event::StartRequested, Policy::default(), at(3)), Err(Denied::Removing));
        assert_eq!(s.last_exit().map(|x| x.code), Some(0));
    }

    #[test]
    fn a_failed_start_does_not_undo_the_runs_before() {
        let failure = || Event::StartFailed(StartFailure { message: "no".into(), code: 128, at: at(4) });
        let start = |from: &State| step(from, Event::StartRequested, Policy::default(), at(3)).unwrap().0;
        let first = step(&start(&State::Created { error: None }), failure(), Policy::default(), at(4)).unwrap().0;
        assert_eq!(first.status(), "created");
        let exited = step(&running(false), exit(0), Policy::default(), at(2)).unwrap().0;
        let again = step(&start(&exited), failure(), Policy::default(), at(4)).unwrap().0;
        assert_eq!(again.last_exit().map(|e| (e.code, e.started_at)), Some((128, Some(at(0)))));
    }

    #[test]
    fn a_container_between_two_runs_is_up_and_not_removed() {
        let waiting = step(&running(false), exit(1), policy(RestartPolicy::Always, 0), at(1)).unwrap().0;
        assert!(waiting.is_up() && !waiting.is_running());
        assert_eq!(step(&waiting, Event::RemoveRequested, Policy::default(), at(2)), Err(Denied::Restarting));
    }

    #[test]
    fn stopping_while_waiting_for_a_restart_ends_it() {
        let waiting = step(&running(false), exit(1), policy(RestartPolicy::Always, 0), at(1)).unwrap().0;
        let (s, e) = step(&waiting, Event::StopRequested, policy(RestartPolicy::Always, 0), at(2)).unwrap();
        assert_eq!(s.status(), "exited");
        assert_eq!(e, [Effect::CancelRestart, Effect::Ended]);
    }
}

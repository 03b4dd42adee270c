//! The monitor: parent of one task. Starts it, holds its streams, writes its log, reaps it, records how it
//! ended, and takes down what it stood on. A process of its own with one thread, so that the daemon may die.

mod client;
mod launch;
mod log;
mod pump;
mod record;
mod stdin;
mod time;

use std::os::fd::{AsFd, OwnedFd};

use barque_sys::child::FileKey;
use barque_sys::process::{self, ArgumentArea};

use crate::protocol::{Message, Stage};
use crate::request::Request;

pub(crate) use record::{FILE as EXIT_FILE, read as read_exit, write as write_exit};

/// What every monitor inherits from its spawner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inherited {
    pub own_program: FileKey,
    pub arguments: Option<ArgumentArea>,
}

/// The whole life of a monitor: answers the request that comes over `connection`, then serves the task. The
/// result is the exit status of this process.
pub(crate) fn serve(connection: OwnedFd, inherited: Inherited) -> i32 {
    let _ = process::setsid();
    process::reset_signals();
    let (request, fds) = match Request::receive(&connection) {
        Ok(received) => received,
        Err(e) => {
            let errno = e.raw_os_error().unwrap_or(0);
            let answer = Message::LaunchFailed { stage: Stage::Request, index: 0, step: 0, errno };
            let _ = answer.send(&connection, &[]);
            return 1;
        }
    };
    process::set_title(c"barque-monitor", &format!("barque-monitor {}", request.title), inherited.arguments);
    match launch::launch(request, fds, inherited) {
        Ok(launched) => {
            let answer = Message::Launched {
                pid: launched.task.pid,
                started_at: launched.task.started_at,
                warnings: launched.warnings,
            };
            // A daemon that has died meanwhile finds the task again by its run directory.
            let _ = answer.send(&connection, &[launched.task.pidfd.as_fd()]);
            pump::run(launched.task, connection)
        }
        Err(failure) => {
            let _ = failure.send(&connection, &[]);
            1
        }
    }
}

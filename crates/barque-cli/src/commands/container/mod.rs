//! `container …`, and the same commands without the first word.

mod api_socket;
mod attach;
mod cp;
mod exec;
mod launch;
mod life;
mod list;
mod logs;
mod misc;
mod start;
mod stats;

pub(crate) use attach::attach;
pub(crate) use cp::{cp, stdin};
pub(crate) use exec::exec;
pub(crate) use launch::{create, run};
pub(crate) use life::{kill, pause, rename, restart, rm, stop, unpause, wait};
pub(crate) use list::ls;
pub(crate) use logs::logs;
pub(crate) use misc::{commit, diff, export, inspect, line, port, prune, remaining, stopped, top, update};
pub(crate) use start::start;
pub(crate) use stats::stats;

//! A monitor's answer in words, Docker's where users and scripts see them.

use std::ffi::CStr;

use barque_model::Error;
use barque_sys::child::{Op, Report, Step};
use rustix::io::Errno;

use crate::cgroup::live::write_failed;
use crate::cgroup::plan::Write;
use crate::error::{LaunchError, LaunchErrorKind};
use crate::plan::Plan;
use crate::protocol::Stage;

/// Where and why a launch failed.
#[derive(Debug)]
pub(super) struct What {
    pub stage: Stage,
    pub index: usize,
    pub step: u8,
    pub errno: i32,
}

/// The kernel's words for an error, as Go prints them.
fn words(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn error(kind: LaunchErrorKind, message: String) -> LaunchError {
    LaunchError { kind, error: Error::internal(message) }
}

fn not_running() -> LaunchError {
    LaunchError { kind: LaunchErrorKind::NotRunning, error: Error::conflict("the container has ended") }
}

/// The failure `what` of a launch by `plan`, whose cgroup writes were `writes`.
pub(super) fn explain(what: &What, plan: &Plan, writes: &[Write]) -> LaunchError {
    let why = words(what.errno);
    let other = |message: String| error(LaunchErrorKind::Other, message);
    match what.stage {
        Stage::Request => other(format!("the monitor did not understand its request: {why}")),
        Stage::CgroupCreate => {
            error(LaunchErrorKind::Cgroup, format!("failed to create the container's cgroup: {why}"))
        }
        Stage::CgroupWrite => match writes.get(what.index) {
            Some(write) => LaunchError {
                kind: LaunchErrorKind::Cgroup,
                error: write_failed(write, Errno::from_raw_os_error(what.errno)),
            },
            None => error(LaunchErrorKind::Cgroup, format!("failed to set a limit: {why}")),
        },
        Stage::Devices => error(LaunchErrorKind::Cgroup, format!("failed to restrict devices (bpf): {why}")),
        Stage::Streams => other(format!("cannot set up the streams of the container: {why}")),
        Stage::PidNamespace if what.errno == Errno::SRCH.raw_os_error() => not_running(),
        Stage::PidNamespace => other(format!("cannot join the pid namespace: {why}")),
        Stage::Clone if what.errno == Errno::BUSY.raw_os_error() => {
            error(LaunchErrorKind::Cgroup, format!("cannot start a process in the container's cgroup: {why}"))
        }
        Stage::Clone => other(format!("clone: {why}")),
        Stage::Operation => operation(what, plan, &why),
        Stage::Vanished => other("the container's first process died before it was executed".to_owned()),
    }
}

fn operation(what: &What, plan: &Plan, why: &str) -> LaunchError {
    let ops = Op::decode_all(&plan.ops).unwrap_or_default();
    let step = Step::from_u8(what.step).unwrap_or(Step::Call);
    match ops.get(what.index) {
        Some(Op::Lookup { name, .. }) => lookup(name, step, what.errno, why),
        Some(Op::Exec { argv, .. }) => {
            let name = argv.iter().next().unwrap_or_default().to_string_lossy().into_owned();
            let kind = match Errno::from_raw_os_error(what.errno) {
                Errno::NOEXEC => LaunchErrorKind::ExecFormat,
                Errno::NOENT => LaunchErrorKind::NotFound,
                Errno::ACCESS | Errno::PERM => LaunchErrorKind::PermissionDenied,
                _ => LaunchErrorKind::Other,
            };
            error(kind, format!("exec {name}: {why}"))
        }
        Some(Op::Cwd { path, .. }) => {
            let path = path.to_string_lossy();
            match step {
                Step::Target if what.errno != Errno::NOENT.raw_os_error() => {
                    error(LaunchErrorKind::Cwd, format!("mkdir {path}: {why}"))
                }
                _ => error(LaunchErrorKind::Cwd, format!("chdir to cwd (\"{path}\") set in config.json failed: {why}")),
            }
        }
        Some(Op::SetNs { .. }) if what.errno == Errno::SRCH.raw_os_error() => not_running(),
        Some(op @ (Op::Mount { .. } | Op::Attach { .. } | Op::SwitchRoot { .. })) => {
            let mut text = format!("{}: {}{why}", crate::plan::describe(op), at(step));
            if let Op::Attach { target, .. } = op {
                let unlike = matches!(Errno::from_raw_os_error(what.errno), Errno::NOTDIR | Errno::ISDIR);
                // Docker's client takes "is a directory" for a program that cannot be run.
                let why = if unlike { "not a directory" } else { why };
                text = format!("error mounting to rootfs at \"{}\": {}{why}", target.to_string_lossy(), at(step));
                if unlike {
                    text += ": Are you trying to mount a directory onto a file (or vice-versa)? \
                             Check if the specified host path exists and is the expected type";
                }
            }
            error(LaunchErrorKind::Mount, text)
        }
        Some(op) => error(LaunchErrorKind::Other, format!("{}: {}{why}", crate::plan::describe(op), at(step))),
        None => error(LaunchErrorKind::Other, format!("operation {}: {why}", what.index)),
    }
}

/// Go's `exec.LookPath`, as Docker shows it.
fn lookup(name: &CStr, step: Step, errno: i32, why: &str) -> LaunchError {
    let name = name.to_string_lossy();
    match step {
        Step::NotInPath => {
            error(LaunchErrorKind::NotFound, format!("exec: \"{name}\": executable file not found in $PATH"))
        }
        Step::Stat => {
            let kind = match Errno::from_raw_os_error(errno) {
                Errno::ACCESS => LaunchErrorKind::PermissionDenied,
                _ => LaunchErrorKind::NotFound,
            };
            error(kind, format!("exec: \"{name}\": stat {name}: {why}"))
        }
        // Docker's client knows 126 by "permission denied" alone.
        Step::IsDirectory => {
            error(LaunchErrorKind::PermissionDenied, format!("exec: \"{name}\": permission denied: it is a directory"))
        }
        _ => error(LaunchErrorKind::PermissionDenied, format!("exec: \"{name}\": permission denied")),
    }
}

/// The part of an operation, where it needs saying.
fn at(step: Step) -> &'static str {
    match step {
        Step::FsType => "the kernel has no such file system: ",
        Step::Option => "unknown or bad option: ",
        Step::Target => "mount point: ",
        Step::Subpath => "subpath: ",
        Step::Ids => "user and groups: ",
        Step::Caps | Step::Bounding => "capabilities: ",
        Step::Terminal => "controlling terminal: ",
        _ => "",
    }
}

/// A step the child went on without.
pub(super) fn warning(plan: &Plan, report: &Report) -> String {
    let ops = Op::decode_all(&plan.ops).unwrap_or_default();
    let what = plan.words(usize::from(report.op));
    let why = words(report.errno);
    match ops.get(usize::from(report.op)) {
        Some(Op::Rlimit { .. }) => format!("{what}: the engine may not raise its own hard limit ({why}), kept lower"),
        _ => format!("{what}: {why}"),
    }
}

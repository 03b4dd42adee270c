//! Why a task could not be started.

use std::fmt;

use barque_model::{Error, ErrorKind};

/// What kept a task from starting; decides the exit status Docker reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchErrorKind {
    /// `exec: "x": executable file not found in $PATH` and `stat x: no such file or directory` (127).
    NotFound,
    /// `exec: "x": permission denied` (126).
    PermissionDenied,
    /// The file is no program (126).
    ExecFormat,
    /// `unable to find user x: no matching entries in passwd file`.
    User,
    /// The working directory cannot be entered.
    Cwd,
    /// A mount or the root file system.
    Mount,
    /// Limits that the kernel refuses.
    Cgroup,
    /// The specification makes no sense.
    Invalid,
    /// The container to execute in has ended.
    NotRunning,
    /// Everything else.
    Other,
}

/// A failed launch. Everything it had set up has been taken down again.
#[derive(Debug)]
pub struct LaunchError {
    pub kind: LaunchErrorKind,
    /// The part after Docker's `unable to start container process: `, such as `exec: "foo": …`.
    pub error: Error,
}

impl LaunchError {
    pub fn new(kind: LaunchErrorKind, error: Error) -> LaunchError {
        LaunchError { kind, error }
    }

    /// The exit status `docker run` ends with: 127, 126 or 125.
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            LaunchErrorKind::NotFound => 127,
            LaunchErrorKind::PermissionDenied | LaunchErrorKind::ExecFormat => 126,
            _ => 125,
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for LaunchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<Error> for LaunchError {
    fn from(error: Error) -> LaunchError {
        let kind = match error.kind() {
            ErrorKind::InvalidArgument => LaunchErrorKind::Invalid,
            _ => LaunchErrorKind::Other,
        };
        LaunchError { kind, error }
    }
}

impl From<LaunchError> for Error {
    fn from(e: LaunchError) -> Error {
        e.error
    }
}

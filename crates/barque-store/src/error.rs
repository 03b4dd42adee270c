//! Turns SQLite's and the file system's failures into [`barque_model::Error`]s that say what, where and the cure.

use std::os::fd::AsFd;
use std::path::Path;

use barque_model::{Error, ErrorKind, size};
use rusqlite::ErrorCode;

/// What a constraint violation was about; the caller turns it into a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A UNIQUE or PRIMARY KEY constraint.
    Taken,
    /// A foreign key: the row is referenced, or refers to nothing.
    Referenced,
}

/// The constraint that `error` violates, if that is what it is.
pub(crate) fn violation(error: &rusqlite::Error) -> Option<Violation> {
    let rusqlite::Error::SqliteFailure(failure, _) = error else { return None };
    if failure.code != ErrorCode::ConstraintViolation {
        return None;
    }
    // Extended codes of https://www.sqlite.org/rescode.html: 2067 UNIQUE, 1555 PRIMARYKEY, 2579 ROWID;
    // 787 FOREIGNKEY and 1811 TRIGGER, which ON DELETE RESTRICT raises.
    match failure.extended_code {
        2067 | 1555 | 2579 => Some(Violation::Taken),
        787 | 1811 => Some(Violation::Referenced),
        _ => None,
    }
}

/// A database failure without a sentence of its own.
pub(crate) fn db(error: rusqlite::Error) -> Error {
    let kind = match &error {
        rusqlite::Error::SqliteFailure(f, _) => match f.code {
            ErrorCode::DiskFull => {
                return Error::unavailable("no space left on device for the engine's database")
                    .with_hint("free some space, for example with `barque system prune`")
                    .with_source(error);
            }
            ErrorCode::ConstraintViolation => ErrorKind::Conflict,
            _ => ErrorKind::Internal,
        },
        _ => ErrorKind::Internal,
    };
    Error::new(kind, "the engine's database failed").with_source(error)
}

/// `error` while `doing` something under `path`. For a full disk the message says how much room there is and,
/// if `missing` (bytes still to be written) is known, how much was needed.
pub(crate) fn io(error: std::io::Error, doing: &str, path: &Path, missing: Option<u64>) -> Error {
    failed(error, doing, path, missing, &|| free_at(path))
}

/// As [`io`], where `path` is a name in an archive or a container: the file system is that of `place`.
pub(crate) fn io_in(place: impl AsFd, error: std::io::Error, doing: &str, path: &Path, missing: Option<u64>) -> Error {
    let free = || rustix::fs::fstatvfs(&place).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
    failed(error, doing, path, missing, &free)
}

/// Bytes free where a path is, or will be.
fn free_at(path: &Path) -> u64 {
    let mut dir = path;
    loop {
        match rustix::fs::statvfs(dir) {
            Ok(s) => return s.f_bavail.saturating_mul(s.f_frsize),
            Err(_) => match dir.parent() {
                Some(p) => dir = p,
                None => return 0,
            },
        }
    }
}

fn failed(error: std::io::Error, doing: &str, path: &Path, missing: Option<u64>, free: &dyn Fn() -> u64) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return from_io(error);
    }
    let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    if !full {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        };
        return Error::new(kind, format!("{doing} {}", path.display())).with_source(error);
    }
    let free = free();
    let lack = match missing {
        Some(m) if m > free => format!("{} more needed, {} free: {} missing", h(m), h(free), h(m - free)),
        Some(m) => format!("{} more needed, {} free", h(m), h(free)),
        None => format!("{} free", h(free)),
    };
    Error::unavailable(format!("{doing} {}: no space left on device ({lack})", path.display()))
        .with_hint("free some space, for example with `barque system prune`, and try again")
        .with_source(error)
}

fn h(bytes: u64) -> String {
    size::human(bytes)
}

/// Whether `error` comes of what was asked of the file system rather than of the file system's state: then the
/// archive that asked it is to blame.
pub(crate) fn is_impossible(error: &Error) -> bool {
    use rustix::io::Errno as E;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(layer) = cause {
        if let Some(io) = layer.downcast_ref::<std::io::Error>() {
            let errno = io.raw_os_error().map(E::from_raw_os_error);
            return matches!(
                errno,
                Some(
                    E::LOOP
                        | E::NOTDIR
                        | E::NOENT
                        | E::ISDIR
                        | E::EXIST
                        | E::INVAL
                        | E::FBIG
                        | E::NAMETOOLONG
                        | E::MLINK
                        | E::OVERFLOW
                        | E::RANGE
                        | E::TOOBIG
                        | E::XDEV
                        | E::NODATA
                )
            );
        }
        cause = layer.source();
    }
    false
}

/// Shorthand for [`io`] without a known amount.
pub(crate) trait IoContext<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T, Error>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T, Error> {
        self.map_err(|e| io(e, doing, path, None))
    }
}

impl<T> IoContext<T> for rustix::io::Result<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T, Error> {
        self.map_err(|e| io(e.into(), doing, path, None))
    }
}

/// Gets an [`Error`] back out of an [`std::io::Error`] that carried it through a trait.
pub(crate) fn from_io(error: std::io::Error) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        let kind = error.kind();
        return match error.into_inner().map(|inner| inner.downcast::<Error>()) {
            Some(Ok(own)) => *own,
            _ => Error::from(std::io::Error::from(kind)),
        };
    }
    Error::from(error)
}

/// Wraps an error for traits that know only [`std::io::Error`]; [`from_io`] gives it back whole.
pub(crate) fn into_io(error: Error) -> std::io::Error {
    let kind = match error.kind() {
        ErrorKind::Unavailable => std::io::ErrorKind::StorageFull,
        ErrorKind::InvalidArgument => std::io::ErrorKind::InvalidData,
        _ => std::io::ErrorKind::Other,
    };
    std::io::Error::new(kind, error)
}

//! Small replies and the query strings of container operations.

use serde::{Deserialize, Serialize};

use crate::filters::Filters;
use crate::query;

/// `GET /containers/{id}/top`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TopResponse {
    pub processes: Vec<Vec<String>>,
    pub titles: Vec<String>,
}

/// An entry of `GET /containers/{id}/changes`; the list is `null` if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Change {
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
    pub path: String,
}

/// Reply of `POST /containers/{id}/wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitExitError>,
    pub status_code: i64,
}

/// Why a wait failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitExitError {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Reply of `POST /containers/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainersPruned {
    pub containers_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// `X-Docker-Container-Path-Stat` (base64 of this document).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// Go's `os.FileMode`: permission bits, and the type in the high bits (see [`PathStat::DIRECTORY`]).
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    pub link_target: String,
}

impl PathStat {
    /// `mode` bit of a directory.
    pub const DIRECTORY: u32 = 1 << 31;
    /// `mode` bit of a symbolic link.
    pub const SYMLINK: u32 = 1 << 27;
    /// `mode` bit of a device.
    pub const DEVICE: u32 = 1 << 26;
    /// `mode` bit of a fifo.
    pub const FIFO: u32 = 1 << 25;
    /// `mode` bit of a socket.
    pub const SOCKET: u32 = 1 << 24;
    /// `mode` bit of set-user-id.
    pub const SETUID: u32 = 1 << 23;
    /// `mode` bit of set-group-id.
    pub const SETGID: u32 = 1 << 22;
    /// `mode` bit of a character device, together with [`PathStat::DEVICE`].
    pub const CHAR_DEVICE: u32 = 1 << 21;
    /// `mode` bit of the sticky bit.
    pub const STICKY: u32 = 1 << 20;

    /// Go's mode of a Unix `st_mode`.
    pub fn mode_from_unix(st_mode: u32) -> u32 {
        let kind = match st_mode & 0o170_000 {
            0o040_000 => Self::DIRECTORY,
            0o120_000 => Self::SYMLINK,
            0o060_000 => Self::DEVICE,
            0o020_000 => Self::DEVICE | Self::CHAR_DEVICE,
            0o010_000 => Self::FIFO,
            0o140_000 => Self::SOCKET,
            _ => 0,
        };
        let bit = |unix: u32, go: u32| if st_mode & unix != 0 { go } else { 0 };
        kind | bit(0o4000, Self::SETUID) | bit(0o2000, Self::SETGID) | bit(0o1000, Self::STICKY) | (st_mode & 0o777)
    }

    pub fn is_dir(&self) -> bool {
        self.mode & Self::DIRECTORY != 0
    }

    pub fn is_device(&self) -> bool {
        self.mode & Self::DEVICE != 0
    }

    pub fn is_symlink(&self) -> bool {
        self.mode & Self::SYMLINK != 0
    }
}

query! {
    /// Query of `GET /containers/json`.
    pub struct ContainerListQuery {
        /// Stopped ones too.
        all: bool => "all",
        /// Only the newest so many; 0 is all.
        limit: i64 => "limit",
        /// Compute sizes.
        size: bool => "size",
        /// Only those newer than this one (before 1.25).
        since: String => "since",
        /// Only those older than this one (before 1.25).
        before: String => "before",
        filters: Filters => "filters",
    }
}

query! {
    /// Query of `GET /containers/{id}/logs`.
    pub struct LogsQuery {
        follow: bool => "follow",
        stdout: bool => "stdout",
        stderr: bool => "stderr",
        /// Unix seconds with fraction, RFC 3339, or a duration ago.
        since: String => "since",
        /// As `since` (1.35).
        until: String => "until",
        timestamps: bool => "timestamps",
        /// Show the labels and variables of the logging options.
        details: bool => "details",
        /// `all` or a number of lines.
        tail: String => "tail",
    }
}

query! {
    /// Query of `POST /containers/{id}/attach`.
    pub struct AttachQuery {
        detach_keys: String => "detachKeys",
        /// Replay what was written so far.
        logs: bool => "logs",
        stream: bool => "stream",
        stdin: bool => "stdin",
        stdout: bool => "stdout",
        stderr: bool => "stderr",
    }
}

query! {
    /// Query of `POST /containers/{id}/start`.
    pub struct StartQuery {
        detach_keys: String => "detachKeys",
        checkpoint: String => "checkpoint",
        checkpoint_dir: String => "checkpoint-dir",
    }
}

query! {
    /// Query of `POST /containers/{id}/stop` and `/restart`.
    pub struct StopQuery {
        /// Since 1.42.
        signal: String => "signal",
        /// Seconds; -1 waits without limit, unset takes the container's.
        timeout: Option<i64> => "t",
    }
}

query! {
    /// Query of `POST /containers/{id}/kill`.
    pub struct KillQuery {
        /// Default `SIGKILL`.
        signal: String => "signal",
    }
}

query! {
    /// Query of `POST /containers/{id}/rename`.
    pub struct RenameQuery {
        name: String => "name",
    }
}

query! {
    /// Query of `POST /containers/{id}/resize` and `/exec/{id}/resize`, in characters.
    pub struct ResizeQuery {
        height: u32 => "h",
        width: u32 => "w",
    }
}

query! {
    /// Query of `DELETE /containers/{id}`.
    pub struct RemoveQuery {
        /// Remove anonymous volumes.
        volumes: bool => "v",
        /// Kill it first.
        force: bool => "force",
        /// Remove the link named by the path.
        link: bool => "link",
    }
}

query! {
    /// Query of `POST /containers/{id}/wait`.
    pub struct WaitQuery {
        /// `not-running` (default), `next-exit` or `removed` (1.30).
        condition: String => "condition",
    }
}

query! {
    /// Query of `GET /containers/{id}/top`.
    pub struct TopQuery {
        /// Default `-ef`.
        ps_args: String => "ps_args",
    }
}

query! {
    /// Query of `/containers/{id}/archive`.
    pub struct CopyQuery {
        path: String => "path",
        /// `PUT`: refuse to put a directory over a file and the reverse.
        no_overwrite_dir_non_dir: bool => "noOverwriteDirNonDir",
        /// `PUT`: keep the archive's owners.
        copy_uid_gid: bool => "copyUIDGID",
    }
}

query! {
    /// Query of `POST /containers/prune`, `/images/prune`, `/volumes/prune` and `/networks/prune`.
    pub struct PruneQuery {
        filters: Filters => "filters",
        /// Answer what would be removed, and remove nothing. Barque only: Docker's engine removes all the same.
        dry_run: bool => "dry-run",
        /// Ids of containers that a dry run takes for gone already.
        without: Vec<String> => "without",
    }
}

query! {
    /// Query of `POST /commit`.
    pub struct CommitQuery {
        container: String => "container",
        repo: String => "repo",
        tag: String => "tag",
        comment: String => "comment",
        author: String => "author",
        /// Default true.
        pause: Option<bool> => "pause",
        /// Dockerfile instructions, one per value (or per line).
        changes: Vec<String> => "changes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_mode_of_unix_modes() {
        assert_eq!(PathStat::mode_from_unix(0o040_755), 0x8000_01ed);
        assert_eq!(PathStat::mode_from_unix(0o100_644), 0o644);
        assert_eq!(PathStat::mode_from_unix(0o120_777), 0x0800_01ff);
        assert_eq!(PathStat::mode_from_unix(0o104_755), 0x0080_01ed);
        assert_eq!(PathStat::mode_from_unix(0o041_777), 0x8010_01ff);
    }
}

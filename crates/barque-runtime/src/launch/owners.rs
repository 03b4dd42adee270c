//! Binds that show their files with other owners: id-mapped mounts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use barque_model::idmap::{self, IDENTITY};
use barque_model::{Context, Error, ErrorKind, IdMap, IdRange, Result};
use barque_sys::mount;
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use crate::users::{self, User};

/// Maps the owners of the detached mount `tree`, a bind of `path`, for a container with the root `root` that runs
/// as `user`.
pub(crate) fn map(
    tree: &OwnedFd,
    path: &Path,
    recursive: bool,
    owners: &IdMap,
    root: BorrowedFd<'_>,
    user: &User,
) -> Result<()> {
    let one = |stored, shown| vec![IdRange { stored, shown, count: 1 }];
    let (users, groups) = match owners {
        IdMap::Ranges { users, groups } => (users.clone(), groups.clone()),
        IdMap::MatchUser(name) => {
            let stat = rustix::fs::fstat(tree).with_context(|| format!("owner of {}", path.display()))?;
            let named = if name.is_empty() { None } else { Some(users::lookup(root, name, &[])?) };
            let user = named.as_ref().unwrap_or(user);
            (one(stat.st_uid, user.uid), one(stat.st_gid, user.gid))
        }
    };
    let lines = |ranges: &[IdRange]| idmap::lines(if ranges.is_empty() { &[IDENTITY] } else { ranges });
    let namespace = mount::user_namespace(&lines(&users), &lines(&groups)).map_err(|e| {
        Error::unavailable(format!("cannot map the owners of {}: no user namespace for it", path.display()))
            .with_source(e)
            .with_hint("the engine needs them for id-mapped mounts: sysctl user.max_user_namespaces must not be 0")
    })?;
    mount::map_owners(tree.as_fd(), namespace.as_fd(), recursive).map_err(|e| refused(e, tree, path, recursive))
}

/// What the kernel's refusal means.
fn refused(e: Errno, tree: &OwnedFd, path: &Path, recursive: bool) -> Error {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kind = device(path).and_then(|device| kind_of(&mountinfo, device)).unwrap_or_else(|| "unknown".into());
    let path = path.display();
    let (why, hint) = match e {
        Errno::NOSYS | Errno::TOOBIG => {
            ("the kernel cannot map owners of a mount".to_owned(), "this takes Linux 5.12 or newer".to_owned())
        }
        Errno::INVAL if recursive && map_alone_works(tree) => (
            "a file system mounted below it cannot map owners".to_owned(),
            "bind it without those: --mount type=bind,…,bind-recursive=disabled".to_owned(),
        ),
        Errno::INVAL => (
            format!("its file system ({kind}) cannot map owners"),
            format!(
                "bind a directory on ext4, xfs, btrfs or tmpfs, or run as its owner: --user \"$(stat -c %u:%g {path})\""
            ),
        ),
        Errno::PERM => (
            "it is an id-mapped mount already, or its file system belongs to another user namespace".to_owned(),
            "bind the directory that was mapped there itself".to_owned(),
        ),
        _ => ("the kernel refuses".to_owned(), String::new()),
    };
    let error = Error::new(ErrorKind::Unsupported, format!("cannot map the owners of {path}: {why}")).with_source(e);
    if hint.is_empty() { error } else { error.with_hint(hint) }
}

/// Whether the top mount could be mapped: tried on the mount that is given up anyway.
fn map_alone_works(tree: &OwnedFd) -> bool {
    let all = idmap::lines(&[IDENTITY]);
    mount::user_namespace(&all, &all).is_ok_and(|owners| mount::map_owners(tree.as_fd(), owners.as_fd(), false).is_ok())
}

fn device(path: &Path) -> Option<(u32, u32)> {
    let stat = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS).ok()?;
    Some((stat.stx_dev_major, stat.stx_dev_minor))
}

/// The type of the file system with this device number, proc_pid_mountinfo(5).
fn kind_of(mountinfo: &str, (major, minor): (u32, u32)) -> Option<String> {
    let device = format!("{major}:{minor}");
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (left.split(' ').nth(2)? == device).then(|| right.split(' ').next().unwrap_or_default().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_named() {
        let text = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                    30 22 0:27 / /mnt/a\\040b rw - fuse.sshfs host:/ rw\n";
        assert_eq!(kind_of(text, (0, 27)).as_deref(), Some("fuse.sshfs"));
        assert_eq!(kind_of(text, (8, 1)).as_deref(), Some("ext4"));
        assert_eq!(kind_of(text, (8, 2)), None);
        assert_eq!(kind_of("garbage", (8, 1)), None);
    }
}

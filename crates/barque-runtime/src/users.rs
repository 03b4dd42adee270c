//! Who a process runs as: Docker's `--user` looked up in the container's own passwd and group files.

use std::os::fd::BorrowedFd;

use barque_model::{Error, Result};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// Files larger than this are cut: no honest passwd file is.
const FILE_MAX: usize = 16 << 20;

/// Largest user or group number Docker takes.
const ID_MAX: u32 = i32::MAX as u32;

/// The result of a lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, `gid` first.
    pub groups: Vec<u32>,
    /// `/` for a user the container does not know.
    pub home: String,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Looks `user` (`""`, `1000`, `www-data`, `uid:gid`, `user:group`) and the additional `groups` up below `root`.
pub fn lookup(root: BorrowedFd<'_>, user: &str, groups: &[String]) -> Result<User> {
    let passwd = read(root, "etc/passwd");
    // Most processes need no groups: root without any wish has those of the file all the same.
    let group = read(root, "etc/group");
    resolve(&passwd, &group, user, groups)
}

/// A file of the container, empty if there is none. A pipe or device in its place is not waited for.
fn read(root: BorrowedFd<'_>, path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(fd) = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) else { return String::new() };
    let regular = rustix::fs::fstat(&fd).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    if !regular {
        return String::new();
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::from(fd);
    let _ = std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_MAX as u64), &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn passwd_entries(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let mut f = line.trim().split(':');
        let (name, _password) = (f.next()?, f.next()?);
        let (uid, gid) = (f.next()?.parse().ok()?, f.next()?.parse().ok()?);
        Some(Passwd { name, uid, gid, home: f.nth(1).unwrap_or("") })
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut f = line.trim().split(':');
        let (name, _password) = (f.next()?, f.next()?);
        Some(Group { name, gid: f.next()?.parse().ok()?, members: f.next().unwrap_or("") })
    })
}

/// The lookup itself; the first matching entry counts. A number is always an id: an image whose passwd file calls
/// root `1000` does not make `--user 1000` root.
fn resolve(passwd: &str, group: &str, user: &str, extra: &[String]) -> Result<User> {
    let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
    let number = user_part.parse::<u64>().ok();
    let matches = |p: &Passwd<'_>| match number {
        _ if user_part.is_empty() => p.uid == 0,
        Some(number) => number == u64::from(p.uid),
        None => p.name == user_part,
    };
    let mut found = User { home: "/".into(), ..User::default() };
    let mut name = None;
    match (passwd_entries(passwd).find(matches), number) {
        (Some(p), _) => {
            (found.uid, found.gid) = (p.uid, p.gid);
            p.home.clone_into(&mut found.home);
            name = Some(p.name.to_owned());
        }
        (None, Some(uid)) => found.uid = in_range(uid)?,
        (None, None) if user_part.is_empty() => {}
        (None, None) => {
            return Err(Error::not_found(format!(
                "unable to find user {user_part}: no matching entries in passwd file"
            ))
            .with_hint("the user must exist in the container's /etc/passwd; a number works without"));
        }
    }
    if group_part.is_empty() {
        let is_member = |g: &Group<'_>| g.members.split(',').any(|m| Some(m) == name.as_deref());
        found.groups = group_entries(group).filter(is_member).map(|g| g.gid).collect();
    } else {
        let number = group_part.parse().ok().or_else(|| group_number(group, group_part));
        found.gid = number
            .ok_or_else(|| {
                Error::not_found(format!("unable to find group {group_part}: no matching entries in group file"))
            })
            .and_then(in_range)?;
    }
    found.groups.insert(0, found.gid);
    for wanted in extra {
        let gid = group_number(group, wanted)
            .ok_or_else(|| {
                Error::not_found(format!("Unable to find group {wanted}: no matching entries in group file"))
            })
            .and_then(in_range)?;
        found.groups.push(gid);
    }
    let mut seen = Vec::new();
    found.groups.retain(|g| {
        !seen.contains(g) && {
            seen.push(*g);
            true
        }
    });
    Ok(found)
}

/// An additional group: here the first entry counts that has the text as its name or its number.
fn group_number(group: &str, wanted: &str) -> Option<u64> {
    let number = wanted.parse::<u64>().ok();
    let is_wanted = |g: &Group<'_>| g.name == wanted || number == Some(g.gid.into());
    group_entries(group).find(is_wanted).map(|g| g.gid.into()).or(number)
}

fn in_range(id: u64) -> Result<u32> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id <= ID_MAX)
        .ok_or_else(|| Error::invalid("uids and gids must be in range 0-2147483647"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\nbad line\n42:x:7:7::/x:\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\naudio:x:29:www,other\nvideo:x:44:www\n44:x:600:\n";

    fn user(text: &str) -> Result<User> {
        resolve(PASSWD, GROUP, text, &[])
    }

    #[test]
    fn all_forms() {
        let u = |text| user(text).map(|u| (u.uid, u.gid, u.groups, u.home)).unwrap();
        assert_eq!(u(""), (0, 0, vec![0], "/root".into()));
        assert_eq!(u("www"), (33, 33, vec![33, 29, 44], "/var/www".into()));
        assert_eq!(u("33"), (33, 33, vec![33, 29, 44], "/var/www".into()));
        assert_eq!(u("1000"), (1000, 0, vec![0], "/".into()));
        assert_eq!(u("1000:29"), (1000, 29, vec![29], "/".into()));
        assert_eq!(u("www:video"), (33, 44, vec![44], "/var/www".into()));
        assert_eq!(u("42"), (42, 0, vec![0], "/".into()), "a number is no name");
        assert_eq!(u("42:44").1, 44, "nor is that of a group");
        assert_eq!(u(":video"), (0, 44, vec![44], "/root".into()));
    }

    #[test]
    fn additional_groups() {
        let u = resolve(PASSWD, GROUP, "1000:1000", &["audio".into(), "99".into(), "29".into()]).unwrap();
        assert_eq!(u.groups, [1000, 29, 99]);
        assert_eq!(
            resolve(PASSWD, GROUP, "", &["no".into()]).unwrap_err().to_string(),
            "Unable to find group no: no matching entries in group file"
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let message = |text| user(text).unwrap_err().to_string();
        assert_eq!(message("bob"), "unable to find user bob: no matching entries in passwd file");
        assert_eq!(message("www:bobs"), "unable to find group bobs: no matching entries in group file");
        assert_eq!(message("4294967295"), "uids and gids must be in range 0-2147483647");
        assert_eq!(resolve("", "", "", &[]).unwrap().uid, 0, "no files at all");
    }

    #[test]
    fn files_are_read_inside_the_root() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tmp.path().join("etc/group")).unwrap();
        std::fs::write(tmp.path().join("etc/passwd"), PASSWD).unwrap();
        let root = std::fs::File::open(tmp.path()).unwrap();
        assert_eq!(lookup(root.as_fd(), "www", &[]).unwrap().uid, 33);
        std::fs::remove_file(tmp.path().join("etc/passwd")).unwrap();
        let fifo = std::ffi::CString::new(tmp.path().join("etc/passwd").to_str().unwrap()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(lookup(root.as_fd(), "www", &[]).is_err(), "a pipe is not waited for");
    }
}

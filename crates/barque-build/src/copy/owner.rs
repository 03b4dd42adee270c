//! `--chown` and `USER`: names and numbers to ids, looked up in the image's own files.

use std::path::Path;

use barque_model::{Error, Result};

use crate::context::Tree;

/// Largest `/etc/passwd` or `/etc/group` read, in bytes.
const MAX_FILE: usize = 4 << 20;

/// The ids of `user`, `user:group`, `uid`, `uid:gid` or `:group` in the image below `tree`. A name without a
/// group has its primary group; a number without a group has the same number as group.
///
/// Errors: `InvalidArgument` in Docker's words for unknown names.
pub(crate) fn lookup(tree: &Tree, text: &str) -> Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (text, None),
    };
    let (uid, primary) = match (user, number(user)) {
        ("", _) => (0, 0),
        (_, Some(uid)) => (uid, uid),
        (name, None) => user_by_name(tree, name)?,
    };
    let gid = match group.map(|g| (g, number(g))) {
        None => primary,
        Some((_, Some(gid))) => gid,
        Some((name, None)) => group_by_name(tree, name)?,
    };
    Ok((uid, gid))
}

fn number(text: &str) -> Option<u32> {
    // The kernel keeps 2^32-1 for "no change".
    text.parse().ok().filter(|n| *n != u32::MAX)
}

fn lines(tree: &Tree, path: &str) -> Result<String> {
    let bytes = crate::context::read_file(tree, Path::new(path), MAX_FILE)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn user_by_name(tree: &Tree, name: &str) -> Result<(u32, u32)> {
    for line in lines(tree, "etc/passwd")?.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [n, _, uid, gid, ..] = fields[..]
            && n == name
            && let (Some(uid), Some(gid)) = (number(uid), number(gid))
        {
            return Ok((uid, gid));
        }
    }
    Err(Error::invalid(format!("unable to find user {name}: no matching entries in passwd file"))
        .with_hint("create it with RUN useradd before this line, or write a number"))
}

fn group_by_name(tree: &Tree, name: &str) -> Result<u32> {
    for line in lines(tree, "etc/group")?.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [n, _, gid, ..] = fields[..]
            && n == name
            && let Some(gid) = number(gid)
        {
            return Ok(gid);
        }
    }
    Err(Error::invalid(format!("unable to find group {name}: no matching entries in group file"))
        .with_hint("create it with RUN groupadd before this line, or write a number"))
}

//! Which cgroup hierarchies this machine has, read from its mounts.

use std::path::{Path, PathBuf};

use barque_model::{Context, Error, Result};

/// The hierarchies limits are set in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Separate hierarchies per controller, also of hybrid systems.
    V1(Vec<Hierarchy>),
    /// The unified hierarchy alone, mounted at this path.
    V2(PathBuf),
}

/// A mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount: PathBuf,
    /// Controllers, or `name=…` of a hierarchy without any.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// The mount options that show this hierarchy, such as `cpu,cpuacct` or `none,name=systemd`.
    pub fn mount_options(&self) -> String {
        match self.controllers.first() {
            Some(name) if name.starts_with("name=") => format!("none,{name}"),
            _ => self.controllers.join(","),
        }
    }

    /// The directory name below `/sys/fs/cgroup`.
    pub fn dir_name(&self) -> String {
        match self.controllers.first() {
            Some(name) if name.starts_with("name=") => name["name=".len()..].to_owned(),
            _ => self.controllers.join(","),
        }
    }
}

/// Controllers of v1 as mount options name them.
const V1_CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
    "rdma",
    "misc",
];

impl Layout {
    /// Reads `/proc/self/mountinfo`.
    pub fn detect() -> Result<Layout> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        Layout::parse(&text).ok_or_else(|| {
            Error::unavailable("no cgroup file system is mounted")
                .with_hint("mount one: mount -t cgroup2 none /sys/fs/cgroup")
        })
    }

    /// Reads the text of a mountinfo file, proc_pid_mountinfo(5). v1 wins where both have controllers, since a
    /// controller is in one of them only.
    pub fn parse(mountinfo: &str) -> Option<Layout> {
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut v2: Option<PathBuf> = None;
        for line in mountinfo.lines() {
            let Some((mount, fs_type, options)) = parse_line(line) else { continue };
            match fs_type {
                "cgroup2" if v2.is_none() => v2 = Some(mount),
                "cgroup" => {
                    let known = |o: &&str| V1_CONTROLLERS.contains(o) || o.starts_with("name=");
                    let controllers: Vec<String> = options.split(',').filter(known).map(String::from).collect();
                    if !controllers.is_empty() && !v1.iter().any(|h| h.controllers == controllers) {
                        v1.push(Hierarchy { mount, controllers });
                    }
                }
                _ => {}
            }
        }
        let has_controllers = v1.iter().any(|h| !h.controllers[0].starts_with("name="));
        match v2 {
            Some(root) if !has_controllers => Some(Layout::V2(root)),
            _ if !v1.is_empty() => Some(Layout::V1(v1)),
            _ => None,
        }
    }

    pub fn is_v2(&self) -> bool {
        matches!(self, Layout::V2(_))
    }

    /// The group containers live in where the user names none. Not called `.slice`: systemd would take such a
    /// group for one of its units and reset its controllers.
    pub fn default_parent(&self) -> &'static str {
        "/barque"
    }
}

/// Mount point, type and super options of a line.
fn parse_line(line: &str) -> Option<(PathBuf, &str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let mount = left.split(' ').nth(4)?;
    let mut right = right.split(' ');
    let fs_type = right.next()?;
    let options = right.nth(1)?;
    Some((Path::new(&unescape(mount)).to_path_buf(), fs_type, options))
}

/// Blanks and backslashes are written as `\040` and the like.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(code) => {
                out.push(code as char);
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_is_v1() {
        let Some(Layout::V1(list)) = Layout::parse(HYBRID) else { panic!("not v1") };
        assert_eq!(list.len(), 3);
        assert_eq!(list[0].mount_options(), "cpu,cpuacct");
        assert_eq!((list[2].mount_options().as_str(), list[2].dir_name().as_str()), ("none,name=systemd", "systemd"));
        assert!(list[0].has("cpuacct") && !list[1].has("cpu"));
    }

    #[test]
    fn unified_alone_is_v2_also_beside_a_named_v1_hierarchy() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(Layout::parse(v2), Some(Layout::V2("/sys/fs/cgroup".into())));
        let named = format!("{v2}40 31 0:37 / /run/c\\040d rw - cgroup cgroup rw,name=systemd\n");
        assert!(Layout::parse(&named).unwrap().is_v2());
        assert_eq!(Layout::parse("22 27 0:21 / /proc rw - proc proc rw\n"), None);
        assert_eq!(Layout::parse("garbage"), None);
    }

    #[test]
    fn escapes_in_mount_points() {
        assert_eq!(unescape(r"/a\040b\134c\x"), "/a b\\c\\x");
    }
}

//! The group containers live in: made where missing, with controllers passed down to its children.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use barque_model::{Error, ErrorKind, Result};
use rustix::io::Errno;

use super::dir;
use super::layout::{Hierarchy, Layout};
use super::plan::Write;

/// Controllers a container uses, v2.
const V2_CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "pids", "hugetlb"];

/// Group that takes the processes of a root that must not have any, below a container's own root.
const EVACUATION: &str = "barque-init";

/// A parent group in one hierarchy, ready for children.
#[derive(Debug)]
pub struct Parent {
    pub dir: OwnedFd,
    pub path: PathBuf,
    /// What its children can be limited in. On v1 the controllers of the hierarchy.
    pub controllers: Vec<String>,
}

/// Parents in all hierarchies, and writes a child needs there before anything may enter it.
#[derive(Debug)]
pub struct Prepared {
    pub parents: Vec<Parent>,
    pub writes: Vec<Write>,
}

/// Prepares `parent` (an absolute path below the root of each hierarchy).
pub fn prepare(layout: &Layout, parent: &str) -> Result<Prepared> {
    let levels = components(parent)?;
    match layout {
        Layout::V1(hierarchies) => prepare_v1(hierarchies, &levels),
        Layout::V2(root) => prepare_v2(root, &levels),
    }
}

fn components(parent: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for component in Path::new(parent).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            _ => return Err(Error::invalid(format!("invalid cgroup parent '{parent}': '..' is not allowed"))),
        }
    }
    Ok(names)
}

fn failed(what: &str, path: &Path, e: Errno) -> Error {
    let error = Error::new(ErrorKind::Internal, format!("{what} cgroup {}", path.display())).with_source(e);
    match e {
        Errno::ROFS | Errno::ACCESS | Errno::PERM => {
            error.with_hint("the cgroup file system is not writable here; inside a container, run it privileged")
        }
        Errno::BUSY | Errno::OPNOTSUPP => {
            error.with_hint("the group has processes of its own, so it cannot pass controllers on")
        }
        _ => error,
    }
}

fn prepare_v1(hierarchies: &[Hierarchy], levels: &[String]) -> Result<Prepared> {
    let mut prepared = Prepared { parents: Vec::new(), writes: Vec::new() };
    for hierarchy in hierarchies {
        let cpuset = hierarchy.has("cpuset");
        let mut path = hierarchy.mount.clone();
        let mut group = dir::open(&path).map_err(|e| failed("open", &path, e))?;
        for name in levels {
            path.push(name);
            let child = match dir::open_at(&group, name) {
                Err(Errno::NOENT) => dir::create(&group, name).map_err(|e| failed("create", &path, e))?,
                other => other.map_err(|e| failed("open", &path, e))?,
            };
            if cpuset {
                inherit_cpuset(&group, &child).map_err(|e| failed("set up", &path, e))?;
            }
            group = child;
        }
        if cpuset {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let value = dir::read(&group, file).map_err(|e| failed("read", &path, e))?;
                let value = value.trim().to_owned();
                prepared.writes.push(Write { controller: "cpuset", file: file.into(), value, optional: false });
            }
        }
        prepared.parents.push(Parent { dir: group, path, controllers: hierarchy.controllers.clone() });
    }
    Ok(prepared)
}

/// A new v1 cpuset has no CPUs and nothing may enter it: it gets its parent's.
fn inherit_cpuset(parent: &OwnedFd, child: &OwnedFd) -> Result<(), Errno> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if dir::read(child, file)?.trim().is_empty() {
            let value = dir::read(parent, file)?;
            dir::write(child, file, value.trim())?;
        }
    }
    Ok(())
}

fn prepare_v2(root: &Path, levels: &[String]) -> Result<Prepared> {
    let mut path = root.to_path_buf();
    let mut group = dir::open(&path).map_err(|e| failed("open", &path, e))?;
    let mut controllers = pass_controllers(&group, &path, true)?;
    for name in levels {
        path.push(name);
        group = match dir::open_at(&group, name) {
            Err(Errno::NOENT) => dir::create(&group, name).map_err(|e| failed("create", &path, e))?,
            other => other.map_err(|e| failed("open", &path, e))?,
        };
        controllers = pass_controllers(&group, &path, false)?;
    }
    Ok(Prepared { parents: vec![Parent { dir: group, path, controllers }], writes: Vec::new() })
}

/// Enables for the children of `group` all of our controllers it has itself; which of them they have then.
fn pass_controllers(group: &OwnedFd, path: &Path, is_root: bool) -> Result<Vec<String>> {
    let words = |file| -> Result<Vec<String>> {
        let text = dir::read(group, file).map_err(|e| failed("read", path, e))?;
        Ok(text.split_ascii_whitespace().map(String::from).collect())
    };
    let own = words("cgroup.controllers")?;
    let mut passed = words("cgroup.subtree_control")?;
    let missing: Vec<&str> =
        V2_CONTROLLERS.into_iter().filter(|c| own.iter().any(|o| o == c) && !passed.iter().any(|p| p == c)).collect();
    if missing.is_empty() {
        return Ok(passed);
    }
    // The machine's own root has no type and may have processes. The root a container is shown is an ordinary
    // group: while it has processes it passes none of the resource controllers on, and the attempt to pass
    // others would even turn it into a threaded one.
    if is_root && dir::read(group, "cgroup.type").is_ok() {
        evacuate(group).map_err(|e| failed("move the processes of", path, e))?;
    }
    for controller in missing {
        match dir::write(group, "cgroup.subtree_control", &format!("+{controller}")) {
            Ok(()) => passed.push(controller.to_owned()),
            // cpuset and hugetlb may be refused for reasons of their own; limits by them then give a warning.
            Err(_) if matches!(controller, "cpuset" | "hugetlb") => {}
            Err(e) => return Err(failed(&format!("enable the {controller} controller in"), path, e)),
        }
    }
    Ok(passed)
}

fn evacuate(root: &OwnedFd) -> Result<(), Errno> {
    if dir::read(root, "cgroup.procs")?.trim().is_empty() {
        return Ok(());
    }
    let refuge = dir::create(root, EVACUATION)?;
    // New processes may appear while we move the others.
    for _ in 0..10 {
        let text = dir::read(root, "cgroup.procs")?;
        if text.trim().is_empty() {
            break;
        }
        for pid in text.lines() {
            match dir::write(refuge.as_fd(), "cgroup.procs", pid) {
                // Ended meanwhile, or a thread of the kernel.
                Ok(()) | Err(Errno::SRCH | Errno::INVAL) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_plain_paths() {
        assert_eq!(components("/a/b").unwrap(), ["a", "b"]);
        assert_eq!(components("x.slice").unwrap(), ["x.slice"]);
        assert!(components("/a/../b").is_err());
        assert!(components("/").unwrap().is_empty());
    }
}

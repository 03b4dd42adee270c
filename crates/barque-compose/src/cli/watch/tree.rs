//! Changes of files below some paths, by inotify(7).

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::sync::mpsc;

/// Events a directory is watched for: the end of writing, not each write.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO);

/// Changed paths, as they come; nothing follows an error.
pub(super) type Changes = mpsc::UnboundedReceiver<io::Result<BTreeSet<PathBuf>>>;

/// Which directories to look into; false keeps large ignored trees out.
pub(super) type Wanted = Box<dyn Fn(&Path) -> bool + Send>;

/// Starts to watch `roots` (files or directories that exist) on a thread of its own; also gives the files there are.
///
/// # Errors
/// A root that is missing; no more watches (`fs.inotify.max_user_watches`).
pub(super) fn watch(roots: &BTreeSet<PathBuf>, wanted: Wanted) -> io::Result<(BTreeSet<PathBuf>, Changes)> {
    let mut tree = Tree { fd: inotify::init(CreateFlags::CLOEXEC)?, directories: HashMap::new(), wanted };
    let mut found = BTreeSet::new();
    roots.iter().try_for_each(|root| tree.add_root(root, &mut found))?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let roots = roots.clone();
    std::thread::Builder::new().name("watch".into()).spawn(move || {
        loop {
            let changed = tree.read(&roots);
            let ended = changed.is_err();
            if sender.send(changed).is_err() || ended {
                return;
            }
        }
    })?;
    Ok((found, receiver))
}

struct Tree {
    fd: OwnedFd,
    directories: HashMap<i32, PathBuf>,
    wanted: Wanted,
}

impl Tree {
    fn add_root(&mut self, root: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        if root.is_dir() {
            return self.add(root, found);
        }
        found.insert(root.to_owned());
        // Editors replace files: their directory tells.
        self.add_one(root.parent().unwrap_or(root))
    }

    fn add_one(&mut self, directory: &Path) -> io::Result<()> {
        let added = inotify::add_watch(&self.fd, directory, EVENTS | WatchFlags::ONLYDIR);
        let id = added.map_err(|e| match e {
            rustix::io::Errno::NOSPC => io::Error::other(format!(
                "cannot watch {}: no more watches (raise it: sysctl fs.inotify.max_user_watches=524288)",
                directory.display()
            )),
            e => io::Error::new(io::Error::from(e).kind(), format!("cannot watch {}: {e}", directory.display())),
        })?;
        self.directories.insert(id, directory.to_owned());
        Ok(())
    }

    /// Watches a directory and all below it, and notes the files found on the way.
    fn add(&mut self, directory: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        self.add_one(directory)?;
        for entry in std::fs::read_dir(directory)? {
            let Ok(entry) = entry else { continue };
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    if (self.wanted)(&path) {
                        self.add_if_there(&path, found)?;
                    }
                }
                _ => {
                    found.insert(path);
                }
            }
        }
        Ok(())
    }

    /// As [`Tree::add`]; gone again meanwhile is no fault.
    fn add_if_there(&mut self, directory: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        match self.add(directory, found) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            other => other,
        }
    }

    /// Waits for events.
    fn read(&mut self, roots: &BTreeSet<PathBuf>) -> io::Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        let mut fresh = Vec::new();
        let mut lost = false;
        {
            let mut buffer = [MaybeUninit::<u8>::uninit(); 16 << 10];
            let mut reader = Reader::new(&self.fd, &mut buffer);
            loop {
                let event = reader.next()?;
                let flags = event.events();
                if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                    lost = true;
                } else if flags.contains(ReadFlags::IGNORED) {
                    self.directories.remove(&event.wd());
                } else if let (Some(directory), Some(name)) = (self.directories.get(&event.wd()), event.file_name()) {
                    let path = directory.join(OsStr::from_bytes(name.to_bytes()));
                    let appeared = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
                    if flags.contains(ReadFlags::ISDIR) && appeared {
                        fresh.push(path.clone());
                    }
                    changed.insert(path);
                }
                if reader.is_buffer_empty() {
                    break;
                }
            }
        }
        if lost {
            // Everything may have changed, and there may be directories nobody watches yet.
            for root in roots {
                match self.add_root(root, &mut changed) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        for directory in fresh {
            let inside = roots.iter().any(|root| directory.starts_with(root));
            if inside && (self.wanted)(&directory) {
                // Files may have been made before it was watched.
                self.add_if_there(&directory, &mut changed)?;
            }
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until(changes: &mut Changes, wanted: &Path) -> BTreeSet<PathBuf> {
        let mut all = BTreeSet::new();
        let found = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            while !all.contains(wanted) {
                all.extend(changes.recv().await.expect("the watcher lives").expect("changes"));
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {} in {all:?}", wanted.display()));
        all
    }

    #[tokio::test]
    async fn files_of_old_and_new_directories_are_seen() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().join("src");
        std::fs::create_dir_all(root.join("deep/er")).expect("mkdir");
        std::fs::create_dir_all(root.join("node_modules")).expect("mkdir");
        let wanted = |path: &Path| !path.ends_with("node_modules");
        std::fs::write(root.join("deep/old"), "1").expect("write");
        let (first, mut changes) = watch(&BTreeSet::from([root.clone()]), Box::new(wanted)).expect("watches");
        assert_eq!(first, BTreeSet::from([root.join("deep/old")]));
        std::fs::write(root.join("node_modules/x"), "1").expect("write");
        std::fs::write(root.join("deep/er/a"), "1").expect("write");
        let seen = until(&mut changes, &root.join("deep/er/a")).await;
        assert!(!seen.contains(&root.join("node_modules/x")));
        std::fs::create_dir_all(root.join("new/tree")).expect("mkdir");
        std::fs::write(root.join("new/tree/b"), "1").expect("write");
        until(&mut changes, &root.join("new/tree/b")).await;
        std::fs::remove_file(root.join("deep/er/a")).expect("rm");
        until(&mut changes, &root.join("deep/er/a")).await;
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_seen() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("conf");
        std::fs::write(&file, "1").expect("write");
        let roots = BTreeSet::from([file.clone()]);
        let (first, mut changes) = watch(&roots, Box::new(|_| true)).expect("watches");
        assert_eq!(first, roots);
        std::fs::write(dir.path().join("conf.new"), "2").expect("write");
        std::fs::rename(dir.path().join("conf.new"), &file).expect("rename");
        until(&mut changes, &file).await;
        assert!(watch(&BTreeSet::from([dir.path().join("none/x")]), Box::new(|_| true)).is_err());
    }

    #[test]
    fn events_that_were_lost_are_made_up_for() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().to_owned();
        std::fs::create_dir_all(root.join("deep")).expect("mkdir");
        std::fs::write(root.join("deep/old"), "1").expect("write");
        std::fs::write(root.join("a"), "1").expect("write");
        let fd = inotify::init(CreateFlags::CLOEXEC).expect("inotify");
        let mut tree = Tree { fd, directories: HashMap::new(), wanted: Box::new(|_| true) };
        tree.add_root(&root, &mut BTreeSet::new()).expect("watches");
        let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("limit");
        let limit: usize = limit.trim().parse().expect("a number");
        for _ in 0..limit / 4 + 10 {
            std::fs::rename(root.join("a"), root.join("b")).expect("rename");
            std::fs::rename(root.join("b"), root.join("a")).expect("rename");
        }
        std::fs::create_dir(root.join("fresh")).expect("mkdir");
        std::fs::write(root.join("fresh/unseen"), "1").expect("write");
        let roots = BTreeSet::from([root.clone()]);
        let mut seen = BTreeSet::new();
        while !seen.contains(&root.join("deep/old")) {
            seen.extend(tree.read(&roots).expect("reads"));
        }
        assert!(seen.contains(&root.join("fresh/unseen")));
        assert!(tree.directories.values().any(|d| d.ends_with("fresh")), "it is watched now");
    }
}

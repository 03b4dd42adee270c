//! Lists a directory tree, in parallel once it is large, without what ignore patterns exclude.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use barque_model::{Context as _, Error, Result};

use super::tree::{Entry, Kind, Tree, read_dir};
use crate::ignore::{DirMatch, Ignore};

/// More entries in one tree are refused.
const MAX_ENTRIES: usize = 5_000_000;

/// From this many entries on, other threads help.
const PARALLEL_FROM: usize = 2_000;

/// Patterns of one walk, each relative to its own directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter<'a> {
    /// The context's ignore file, relative to the tree's root.
    pub(crate) ignore: &'a Ignore,
    /// `--exclude`, relative to the walked directory.
    pub(crate) exclude: &'a Ignore,
}

#[derive(Debug)]
struct Task {
    dir: PathBuf,
    ignore: DirMatch,
    exclude: DirMatch,
}

#[derive(Debug)]
struct Listed {
    entry: Entry,
    /// An ignored directory: it stays if something below it is re-included.
    undecided: bool,
}

#[derive(Debug, Default)]
struct Found {
    /// What stays of each directory, sorted by name.
    dirs: HashMap<PathBuf, Vec<Listed>>,
    /// How many that are.
    count: usize,
    /// Ignored, with all that is below.
    hidden: Vec<PathBuf>,
    todo: Vec<Task>,
}

/// Everything below `dir` (not `dir` itself), sorted by path as `Path` compares. `dir` must have no link in it.
pub(crate) fn walk(tree: &Tree, dir: &Path, filter: Filter<'_>) -> Result<Vec<Entry>> {
    walked(tree, dir, filter).map(|(kept, _)| kept)
}

/// What [`walk`] leaves out of the whole tree because of `ignore`, as the highest paths, sorted.
pub(crate) fn excluded(tree: &Tree, ignore: &Ignore) -> Result<Vec<PathBuf>> {
    let (_, mut hidden) = walked(tree, Path::new(""), Filter { ignore, exclude: &Ignore::default() })?;
    hidden.sort_unstable();
    hidden.dedup_by(|below, above| below.starts_with(above));
    Ok(hidden)
}

/// What stays, sorted, and what does not.
fn walked(tree: &Tree, dir: &Path, filter: Filter<'_>) -> Result<(Vec<Entry>, Vec<PathBuf>)> {
    let ignore = state_of(filter.ignore, dir);
    let mut found = Found::default();
    let mut todo = vec![Task { dir: dir.to_owned(), ignore, exclude: DirMatch::default() }];
    while let Some(task) = todo.pop() {
        list(tree, dir, filter, &task, &mut found)?;
        todo.append(&mut found.todo);
        if found.count + todo.len() > PARALLEL_FROM && todo.len() > 1 {
            parallel(tree, dir, filter, std::mem::take(&mut todo), &mut found)?;
        }
    }
    Ok(in_order(dir, found))
}

/// Each directory before what is in it: the order of paths, without comparing whole paths.
fn in_order(top: &Path, mut found: Found) -> (Vec<Entry>, Vec<PathBuf>) {
    let mut kept: Vec<Entry> = Vec::with_capacity(found.count);
    // Directories that are being put out: what is left of each, and the place of one that is undecided.
    let mut open = vec![(found.dirs.remove(top).unwrap_or_default().into_iter(), None)];
    while let Some((rest, undecided)) = open.last_mut() {
        if let Some(Listed { entry, undecided }) = rest.next() {
            let below = if entry.kind == Kind::Dir { found.dirs.remove(&entry.path) } else { None };
            let place = undecided.then_some(kept.len());
            kept.push(entry);
            if below.is_some() || undecided {
                open.push((below.unwrap_or_default().into_iter(), place));
            }
            continue;
        }
        if undecided.is_some_and(|place| kept.len() == place + 1) {
            found.hidden.extend(kept.pop().map(|entry| entry.path));
        }
        open.pop();
    }
    (kept, found.hidden)
}

/// What matching each parent of `dir` and `dir` itself gives.
fn state_of(ignore: &Ignore, dir: &Path) -> DirMatch {
    let mut state = DirMatch::default();
    if ignore.is_empty() {
        return state;
    }
    let mut path = PathBuf::new();
    for part in dir.components() {
        path.push(part);
        state = ignore.matches_in(&path.to_string_lossy(), &state).1;
    }
    state
}

fn list(tree: &Tree, top: &Path, filter: Filter<'_>, task: &Task, found: &mut Found) -> Result<()> {
    let say = || format!("read the directory {}", tree.path().join(&task.dir).display());
    let fd = match tree.open_dir(&task.dir) {
        Ok(fd) => fd,
        // Deleted since its parent was listed.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && task.dir != top => return Ok(()),
        Err(e) => return Err(e).with_context(say),
    };
    let mut kept = Vec::new();
    for entry in read_dir(&fd, &task.dir).with_context(say)? {
        if found.count + kept.len() > MAX_ENTRIES {
            return Err(Error::invalid(format!("{} holds more than {MAX_ENTRIES} files", tree.path().display()))
                .with_hint("exclude what the build does not need in .dockerignore"));
        }
        let mut ignored = false;
        let (mut deeper, mut states) = (true, (DirMatch::default(), DirMatch::default()));
        if !filter.ignore.is_empty() {
            let path = entry.path.to_string_lossy();
            let (hit, state) = filter.ignore.matches_in(&path, &task.ignore);
            states.0 = state;
            if hit {
                ignored = true;
                deeper = filter.ignore.may_include_below(&path);
            }
        }
        if deeper && !filter.exclude.is_empty() {
            let path = entry.path.strip_prefix(top).unwrap_or(&entry.path).to_string_lossy();
            let (hit, state) = filter.exclude.matches_in(&path, &task.exclude);
            states.1 = state;
            if hit {
                ignored = true;
                deeper = filter.exclude.may_include_below(&path);
            }
        }
        let undecided = ignored && deeper && entry.kind == Kind::Dir;
        if ignored && !undecided {
            found.hidden.push(entry.path);
            continue;
        }
        if deeper && entry.kind == Kind::Dir {
            found.todo.push(Task { dir: entry.path.clone(), ignore: states.0, exclude: states.1 });
        }
        kept.push(Listed { entry, undecided });
    }
    found.count += kept.len();
    found.dirs.insert(task.dir.clone(), kept);
    Ok(())
}

/// Work shared by threads: what is left to do, and how many are busy.
struct Queue {
    todo: Vec<Task>,
    busy: usize,
    error: Option<Error>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads worth starting for work on files.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(8))
}

fn parallel(tree: &Tree, top: &Path, filter: Filter<'_>, todo: Vec<Task>, found: &mut Found) -> Result<()> {
    let queue = Mutex::new(Queue { todo, busy: 0, error: None });
    let wake = Condvar::new();
    let work = || {
        let mut mine = Found::default();
        loop {
            let mut guard = lock(&queue);
            let task = loop {
                if guard.error.is_some() {
                    return mine;
                }
                if let Some(task) = guard.todo.pop() {
                    break task;
                }
                if guard.busy == 0 {
                    wake.notify_all();
                    return mine;
                }
                guard = wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
            };
            guard.busy += 1;
            drop(guard);
            let result = list(tree, top, filter, &task, &mut mine);
            let mut guard = lock(&queue);
            guard.busy -= 1;
            guard.todo.append(&mut mine.todo);
            if let Err(e) = result {
                guard.error.get_or_insert(e);
            }
            wake.notify_all();
        }
    };
    let parts: Vec<Found> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads()).map(|_| scope.spawn(work)).collect();
        let mut parts = vec![work()];
        parts.extend(helpers.into_iter().filter_map(|h| h.join().ok()));
        parts
    });
    if let Some(error) = queue.into_inner().unwrap_or_else(PoisonError::into_inner).error {
        return Err(error);
    }
    for part in parts {
        found.dirs.extend(part.dirs);
        found.count += part.count;
        found.hidden.extend(part.hidden);
    }
    Ok(())
}

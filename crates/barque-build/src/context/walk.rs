//! Lists a directory tree, in parallel once it is large, without what ignore patterns exclude.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use barque_model::{Context as _, Error, Result};

use super::digest::path_bytes;
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

#[derive(Debug, Default)]
struct Found {
    kept: Vec<Entry>,
    /// Ignored directories that may hold something re-included.
    undecided: Vec<Entry>,
    /// Ignored, with all that is below.
    hidden: Vec<PathBuf>,
    todo: Vec<Task>,
}

/// Everything below `dir` (not `dir` itself), sorted by path. `dir` must have no link in it.
pub(crate) fn walk(tree: &Tree, dir: &Path, filter: Filter<'_>) -> Result<Vec<Entry>> {
    walked(tree, dir, filter).map(|found| found.kept)
}

/// What [`walk`] leaves out of the whole tree because of `ignore`, as the highest paths, sorted.
pub(crate) fn excluded(tree: &Tree, ignore: &Ignore) -> Result<Vec<PathBuf>> {
    let mut hidden = walked(tree, Path::new(""), Filter { ignore, exclude: &Ignore::default() })?.hidden;
    hidden.sort_unstable();
    hidden.dedup_by(|below, above| below.starts_with(above));
    Ok(hidden)
}

fn walked(tree: &Tree, dir: &Path, filter: Filter<'_>) -> Result<Found> {
    let ignore = state_of(filter.ignore, dir);
    let mut found = Found::default();
    let mut todo = vec![Task { dir: dir.to_owned(), ignore, exclude: DirMatch::default() }];
    while let Some(task) = todo.pop() {
        list(tree, dir, filter, &task, &mut found)?;
        todo.append(&mut found.todo);
        if found.kept.len() + todo.len() > PARALLEL_FROM && todo.len() > 1 {
            parallel(tree, dir, filter, std::mem::take(&mut todo), &mut found)?;
        }
    }
    sort(&mut found.kept);
    sort(&mut found.undecided);
    if !found.undecided.is_empty() {
        let (needed, empty): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut found.undecided).into_iter().partition(|d| {
                let at = found.kept.partition_point(|e| e.path <= d.path);
                found.kept.get(at).is_some_and(|e| e.path.starts_with(&d.path))
            });
        found.hidden.extend(empty.into_iter().map(|d| d.path));
        found.kept.extend(needed);
        sort(&mut found.kept);
    }
    Ok(found)
}

/// By path, as `Path` compares, without taking paths apart: a `/` comes before everything else.
fn sort(entries: &mut [Entry]) {
    entries.sort_unstable_by(|a, b| {
        let (a, b) = (path_bytes(&a.path), path_bytes(&b.path));
        match a.iter().zip(b).position(|(x, y)| x != y) {
            Some(at) => {
                let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
                rank(a[at]).cmp(&rank(b[at]))
            }
            None => a.len().cmp(&b.len()),
        }
    });
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
    for entry in read_dir(&fd, &task.dir).with_context(say)? {
        if found.kept.len() > MAX_ENTRIES {
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
        if entry.kind == Kind::Dir && deeper {
            found.todo.push(Task { dir: entry.path.clone(), ignore: states.0, exclude: states.1 });
            if ignored {
                found.undecided.push(entry);
                continue;
            }
        }
        match ignored {
            true => found.hidden.push(entry.path),
            false => found.kept.push(entry),
        }
    }
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
        found.kept.extend(part.kept);
        found.undecided.extend(part.undecided);
        found.hidden.extend(part.hidden);
    }
    Ok(())
}

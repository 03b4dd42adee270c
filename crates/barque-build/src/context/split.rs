//! Large directories in parts that are copied, committed and cached independently of each other.
//!
//! One changed file among very many then costs a part of the copy, not all of it.

use std::collections::HashMap;

use super::{Digested, Kind, Selected, SelectedKind, digest_of, path_bytes};
use crate::context::Entry;
use barque_model::Digest;

/// Most parts: images have a limit of layers, and a [`Parts`] as many bits.
const MAX_PARTS: usize = 32;

/// The parts an entry is in, a bit each.
type Parts = u32;

/// One part of a large directory.
#[derive(Debug)]
pub(crate) struct Part {
    /// As [`Digested::digest`].
    pub(crate) digest: Digest,
    /// Positions of its entries in the whole.
    entries: Vec<usize>,
}

impl Digested {
    /// The contents of one large directory in parts: the same file always falls into the same part, and each
    /// part has the directories its files need. A part has `size` files on average, or more. `None` if there are
    /// not enough for two.
    pub(crate) fn split(&self, size: usize) -> Option<Vec<Part>> {
        let ([whole], [contents]) = (self.selected.as_slice(), self.contents.as_slice()) else { return None };
        let SelectedKind::Contents { .. } = whole.kind else { return None };
        let count = parts_for(whole.entries.len(), size);
        if count < 2 {
            return None;
        }
        let mut parts = vec![Vec::new(); count];
        for (at, mask) in parts_of_each(&whole.entries, count, size).into_iter().enumerate() {
            for (_, part) in parts.iter_mut().enumerate().filter(|(number, _)| mask & (1 << number) != 0) {
                part.push(at);
            }
        }
        let part = |entries: Vec<usize>| {
            let files = entries.iter().map(|at| (&whole.entries[*at], contents[*at]));
            Part { digest: digest_of([(whole, files)], self.owners), entries }
        };
        Some(parts.into_iter().filter(|entries| !entries.is_empty()).map(part).collect())
    }

    /// The files of a part that [`Digested::split`] gave.
    pub(crate) fn part(&self, part: &Part) -> Digested {
        let pick = |(whole, contents): (&Selected, &Vec<Option<Digest>>)| {
            let entries = part.entries.iter().map(|at| whole.entries[*at].clone()).collect();
            let contents: Vec<_> = part.entries.iter().map(|at| contents[*at]).collect();
            (Selected { kind: whole.kind.clone(), entries }, contents)
        };
        let (selected, contents) = self.selected.iter().zip(&self.contents).map(pick).unzip();
        Digested { selected, contents, owners: self.owners, digest: part.digest }
    }
}

/// A power of two, so that a few files more or less do not move all others.
fn parts_for(entries: usize, size: usize) -> usize {
    match (entries / size.max(1)).checked_ilog2() {
        Some(log) => (1 << log).min(MAX_PARTS),
        None => 1,
    }
}

/// The parts each entry is in: a file in one, chosen by its directory (by its own name in a directory with very
/// many files), a directory in all that its files are in, an empty one in one.
fn parts_of_each(entries: &[Entry], count: usize, size: usize) -> Vec<Parts> {
    let (dirs, of_entry) = directories(entries);
    let mut held = vec![0; dirs.len()];
    for dir in &of_entry {
        held[*dir] += 1;
    }
    let mut of_dir: Vec<Parts> = vec![0; dirs.len()];
    let mut placed = vec![0; entries.len()];
    // Backwards: everything below a directory is seen before it.
    for ((entry, dir), placed) in entries.iter().zip(of_entry).zip(&mut placed).rev() {
        let path = path_bytes(&entry.path);
        let by_name = held[dir] > size / 4 || entry.kind == Kind::Dir;
        let below = dirs.get(path).filter(|_| entry.kind == Kind::Dir).map(|own| of_dir[*own]);
        *placed = below.unwrap_or_else(|| 1 << (hash(if by_name { path } else { above(entry) }) % count));
        of_dir[dir] |= *placed;
    }
    placed
}

/// Numbers for the directories that hold entries, and for each entry that of its own.
fn directories(entries: &[Entry]) -> (HashMap<&[u8], usize>, Vec<usize>) {
    // Paths as bytes: a `Path` is taken apart for every comparison.
    let mut numbers: HashMap<&[u8], usize> = HashMap::new();
    let mut of_entry = Vec::with_capacity(entries.len());
    let mut last: Option<(&[u8], usize)> = None;
    for entry in entries {
        let dir = above(entry);
        // Most stand behind another of the same directory.
        let number = match last.filter(|(path, _)| *path == dir) {
            Some((_, number)) => number,
            None => {
                let next = numbers.len();
                *numbers.entry(dir).or_insert(next)
            }
        };
        last = Some((dir, number));
        of_entry.push(number);
    }
    (numbers, of_entry)
}

/// The path of the directory an entry is in.
fn above(entry: &Entry) -> &[u8] {
    let path = path_bytes(&entry.path);
    path.iter().rposition(|b| *b == b'/').map_or(b"", |at| &path[..at])
}

/// FNV-1a, then mixed so that every byte counts in every bit; the same in every build and version.
fn hash(path: &[u8]) -> usize {
    let step = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    let hash = path.iter().fold(0xcbf2_9ce4_8422_2325, step);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (hash ^ (hash >> 33)) as usize
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::context::Entry;

    fn entry(path: String, kind: Kind) -> Entry {
        Entry {
            path: path.into(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            ctime: 0,
            ino: 0,
            dev: 0,
            nlink: 1,
            rdev: 0,
            link: None,
        }
    }

    fn tree(dirs: usize, files: usize) -> Digested {
        let mut entries = vec![entry("empty".into(), Kind::Dir)];
        for d in 0..dirs {
            entries.push(entry(format!("d{d:04}"), Kind::Dir));
            entries.extend((0..files).map(|f| entry(format!("d{d:04}/f{f:04}"), Kind::File)));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let contents = vec![vec![None; entries.len()]];
        Digested::new(
            vec![Selected { kind: SelectedKind::Contents { root: PathBuf::new() }, entries }],
            contents,
            false,
        )
    }

    #[test]
    fn every_file_is_in_one_part_with_its_directories() {
        assert!(tree(40, 100).split(4096).is_none());
        for whole in [tree(60, 100), tree(4, 1_000)] {
            let parts: Vec<Digested> = whole.split(512).unwrap().iter().map(|p| whole.part(p)).collect();
            assert!(parts.len() >= 4 && parts.len() <= MAX_PARTS, "{}", parts.len());
            let mut files = Vec::new();
            for part in &parts {
                let entries = &part.selected[0].entries;
                assert!(entries.is_sorted_by(|a, b| a.path < b.path));
                assert!(entries.len() < 3 * whole.selected[0].entries.len() / parts.len());
                for entry in entries.iter().filter(|e| e.kind == Kind::File) {
                    let dir = entry.path.parent().unwrap();
                    assert!(entries.binary_search_by(|d| d.path.as_path().cmp(dir)).is_ok());
                    files.push(entry.path.clone());
                }
            }
            files.sort();
            let all: Vec<_> =
                whole.selected[0].entries.iter().filter(|e| e.kind == Kind::File).map(|e| e.path.clone()).collect();
            assert_eq!(files, all);
            assert_eq!(
                parts.iter().flat_map(|p| &p.selected[0].entries).filter(|e| e.path.ends_with("empty")).count(),
                1
            );
        }
    }

    #[test]
    fn one_change_changes_one_part() {
        let before = tree(60, 100);
        let mut after = before.clone();
        let entry = after.selected[0].entries.iter_mut().find(|e| e.path.ends_with("d0025/f0050")).unwrap();
        entry.mode = 0o755;
        let after = Digested::new(after.selected, after.contents, false);
        let differ = |(a, b): (&Part, &Part)| a.digest != b.digest;
        let (a, b) = (before.split(512).unwrap(), after.split(512).unwrap());
        assert_eq!(a.iter().zip(&b).filter(|p| differ(*p)).count(), 1);
    }
}

//! Puts the files of a `COPY` or `ADD` into a snapshot, and makes `WORKDIR`s.

pub(crate) mod earlier;
mod files;
pub(crate) mod owner;
pub(crate) mod target;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use barque_model::{Context as _, Error, Result, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::context::{Entry, Kind, Owner, Selected, SelectedKind, Tree, UnpackOptions, is_archive, unpack};
use crate::instructions::Chmod;
use earlier::Earlier;
use files::{Placed, Rules, in_the_way};
use target::{Target, not_a_directory, shown};

/// What one `COPY` writes.
pub(crate) struct Job<'a> {
    /// `COPY` or `ADD`, for messages.
    pub(crate) verb: &'a str,
    /// Absolute and clean; a `/` at its end says "a directory".
    pub(crate) destination: &'a str,
    pub(crate) items: Vec<Item<'a>>,
    pub(crate) chown: Option<&'a str>,
    pub(crate) chmod: Option<&'a Chmod>,
    /// Times of what has none of its own (heredocs).
    pub(crate) now: Timestamp,
    pub(crate) cancel: &'a CancellationToken,
    /// The layer that the same copy made before.
    pub(crate) earlier: Option<&'a Earlier>,
}

/// One source.
pub(crate) enum Item<'a> {
    /// Files of a tree; `keep_owner` for those of an image.
    Files { tree: &'a Tree, selected: &'a [Selected], keep_owner: bool, unpack: bool },
    /// A file whose mode and time are given (heredoc, download).
    Inline { name: &'a str, content: &'a [u8] },
    /// A downloaded file.
    Download { tree: &'a Tree, entry: &'a Entry, name: &'a str, modified: Option<Timestamp>, unpack: bool },
}

/// Executes `job` in the root `tree`. Blocking; errors are about the destination, a changed source, or
/// `Canceled`.
pub(crate) fn apply(tree: &Tree, job: &Job<'_>) -> Result<()> {
    let target = Target::new(tree);
    let owner = job.chown.map(|text| owner::lookup(tree, text)).transpose()?;
    let written = Path::new(job.destination.trim_start_matches('/'));
    let destination =
        tree.resolve(written, true).with_context(|| format!("{} failed: {}", job.verb, job.destination))?;
    let mut apply = Apply { target, job, owner, destination };
    apply.check_several()?;
    for item in &job.items {
        apply.item(item)?;
    }
    Ok(())
}

/// Makes `path` and its parents, owned by `user` (`USER`'s value, empty for root).
pub(crate) fn make_workdir(tree: &Tree, path: &str, user: &str) -> Result<()> {
    let target = Target::new(tree);
    let resolved =
        tree.resolve(Path::new(path.trim_start_matches('/')), true).with_context(|| format!("WORKDIR {path}"))?;
    let ids = if user.is_empty() { (0, 0) } else { owner::lookup(tree, user)? };
    target.make_dirs(&resolved, 0o755, Some(ids)).map(drop).map_err(|e| match tree.entry(&resolved) {
        Ok(entry) if entry.kind != Kind::Dir => Error::invalid(format!("Cannot mkdir: {path} is not a directory")),
        _ => e,
    })
}

struct Apply<'a> {
    target: Target<'a>,
    job: &'a Job<'a>,
    owner: Option<(u32, u32)>,
    /// Without links.
    destination: PathBuf,
}

impl Apply<'_> {
    fn destination_is_dir(&self) -> bool {
        self.job.destination.ends_with('/')
            || self.target.tree().entry(&self.destination).is_ok_and(|e| e.kind == Kind::Dir)
    }

    /// Several files cannot become one file.
    fn check_several(&self) -> Result<()> {
        let count = |item: &Item<'_>| match item {
            Item::Files { selected, .. } => {
                selected.iter().filter(|s| matches!(s.kind, SelectedKind::File { .. })).count()
            }
            _ => 1,
        };
        let files: usize = self.job.items.iter().map(count).sum();
        if files > 1 && !self.destination_is_dir() {
            let verb = self.job.verb;
            return Err(Error::invalid(format!(
                "When using {verb} with more than one source file, the destination must be a directory and end with a /"
            )));
        }
        Ok(())
    }

    fn item(&mut self, item: &Item<'_>) -> Result<()> {
        match item {
            Item::Files { tree, selected, keep_owner, unpack } => {
                for part in *selected {
                    if self.job.cancel.is_cancelled() {
                        return Err(Error::canceled("copying was canceled"));
                    }
                    if *unpack && self.unpacked(tree, part)? {
                        continue;
                    }
                    self.selected(tree, part, *keep_owner)?;
                }
                Ok(())
            }
            Item::Inline { name, content } => self.inline(name, content, 0o644, self.job.now.nanos()),
            Item::Download { tree, entry, name, modified, unpack } => {
                if *unpack && self.unpacked_file(tree, entry)? {
                    return Ok(());
                }
                self.download(tree, entry, name, *modified)
            }
        }
    }

    fn rules(&self, keep_owner: bool) -> Rules<'_> {
        // Links within an image matter and must not be mixed with ours.
        let earlier = self.job.earlier.filter(|_| !keep_owner);
        Rules { owner: self.owner, keep_owner, chmod: self.job.chmod, cancel: self.job.cancel, earlier }
    }

    fn selected(&self, tree: &Tree, part: &Selected, keep_owner: bool) -> Result<()> {
        let rules = self.rules(keep_owner);
        if let SelectedKind::File { name } = &part.kind {
            let to = self.file_place(name)?;
            let list: Vec<Placed<'_>> = part.entries.iter().map(|entry| Placed { entry, to: to.clone() }).collect();
            self.ready_for_links(files::parent_of(&to), &rules)?;
            return files::copy(tree, &self.target, &list, &rules);
        }
        self.make_destination(&self.destination)?;
        let place = |entry| Placed { entry, to: self.destination.join(part.relative(entry)) };
        let list: Vec<Placed<'_>> = part.entries.iter().map(place).collect();
        if !list.is_empty() {
            self.ready_for_links(&self.destination, &rules)?;
        }
        files::copy(tree, &self.target, &list, &rules)
    }

    /// What is linked into `dir` later needs it in the layer, even if nothing else is written there.
    fn ready_for_links(&self, dir: &Path, rules: &Rules<'_>) -> Result<()> {
        if rules.earlier.is_some() { self.target.touch(dir) } else { Ok(()) }
    }

    fn make_destination(&self, path: &Path) -> Result<()> {
        match self.target.tree().entry(path) {
            Ok(entry) if entry.kind == Kind::Dir => Ok(()),
            Ok(_) => Err(not_a_directory(path)),
            Err(_) => self.target.make_dirs(path, 0o755, Some(self.owner.unwrap_or((0, 0)))).map(drop),
        }
    }

    /// Where a single file goes; its directory is made.
    fn file_place(&self, name: &Path) -> Result<PathBuf> {
        let place = if self.destination_is_dir() { self.destination.join(name) } else { self.destination.clone() };
        self.make_destination(place.parent().unwrap_or(Path::new("")))?;
        Ok(place)
    }

    fn inline(&self, name: &str, content: &[u8], mode: u32, mtime: i64) -> Result<()> {
        let (mut file, place, mode) = self.create(name, mode)?;
        let say = || format!("write {}", shown(&place));
        file.write_all(content).with_context(say)?;
        self.target.finish(&file, mode, Some(self.owner.unwrap_or((0, 0))), mtime).with_context(say)
    }

    fn create(&self, name: &str, mode: u32) -> Result<(File, PathBuf, u32)> {
        let place = self.file_place(Path::new(name))?;
        let dir = self.target.open_dir(place.parent().unwrap_or(Path::new("")))?;
        let file_name = place.file_name().unwrap_or(OsStr::from_bytes(name.as_bytes()));
        let file = self.target.create(&dir, file_name).map_err(|e| in_the_way(e, &place))?;
        Ok((File::from(file), place, self.job.chmod.map_or(mode, |c| c.apply(mode, false))))
    }

    fn download(&self, tree: &Tree, entry: &Entry, name: &str, modified: Option<Timestamp>) -> Result<()> {
        if name.is_empty() && self.destination_is_dir() {
            return Err(Error::invalid(format!(
                "cannot determine filename for source: the URL names no file, and {} is a directory",
                self.job.destination
            ))
            .with_hint("write the file's name at the end of the destination"));
        }
        let (mut file, place, mode) = self.create(name, 0o600)?;
        let say = || format!("write {}", shown(&place));
        let mut source = File::from(tree.open_file(&entry.path).with_context(say)?);
        std::io::copy(&mut source, &mut file).with_context(say)?;
        let mtime = modified.unwrap_or(Timestamp::from_secs(0)).nanos();
        self.target.finish(&file, mode, Some(self.owner.unwrap_or((0, 0))), mtime).with_context(say)
    }

    /// Unpacks a single archive into the destination; `false` if it is none.
    fn unpacked(&self, tree: &Tree, part: &Selected) -> Result<bool> {
        match (&part.kind, part.entries.as_slice()) {
            (SelectedKind::File { .. }, [entry]) if entry.kind == Kind::File => self.unpacked_file(tree, entry),
            _ => Ok(false),
        }
    }

    fn unpacked_file(&self, tree: &Tree, entry: &Entry) -> Result<bool> {
        let say = || format!("read {}", tree.path().join(&entry.path).display());
        let mut file = File::from(tree.open_file(&entry.path).with_context(say)?);
        if !is_archive(&mut file).with_context(say)? {
            return Ok(false);
        }
        self.make_destination(&self.destination)?;
        let options = UnpackOptions {
            owner: self.owner.map_or(Owner::Archive, |(uid, gid)| Owner::Set(uid, gid)),
            devices: true,
            max_bytes: u64::MAX,
            cancel: self.job.cancel.clone(),
        };
        unpack(file, self.target.tree(), &self.destination, &options)
            .map_err(|e| e.context(format!("unpack {}", tree.path().join(&entry.path).display())))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;

//! A container's files as it would see them, without a process in it: its layers with everything mounted that a start
//! would mount but the kernel's own file systems and what is in memory.

use std::path::PathBuf;

use barque_model::{Context, Error, Result};
use barque_runtime::overlay::Layers;
use barque_runtime::tree::{self, Base, Owners, Piece};
use barque_store::RootDir;

use super::spec::{MountSource, MountSpec};
use super::view::ContainerView;
use crate::Engine;
use crate::volume::device::MountGuard;
use barque_model::path::rooted;

/// Files of a container that does not run.
pub(super) struct Composed {
    pub(super) root: RootDir,
    /// What could not be mounted, by target.
    failed: Vec<(String, Error)>,
    /// Keep volumes mounted that are mounts.
    _mounted: Vec<MountGuard>,
}

impl Composed {
    /// Nothing may be read or written at `path` that a mount would cover that is not there.
    pub(super) fn check(&mut self, path: &str) -> Result<()> {
        let concerns = |target: &str| inside(path, target).is_some() || inside(target, path).is_some();
        match self.failed.iter().position(|(target, _)| concerns(target)) {
            Some(found) => Err(self.failed.swap_remove(found).1),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Puts the files of a stopped container together. For `writing` nobody else may have its layer mounted. Blocking.
    pub(super) fn composed(&self, view: &ContainerView, writing: bool) -> Result<Composed> {
        let (mut pieces, mut failed, mut mounted) = (Vec::new(), Vec::new(), Vec::new());
        let mut mounts: Vec<&MountSpec> = view.spec.mounts.iter().collect();
        mounts.sort_by_key(|m| rooted(&m.target).matches('/').count());
        for mount in mounts {
            let target = rooted(&mount.target);
            match self.source_tree(mount, &mut mounted) {
                Ok(Some(tree)) => pieces.push(Piece {
                    target,
                    tree,
                    readonly: mount.read_only,
                    below: !mount.top_read_only,
                    owners: owners(mount, &view.spec.process.user),
                }),
                Ok(None) => {}
                Err(e) => failed.push((target, e)),
            }
        }
        for (target, path) in self.own_files(view) {
            if !pieces.iter().any(|p| p.target == target) && path.is_file() {
                let readonly = view.spec.read_only;
                pieces.push(Piece {
                    target: target.into(),
                    tree: tree::copy(&path, None, false)?,
                    readonly,
                    below: true,
                    owners: None,
                });
            }
        }
        let lower = [std::slice::from_ref(&view.upper), &view.layers].concat();
        let base = match writing {
            false => Base::Layers(&lower),
            true => {
                // overlayfs wants the work directory to be its own.
                self.store().prepare_snapshot(&view.id)?;
                Base::Mount(writable(view)?)
            }
        };
        let place = self.container_paths(&view.id).dir;
        let whole = tree::compose(base, &place, &pieces)?;
        failed.extend(whole.failed);
        Ok(Composed { root: RootDir::from_fd(whole.root), failed, _mounted: mounted })
    }

    /// hosts, hostname and resolv.conf as the last start wrote them.
    fn own_files(&self, view: &ContainerView) -> [(&'static str, PathBuf); 3] {
        let other = match &view.spec.network.mode {
            super::spec::NetworkMode::Container(name) => self.container(name).ok(),
            _ => None,
        };
        let names = other.as_deref().unwrap_or(view);
        [
            ("/etc/resolv.conf", names.resolv_conf_path.clone()),
            ("/etc/hosts", names.hosts_path.clone()),
            ("/etc/hostname", names.hostname_path.clone()),
        ]
    }

    /// What a mount brings; nothing where that is only there while a process runs.
    fn source_tree(&self, mount: &MountSpec, mounted: &mut Vec<MountGuard>) -> Result<Option<std::os::fd::OwnedFd>> {
        Ok(match &mount.source {
            MountSource::Bind { path, create_missing, non_recursive, .. } => {
                if *create_missing && path.symlink_metadata().is_err() {
                    // As a start would.
                    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
                }
                Some(tree::copy(path, None, !non_recursive)?)
            }
            MountSource::Volume { name, subpath, .. } => {
                let name = name.as_deref().unwrap_or_default();
                mounted.extend(self.mount_volume_for_now(name)?);
                let subpath = subpath.as_deref().filter(|s| !s.is_empty()).map(std::path::Path::new);
                Some(tree::copy(&self.volume_dir(name), subpath, true)?)
            }
            MountSource::Image { reference, subpath, image } => {
                let name = image.map_or_else(|| reference.clone(), |id| id.to_string());
                let layers = self.image_for_container(&name, None)?.layers;
                Some(tree::image(&layers, subpath.as_deref().map(std::path::Path::new))?)
            }
            MountSource::Tmpfs { .. } => None,
        })
    }
}

/// Owners of a bind as the container would see them.
fn owners(mount: &MountSpec, user: &str) -> Option<Owners> {
    match &mount.source {
        MountSource::Bind { path, non_recursive, owners: Some(map), .. } => {
            Some(Owners { map: map.clone(), path: path.clone(), recursive: !non_recursive, user: user.to_owned() })
        }
        _ => None,
    }
}

fn writable(view: &ContainerView) -> Result<std::os::fd::OwnedFd> {
    if view.layers.is_empty() {
        return tree::copy(&view.upper, None, false);
    }
    let upper = Some((view.upper.as_path(), view.work.as_path()));
    barque_runtime::overlay::mount(&Layers { lower: &view.layers, upper, volatile: false })
        .context("cannot mount the layers")
}

/// The rest of `path` below `target`.
pub(super) fn inside<'a>(path: &'a str, target: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(target.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_mounts() {
        assert_eq!(inside("/a/b", "/a"), Some("b"));
        assert_eq!(inside("/a", "/a"), Some(""));
        assert_eq!(inside("/ab", "/a"), None);
        assert_eq!(inside("/a", "/"), Some("a"));
    }
}

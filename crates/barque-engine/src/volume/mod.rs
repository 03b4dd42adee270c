//! Volumes: directories under the data root that outlive containers.

pub(crate) mod device;
mod objects;
pub mod types;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use barque_model::{Context, Error, ErrorKind, Id, Result, Timestamp};

use barque_store::{Gone, RootDir};
use barque_sys::rootdir::FileKind;

use crate::Engine;
use crate::container::driver::Handle;
use crate::container::spec::{MountSource, MountSpec};
use types::{CreateVolume, VolumeView};

impl Engine {
    pub async fn volume_create(&self, request: CreateVolume) -> Result<VolumeView> {
        let engine = self.clone();
        self.blocking(move || engine.volume_create_blocking(request)).await
    }

    fn volume_create_blocking(&self, request: CreateVolume) -> Result<VolumeView> {
        let (row, present) = self.volume_add(request)?;
        self.volume_view(&present.unwrap_or(row))
    }

    /// Makes a volume unless there is one of that name, which is the second value then.
    fn volume_add(&self, request: CreateVolume) -> Result<(barque_store::Volume, Option<barque_store::Volume>)> {
        let (name, anonymous) = match request.name.filter(|n| !n.is_empty()) {
            Some(name) => (name, false),
            None => (Id::random().to_string(), true),
        };
        check_driver(&name, &request.driver)?;
        checked_name(&name)?;
        let row = self.volume_row(&name, anonymous, &request.labels, &request.options)?;
        let present = match self.store().read(|r| r.volume(&name))? {
            // Its options count, not those of the request.
            Some(present) => Some(present),
            None => {
                let _valid = device::parse(&name, &request.options)?;
                self.store().write_durable(|tx| insert(tx, &row))?
            }
        };
        if present.is_none() {
            self.events().emit("volume", "create", name, [("driver", "local".to_owned())]);
        }
        Ok((row, present))
    }

    fn volume_row(
        &self,
        name: &str,
        anonymous: bool,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<barque_store::Volume> {
        let json =
            |map: &BTreeMap<String, String>| serde_json::to_string(map).map_err(|e| Error::internal(e.to_string()));
        Ok(barque_store::Volume {
            name: name.to_owned(),
            driver: "local".into(),
            created_at: Timestamp::now(),
            anonymous,
            labels: json(labels)?,
            options: json(options)?,
            mountpoint: self.volume_dir(name),
        })
    }

    /// Where a volume's files are.
    pub(crate) fn volume_dir(&self, name: &str) -> PathBuf {
        self.config().data_root.join("volumes").join(name).join("_data")
    }

    pub async fn volume(&self, name: &str) -> Result<VolumeView> {
        let (engine, name) = (self.clone(), name.to_owned());
        self.blocking(move || {
            let row = engine.store().read(|r| r.volume(&name))?;
            engine.volume_view(&row.ok_or_else(|| no_such_volume(&name))?)
        })
        .await
    }

    /// All volumes by name.
    pub async fn volumes(&self) -> Result<Vec<VolumeView>> {
        let engine = self.clone();
        self.blocking(move || {
            let rows = engine.store().read(|r| r.volumes())?;
            rows.iter().map(|row| engine.volume_view(row)).collect()
        })
        .await
    }

    fn volume_view(&self, row: &barque_store::Volume) -> Result<VolumeView> {
        let map = |text: &str| serde_json::from_str(text).unwrap_or_default();
        Ok(VolumeView {
            name: row.name.clone(),
            driver: row.driver.clone(),
            created_at: row.created_at,
            mountpoint: row.mountpoint.clone(),
            labels: map(&row.labels),
            options: map(&row.options),
            anonymous: row.anonymous,
            used_by: self.store().read(|r| r.volume_users(&row.name))?,
        })
    }

    /// Removes a volume nobody uses. `force` makes a missing one no error.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let (engine, name) = (self.clone(), name.to_owned());
        self.blocking(move || match engine.volume_remove_blocking(&name) {
            Err(e) if force && e.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        })
        .await
    }

    pub(crate) fn volume_remove_blocking(&self, name: &str) -> Result<()> {
        if self.store().read(|r| r.volume(name))?.is_none() {
            return Err(no_such_volume(name));
        }
        // The directory goes in the same transaction: that of a volume made anew meanwhile must not.
        self.store().write_durable(|tx| {
            tx.volume_delete(name)?;
            self.unmount_for_good(name)?;
            self.store().discard_dir(&self.config().data_root.join("volumes").join(name))
        })?;
        self.events().emit("volume", "destroy", name, [("driver", "local".to_owned())]);
        Ok(())
    }

    /// Removes the volumes nobody uses and `wanted` accepts. Gives their names and bytes. A `dry` run only tells what
    /// would go, once that is gone.
    pub async fn volumes_prune(
        &self,
        wanted: impl Fn(&VolumeView) -> bool + Send + Sync + 'static,
        dry: Option<Gone>,
    ) -> Result<(Vec<String>, u64)> {
        let engine = self.clone();
        let gone = |user: &Id| dry.as_ref().is_some_and(|gone| gone.containers.contains(user));
        let unused = self.volumes().await?.into_iter().filter(|v| v.used_by.iter().all(gone));
        let unused: Vec<VolumeView> = unused.filter(|v| wanted(v)).collect();
        self.blocking(move || {
            let (mut names, mut bytes) = (Vec::new(), 0);
            for volume in unused {
                let size = directory_size(&volume.mountpoint);
                // One that somebody took into use meanwhile stays.
                if dry.is_some() || engine.volume_remove_blocking(&volume.name).is_ok() {
                    names.push(volume.name);
                    bytes += size;
                }
            }
            Ok((names, bytes))
        })
        .await
    }

    /// Settles a mount's volume name; rows to be inserted are added to `new`.
    pub(crate) fn name_volume(&self, mount: &mut MountSpec, new: &mut Vec<barque_store::Volume>) -> Result<()> {
        let MountSource::Volume { name, anonymous, driver, labels, options, .. } = &mut mount.source else {
            return Ok(());
        };
        check_driver(name.as_deref().unwrap_or("anonymous volume"), driver)?;
        if driver.is_empty() {
            *driver = "local".into();
        }
        match name {
            Some(given) => {
                checked_name(given)?;
            }
            None => {
                *name = Some(Id::random().to_string());
                *anonymous = true;
            }
        }
        let Some(name) = name else { return Ok(()) };
        if self.store().read(|r| r.volume(name))?.is_none() {
            let _valid = device::parse(name, options)?;
        }
        // One that is there may be gone by then.
        new.push(self.volume_row(name, *anonymous, labels, options)?);
        Ok(())
    }

    /// Copies what the image has at the mount points into volumes that are empty (`docker run -v name:/path`).
    pub(crate) fn fill_new_volumes(&self, handle: &Arc<Handle>) -> Result<()> {
        let view = handle.view();
        for mount in &view.spec.mounts {
            let MountSource::Volume { name: Some(name), no_copy: false, subpath: None, .. } = &mount.source else {
                continue;
            };
            let _mounted = self.mount_volume_for_now(name)?;
            let dir = self.volume_dir(name);
            let empty = std::fs::read_dir(&dir).map(|mut entries| entries.next().is_none()).unwrap_or(false);
            if empty {
                fill(&view.layers, &mount.target, &dir)?;
            }
        }
        Ok(())
    }
}

/// Adds a volume and its directory, both in one transaction; gives the one that has the name already.
pub(crate) fn insert(tx: &barque_store::Tx<'_>, row: &barque_store::Volume) -> Result<Option<barque_store::Volume>> {
    if let Some(present) = tx.volume(&row.name)? {
        return Ok(Some(present));
    }
    std::fs::create_dir_all(&row.mountpoint).with_context(|| format!("cannot make {}", row.mountpoint.display()))?;
    tx.volume_insert(row)?;
    Ok(None)
}

/// Copies the directory that an image has at `target` into an empty volume, with its owner and mode.
fn fill(layers: &[PathBuf], target: &str, dir: &std::path::Path) -> Result<()> {
    if layers.is_empty() {
        return Ok(());
    }
    let image = crate::rootfs::read_only(layers)?.root;
    // Links are followed as the container would, inside the image.
    let Ok(real) = image.canonicalize(target) else { return Ok(()) };
    if !image.stat(&real).is_ok_and(|s| s.kind == FileKind::Directory) {
        return Ok(());
    }
    let volume = RootDir::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    let options = barque_store::CopyOptions::default();
    barque_store::tree::copy_tree(&image, &real, &volume, std::path::Path::new("/"), &options)?;
    Ok(())
}

/// Bytes of the files below `dir`; what cannot be read counts nothing.
fn directory_size(dir: &std::path::Path) -> u64 {
    let mut bytes = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => open.push(entry.path()),
                Ok(meta) => bytes += meta.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

fn no_such_volume(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

fn check_driver(name: &str, driver: &str) -> Result<()> {
    match driver {
        "" | "local" => Ok(()),
        other => Err(Error::not_found(format!(
            "create {name}: error looking up volume plugin {other}: plugin \"{other}\" not found"
        ))
        .with_hint("use the driver local")),
    }
}

fn checked_name(name: &str) -> Result<&str> {
    let word = |b: u8| b.is_ascii_alphanumeric();
    let mut bytes = name.bytes();
    let good =
        name.len() >= 2 && bytes.next().is_some_and(word) && bytes.all(|b| word(b) || matches!(b, b'_' | b'.' | b'-'));
    if good {
        return Ok(name);
    }
    if name.len() < 2 {
        return Err(Error::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    Err(Error::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

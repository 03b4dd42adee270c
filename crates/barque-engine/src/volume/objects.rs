//! Volumes as objects: export, import, clone, rename.

use std::collections::BTreeMap;
use std::path::Path;

use barque_model::{Context, Error, Result};
use barque_store::{CopyOptions, RootDir, TarTreeOptions, UntarOptions};

use super::device::MountGuard;
use super::types::CreateVolume;
use super::{checked_name, no_such_volume};
use crate::Engine;
use crate::container::files::{begun, blocking_reader, tar_stream};
use crate::container::request::TarStream;

impl Engine {
    /// All files of a volume as a tar archive.
    pub async fn volume_export(&self, name: &str) -> Result<TarStream> {
        let (root, mounted) = self.volume_root(name).await?;
        let stream = tar_stream(move |out| {
            let _mounted = mounted;
            let options = TarTreeOptions::default();
            barque_store::tree::tar_tree(&root, Path::new("/"), &options, out).map(|_| ())
        })?;
        begun(stream).await
    }

    /// Unpacks an archive into a volume, over what is there.
    pub async fn volume_import(&self, name: &str, archive: TarStream) -> Result<()> {
        let (root, mounted) = self.volume_root(name).await?;
        self.blocking(move || {
            let _mounted = mounted;
            let mut input = blocking_reader(archive);
            let options = UntarOptions { keep_owners: true, ..UntarOptions::default() };
            barque_store::tree::untar_into(&root, Path::new("/"), &mut input, &options)?;
            Ok(())
        })
        .await
    }

    /// A new volume with the files of another. It is a directory of this machine whatever the other is: with the same
    /// options both would be one place.
    pub async fn volume_clone(&self, from: &str, to: &str) -> Result<()> {
        let source = self.volume(from).await?;
        let (root, mounted) = self.volume_root(from).await?;
        let request = CreateVolume {
            name: Some(to.to_owned()),
            driver: source.driver,
            options: BTreeMap::new(),
            labels: source.labels,
        };
        let engine = self.clone();
        let (_, present) = self.blocking(move || engine.volume_add(request)).await?;
        if present.is_some() {
            return Err(Error::conflict(format!("a volume named {to} already exists"))
                .with_hint(format!("choose another name, or remove it: barque volume rm {to}")));
        }
        let (target, _) = self.volume_root(to).await?;
        let copied = self
            .blocking(move || {
                let _mounted = mounted;
                let top = Path::new("/");
                barque_store::tree::copy_tree(&root, top, &target, top, &CopyOptions::default()).map(|_| ())
            })
            .await;
        if copied.is_err() {
            self.volume_remove(to, true).await?;
        }
        copied
    }

    /// Gives a volume that no container uses another name.
    pub async fn volume_rename(&self, from: &str, to: &str) -> Result<()> {
        let (engine, from, to) = (self.clone(), from.to_owned(), checked_name(to)?.to_owned());
        self.blocking(move || {
            let dir = |name: &str| engine.config().data_root.join("volumes").join(name);
            engine.store().write_durable(|tx| {
                if let Some(user) = tx.volume_users(&from)?.first() {
                    let user = engine.container_name(user);
                    return Err(Error::conflict(format!("volume {from} is in use by container {user}"))
                        .with_hint(format!("remove the container first: barque rm {user}")));
                }
                engine.unmount_for_good(&from)?;
                tx.volume_rename(&from, &to, &engine.volume_dir(&to))?;
                std::fs::rename(dir(&from), dir(&to)).with_context(|| format!("cannot move the files of {from}"))
            })?;
            engine.events().emit("volume", "rename", to, [("oldName", from)]);
            Ok(())
        })
        .await
    }

    /// A volume's files, and what keeps them mounted meanwhile.
    async fn volume_root(&self, name: &str) -> Result<(RootDir, Option<MountGuard>)> {
        let (engine, name) = (self.clone(), name.to_owned());
        self.blocking(move || {
            let row = engine.store().read(|r| r.volume(&name))?.ok_or_else(|| no_such_volume(&name))?;
            let mounted = engine.mount_volume_for_now(&name)?;
            let root = RootDir::open(&row.mountpoint).with_context(|| format!("cannot open volume {name}"))?;
            Ok((root, mounted))
        })
        .await
    }
}

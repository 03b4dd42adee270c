//! What opening does to make rows and files agree after a crash, and durability of files.
//!
//! Rows are the truth. A file without a row was about to be added or about to be deleted: it goes. Files that had
//! not been forced to the disk when the machine went down (`synced` is 0 and the boot differs) may be torn: blobs
//! are verified by their digest, layers are unpacked again from their blobs.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use barque_model::{Context, Hasher, Result};

use crate::Store;
use crate::db::{Blob, Durability, Layer};
use crate::error::IoContext;
use crate::layer::LayerSource;
use crate::store::{Inner, Recovery};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID).map(|t| t.trim().to_owned()).unwrap_or_default()
}

impl Store {
    /// Brings rows and files into line. Doing it again changes nothing.
    pub(crate) fn recover(&self) -> Result<Recovery> {
        let mut recovery = Recovery::default();
        let paths = &self.inner.paths;
        for name in names(&paths.tmp())? {
            self.discard_dir(&paths.tmp().join(name))?;
            recovery.temporary += 1;
        }
        let (layers, snapshots, blobs) = self.read(|r| Ok((r.layers()?, r.snapshots()?, r.blobs()?)))?;
        let wanted = layers.iter().map(|l| l.chain_id.0.hex()).collect();
        recovery.layers = self.discard_strangers(&paths.layers(), &wanted)?;
        let wanted = snapshots.iter().map(|s| s.id.to_string()).collect();
        recovery.snapshots = self.discard_strangers(&paths.snapshots(), &wanted)?;
        recovery.blobs = self.reconcile_blobs(&blobs)?;
        if self.read(|r| r.kv("boot_id"))?.unwrap_or_default() != boot_id() {
            self.after_boot(&mut recovery)?;
            self.write(|tx| tx.kv_set("boot_id", &boot_id()))?;
        }
        for layer in layers.iter().filter(|l| l.path.is_none()) {
            if !self.layer_dir(layer).is_dir() && !self.repair(layer, &mut recovery)? {
                recovery.lost.push(format!("the files of layer {} are gone", layer.chain_id));
            }
        }
        Ok(recovery)
    }

    /// Discards directories that no row names.
    fn discard_strangers(&self, dir: &Path, wanted: &HashSet<String>) -> Result<usize> {
        let mut found = 0;
        for name in names(dir)? {
            if !wanted.contains(&name) {
                self.discard_dir(&dir.join(&name))?;
                found += 1;
            }
        }
        Ok(found)
    }

    /// Deletes blob files without a row, and rows without a file that nothing needs.
    fn reconcile_blobs(&self, rows: &[Blob]) -> Result<usize> {
        let mut missing: HashSet<String> = rows.iter().map(|b| b.digest.hex()).collect();
        let base = self.inner.paths.blobs();
        let mut found = 0;
        for shard in names(&base)? {
            for name in names(&base.join(&shard))? {
                if !missing.remove(&name) {
                    let path = base.join(&shard).join(&name);
                    std::fs::remove_file(&path).at("remove", &path)?;
                    found += 1;
                }
            }
        }
        for blob in rows.iter().filter(|b| missing.contains(&b.digest.hex())) {
            self.forget_blob(blob)?;
            found += 1;
        }
        Ok(found)
    }

    /// Forgets a blob whose file is gone or damaged. Manifests that name it stay: a push finds out.
    fn forget_blob(&self, blob: &Blob) -> Result<()> {
        self.write(|tx| {
            tx.manifest_blobs_forget(&blob.digest)?;
            tx.blob_delete(&blob.digest)
        })?;
        let _ = std::fs::remove_file(self.blob_path(&blob.digest));
        Ok(())
    }

    /// The machine was restarted since: what had not been forced to the disk is doubtful.
    fn after_boot(&self, recovery: &mut Recovery) -> Result<()> {
        let (blobs, layers) = self.read(|r| Ok((r.blobs_unsynced()?, r.layers_unsynced()?)))?;
        for blob in &blobs {
            if !self.is_intact(blob) {
                self.forget_blob(blob)?;
                recovery.blobs += 1;
            }
        }
        for layer in &layers {
            if !self.repair(layer, recovery)? {
                recovery.lost.push(format!(
                    "layer {} had not reached the disk when the machine stopped, and cannot be verified",
                    layer.chain_id
                ));
            }
        }
        Ok(())
    }

    fn is_intact(&self, blob: &Blob) -> bool {
        let Ok(mut file) = self.open_blob(&blob.digest) else { return false };
        let mut hash = Hasher::new();
        let mut buffer = vec![0u8; 128 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return hash.bytes() == blob.size && hash.finish() == blob.digest,
                Ok(n) => hash.update(&buffer[..n]),
                Err(_) => return false,
            }
        }
    }

    /// Unpacks a layer again from one of its blobs; whether that was possible.
    fn repair(&self, layer: &Layer, recovery: &mut Recovery) -> Result<bool> {
        let lease = self.lease("repair after a crash")?;
        for blob in self.read(|r| r.layer_blobs(&layer.diff_id))? {
            let source = LayerSource {
                digest: Some(blob.blob.digest),
                size: Some(blob.blob.size),
                diff_id: Some(layer.diff_id),
                ..LayerSource::default()
            };
            let Ok(applied) = self.unpack_blob(&lease, source) else { continue };
            self.replace_layer(layer, applied).with_context(|| format!("repair layer {}", layer.chain_id))?;
            recovery.repaired.push(layer.chain_id);
            return Ok(true);
        }
        Ok(false)
    }
}

impl Inner {
    /// Forces the files of new blobs and layers to the disk and notes that down.
    pub(crate) fn sync_layers(&self) -> Result<()> {
        let (blobs, layers) = self.db.read(|r| Ok((r.blobs_unsynced()?, r.layers_unsynced()?)))?;
        if blobs.is_empty() && layers.is_empty() {
            return Ok(());
        }
        let root = std::fs::File::open(&self.paths.root).at("open", &self.paths.root)?;
        rustix::fs::syncfs(&root).at("sync", &self.paths.root)?;
        let chains: Vec<_> = layers.iter().map(|l| l.chain_id).collect();
        self.db.write(Durability::Process, |tx| {
            tx.blobs_mark_synced(&blobs)?;
            tx.layers_mark_synced(&chains)
        })
    }
}

/// The names in a directory.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).at("list", dir)? {
        found.push(entry.at("list", dir)?.file_name().to_string_lossy().into_owned());
    }
    Ok(found)
}

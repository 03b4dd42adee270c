//! Collection of what neither a row nor a lease refers to.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;

use barque_model::{ChainId, DiffId, Digest, Result, Timestamp};
use rusqlite::params;

use crate::Store;
use crate::db::{Blob, Layer, LeaseKind, Tx};
use crate::error::{self, IoContext};
use crate::store::Inner;

/// Bytes of a block of `st_blocks` (stat(2)).
const BLOCK: u64 = 512;

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: Vec<Digest>,
    pub layers: Vec<ChainId>,
    /// Interrupted ingests that no lease holds any more.
    pub ingests: usize,
    /// Bytes of files, blobs and ingests.
    pub bytes: u64,
}

/// Rows deleted by a sweep, whose files are to follow.
#[derive(Default)]
pub(crate) struct Swept {
    pub(crate) layers: Vec<Layer>,
    pub(crate) blobs: Vec<Blob>,
}

/// Layers that nothing stands on, shares the files of, refers to or holds.
const LOOSE_LAYERS: &str = "SELECT chain_id, diff_id FROM layer l WHERE \
    NOT EXISTS (SELECT 1 FROM layer c WHERE c.parent = l.chain_id) AND \
    NOT EXISTS (SELECT 1 FROM layer s WHERE s.path = 'layers/' || l.chain_id || '/diff') AND \
    NOT EXISTS (SELECT 1 FROM image_layer i WHERE i.chain_id = l.chain_id) AND \
    NOT EXISTS (SELECT 1 FROM snapshot s WHERE s.parent = l.chain_id) AND \
    NOT EXISTS (SELECT 1 FROM build_cache b WHERE b.layer = l.chain_id) AND \
    NOT EXISTS (SELECT 1 FROM lease_item h JOIN lease e ON e.id = h.lease \
                WHERE h.kind = 'layer' AND h.item = l.chain_id AND e.expires_at > ?)";

/// Manifests that no name came with, where the image has one that a name did, or a later one. Indexes likewise.
const OLD_MANIFESTS: &str = "DELETE FROM manifest WHERE rowid IN (SELECT id FROM (\
    SELECT id, named, row_number() OVER (PARTITION BY image, is_index ORDER BY named DESC, id DESC) AS place FROM (\
        SELECT rowid AS id, image, is_index, EXISTS (SELECT 1 FROM image_name n WHERE n.image = m.image AND \
            (n.manifest = m.digest OR (n.digested AND n.name LIKE '%' || m.digest))) AS named FROM manifest m)\
    ) WHERE place > 1 AND NOT named)";

/// That blobs which neither a manifest names nor a lease holds unpack to a layer, where another blob does: one is
/// enough to have the layer's bytes again, best a compressed one, as layers are sent.
const SPARE_BLOBS: &str = "DELETE FROM layer_blob WHERE (diff_id, digest) IN (SELECT diff_id, digest FROM (\
    SELECT diff_id, digest, named, row_number() OVER (PARTITION BY diff_id ORDER BY named DESC, \
        (media_type LIKE '%gzip' OR media_type LIKE '%zstd') DESC, created_at, digest) AS place FROM (\
        SELECT l.diff_id, l.digest, l.media_type, b.created_at, \
            EXISTS (SELECT 1 FROM manifest_blob m WHERE m.digest = l.digest) AS named \
        FROM layer_blob l JOIN blob b USING (digest))\
    ) WHERE place > 1 AND NOT named AND \
    NOT EXISTS (SELECT 1 FROM lease_item h JOIN lease e ON e.id = h.lease \
                WHERE h.kind = 'blob' AND h.item = digest AND e.expires_at > ?))";

/// Blobs that no layer, manifest or lease refers to.
const LOOSE_BLOBS: &str = "SELECT digest, size FROM blob b WHERE \
    NOT EXISTS (SELECT 1 FROM layer_blob l WHERE l.digest = b.digest) AND \
    NOT EXISTS (SELECT 1 FROM manifest_blob m WHERE m.digest = b.digest) AND \
    NOT EXISTS (SELECT 1 FROM lease_item h JOIN lease e ON e.id = h.lease \
                WHERE h.kind = 'blob' AND h.item = b.digest AND e.expires_at > ?)";

impl Swept {
    /// Deletes the rows of all loose layers and blobs, and of manifests that have been superseded.
    pub(crate) fn sweep(tx: &Tx<'_>) -> Result<Swept> {
        let now = Timestamp::now().nanos();
        let mut swept = Swept::default();
        tx.conn.prepare_cached(OLD_MANIFESTS).and_then(|mut q| q.execute([])).map_err(error::db)?;
        // Each round takes the top of what is loose; its parent is loose then.
        loop {
            let loose = loose_layers(tx, now)?;
            if loose.is_empty() {
                break;
            }
            for chain in loose {
                if let Some(layer) = tx.layer(&chain)? {
                    tx.layer_delete(&chain)?;
                    swept.layers.push(layer);
                }
            }
        }
        let diffs: HashSet<DiffId> = swept.layers.iter().map(|l| l.diff_id).collect();
        for diff in &diffs {
            if !tx.layer_with_diff(diff)? {
                tx.layer_blobs_delete(diff)?;
            }
        }
        tx.conn.prepare_cached(SPARE_BLOBS).and_then(|mut q| q.execute(params![now])).map_err(error::db)?;
        let mut query = tx.conn.prepare_cached(LOOSE_BLOBS).map_err(error::db)?;
        let row = |r: &rusqlite::Row<'_>| Ok(Blob { digest: crate::db::get(r, 0)?, size: crate::db::get(r, 1)? });
        let blobs = query.query_map(params![now], row).map_err(error::db)?;
        swept.blobs = blobs.collect::<Result<_, _>>().map_err(error::db)?;
        for blob in &swept.blobs {
            tx.blob_delete(&blob.digest)?;
        }
        Ok(swept)
    }

    /// Bytes of the files that follow; those of a layer with a path are another's.
    pub(crate) fn bytes(&self) -> u64 {
        let layers: u64 = self.layers.iter().filter(|l| l.path.is_none()).map(|l| l.size).sum();
        let blobs: u64 = self.blobs.iter().map(|b| b.size).sum();
        layers + blobs
    }
}

/// Bytes on disk of the files in a directory; 0 if it cannot be read.
pub(crate) fn blocks_below(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.blocks() * BLOCK).sum()
}

fn loose_layers(tx: &Tx<'_>, now: i64) -> Result<Vec<ChainId>> {
    let mut query = tx.conn.prepare_cached(LOOSE_LAYERS).map_err(error::db)?;
    let rows = query.query_map(params![now], |r| crate::db::get(r, 0)).map_err(error::db)?;
    rows.collect::<Result<_, _>>().map_err(error::db)
}

impl Store {
    /// Removes expired leases, then blobs, layers and ingests that nothing refers to. Safe at any time.
    pub fn collect(&self) -> Result<Collected> {
        self.inner.collect()
    }

    /// As [`Store::collect`], without what interrupted work left to be resumed: for those who want room now.
    pub fn collect_interrupted(&self) -> Result<Collected> {
        self.write(|tx| {
            for (lease, ..) in tx.leases()?.iter().filter(|(lease, ..)| !self.inner.janitor.is_live(lease)) {
                tx.lease_delete(lease)?;
            }
            Ok(())
        })?;
        self.collect()
    }

    /// See [`Inner::delete_files`].
    pub(crate) fn delete_files(&self, swept: &Swept) -> Result<()> {
        self.inner.delete_files(swept)
    }
}

impl Inner {
    /// See [`Store::collect`].
    pub(crate) fn collect(&self) -> Result<Collected> {
        let _files = self.lock_files();
        let now = Timestamp::now();
        let (swept, ingests) = self.db.write(crate::db::Durability::Process, |tx| {
            tx.leases_expire(now)?;
            let held = tx.leased(LeaseKind::Ingest, now)?;
            Ok((Swept::sweep(tx)?, held))
        })?;
        self.delete_files(&swept)?;
        let (ingests, ingested) = self.drop_ingests(&ingests)?;
        Ok(Collected {
            bytes: swept.bytes() + ingested,
            layers: swept.layers.iter().map(|l| l.chain_id).collect(),
            blobs: swept.blobs.iter().map(|b| b.digest).collect(),
            ingests,
        })
    }

    /// Deletes the files of swept rows. The caller holds the lock on files since before the rows went.
    pub(crate) fn delete_files(&self, swept: &Swept) -> Result<()> {
        for layer in swept.layers.iter().filter(|l| l.path.is_none()) {
            self.discard(&self.paths.layer(&layer.chain_id))?;
        }
        for blob in &swept.blobs {
            let path = self.paths.blob(&blob.digest);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other.at("remove", &path)?,
            }
        }
        Ok(())
    }

    /// Deletes partly written blobs that nobody writes and no lease holds; how many, and their bytes on disk.
    fn drop_ingests(&self, held: &[String]) -> Result<(usize, u64)> {
        let dir = self.paths.ingests();
        let (mut dropped, mut bytes) = (0, 0);
        let entries = std::fs::read_dir(&dir).at("list", &dir)?.collect::<io::Result<Vec<_>>>().at("list", &dir)?;
        // Asked after listing: who begins a file has its name before.
        let busy = self.busy.held();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !busy.contains(&name) && !held.contains(&name) {
                let size = entry.metadata().map_or(0, |m| m.blocks() * BLOCK);
                std::fs::remove_file(entry.path()).at("remove", &entry.path())?;
                dropped += 1;
                bytes += size;
            }
        }
        Ok((dropped, bytes))
    }
}

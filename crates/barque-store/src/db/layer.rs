//! Blobs, layers and snapshots: the rows that say which files under the data root are wanted.

use std::path::PathBuf;

use barque_model::{ChainId, DiffId, Digest, Error, Id, ImageId, Result, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::column::{col, get};
use super::{Read, Tx};
use crate::error::{self, Violation};

/// A complete, verified file of the content store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// An unpacked layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub chain_id: ChainId,
    pub diff_id: DiffId,
    /// The layer below.
    pub parent: Option<ChainId>,
    /// Bytes of its regular files (a file with several names counts once).
    pub size: u64,
    /// Where its files are, if not in `layers/<chain id>/diff`: absolute for this machine's own, relative to the
    /// data root for those of another layer.
    pub path: Option<PathBuf>,
    pub created_at: Timestamp,
}

/// A blob that unpacks to a diff id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    pub blob: Blob,
    pub media_type: String,
}

/// A writable layer over `parent` (nothing below it for `None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub id: Id,
    pub parent: Option<ChainId>,
    pub created_at: Timestamp,
}

const LAYER: &str = "chain_id, diff_id, parent, size, path, created_at";

fn layer_row(row: &Row<'_>) -> rusqlite::Result<Layer> {
    Ok(Layer {
        chain_id: get(row, 0)?,
        diff_id: get(row, 1)?,
        parent: get(row, 2)?,
        size: get(row, 3)?,
        path: row.get::<_, Option<String>>(4)?.map(PathBuf::from),
        created_at: get(row, 5)?,
    })
}

fn snapshot_row(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    Ok(Snapshot { id: get(row, 0)?, parent: get(row, 1)?, created_at: get(row, 2)? })
}

impl Read<'_> {
    pub fn layer(&self, chain: &ChainId) -> Result<Option<Layer>> {
        let sql = format!("SELECT {LAYER} FROM layer WHERE chain_id = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        query.query_row([col(*chain)], layer_row).optional().map_err(error::db)
    }

    /// All layers.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let sql = format!("SELECT {LAYER} FROM layer ORDER BY created_at, chain_id");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([], layer_row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// The layer and all below it, the top one first.
    ///
    /// Errors: NotFound if the layer does not exist.
    pub fn layer_chain(&self, top: &ChainId) -> Result<Vec<Layer>> {
        let mut chain = Vec::new();
        let mut next = Some(*top);
        while let Some(id) = next {
            let layer = self.layer(&id)?.ok_or_else(|| Error::not_found(format!("layer {id} not found")))?;
            next = layer.parent;
            chain.push(layer);
        }
        Ok(chain)
    }

    /// Layers whose files may not have reached the disk yet.
    pub(crate) fn layers_unsynced(&self) -> Result<Vec<Layer>> {
        let sql = format!("SELECT {LAYER} FROM layer WHERE synced = 0 AND path IS NULL ORDER BY created_at, chain_id");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([], layer_row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// Blobs that may not have reached the disk yet.
    pub(crate) fn blobs_unsynced(&self) -> Result<Vec<Blob>> {
        let mut query = self
            .conn
            .prepare_cached("SELECT digest, size FROM blob WHERE synced = 0 ORDER BY digest")
            .map_err(error::db)?;
        let row = |r: &Row<'_>| Ok(Blob { digest: get(r, 0)?, size: get(r, 1)? });
        let rows = query.query_map([], row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// Whether any layer has this diff id.
    pub(crate) fn layer_with_diff(&self, diff: &DiffId) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM layer WHERE diff_id = ?)";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.query_row([col(*diff)], |r| r.get(0)).map_err(error::db)
    }

    /// The blobs that unpack to `diff`, the oldest first.
    pub fn layer_blobs(&self, diff: &DiffId) -> Result<Vec<LayerBlob>> {
        let sql = "SELECT b.digest, b.size, l.media_type FROM layer_blob l JOIN blob b USING (digest) \
                   WHERE l.diff_id = ? ORDER BY b.created_at, b.digest";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let row =
            |r: &Row<'_>| Ok(LayerBlob { blob: Blob { digest: get(r, 0)?, size: get(r, 1)? }, media_type: r.get(2)? });
        let rows = query.query_map([col(*diff)], row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// The diff id that a blob is known to unpack to.
    pub fn diff_of_blob(&self, digest: &Digest) -> Result<Option<DiffId>> {
        let sql = "SELECT diff_id FROM layer_blob WHERE digest = ? LIMIT 1";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.query_row([col(*digest)], |r| get(r, 0)).optional().map_err(error::db)
    }

    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>> {
        let mut query = self.conn.prepare_cached("SELECT size FROM blob WHERE digest = ?").map_err(error::db)?;
        let row = |r: &Row<'_>| Ok(Blob { digest: *digest, size: get(r, 0)? });
        query.query_row([col(*digest)], row).optional().map_err(error::db)
    }

    /// All blobs.
    pub fn blobs(&self) -> Result<Vec<Blob>> {
        let mut query = self.conn.prepare_cached("SELECT digest, size FROM blob ORDER BY digest").map_err(error::db)?;
        let row = |r: &Row<'_>| Ok(Blob { digest: get(r, 0)?, size: get(r, 1)? });
        let rows = query.query_map([], row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// Every blob that is known to unpack to something, and to what.
    pub(crate) fn blob_diffs(&self) -> Result<Vec<(Digest, DiffId)>> {
        let mut query = self.conn.prepare_cached("SELECT digest, diff_id FROM layer_blob").map_err(error::db)?;
        let rows = query.query_map([], |r| Ok((get(r, 0)?, get(r, 1)?))).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// Every blob that a kept manifest names, and whose manifest that is.
    pub(crate) fn blob_images(&self) -> Result<Vec<(Digest, ImageId)>> {
        let mut query = self.conn.prepare_cached("SELECT digest, image FROM manifest_blob").map_err(error::db)?;
        let rows = query.query_map([], |r| Ok((get(r, 0)?, get(r, 1)?))).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    pub fn snapshot(&self, id: &Id) -> Result<Option<Snapshot>> {
        let sql = "SELECT id, parent, created_at FROM snapshot WHERE id = ?";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.query_row([col(*id)], snapshot_row).optional().map_err(error::db)
    }

    /// All snapshots.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let sql = "SELECT id, parent, created_at FROM snapshot ORDER BY created_at, id";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let rows = query.query_map([], snapshot_row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }
}

impl Tx<'_> {
    /// Reserves the row of a writable layer; [`crate::Store::prepare_snapshot`] makes its directories.
    ///
    /// Errors: NotFound if `parent` does not exist; Conflict if the id is taken.
    pub fn snapshot_insert(&self, s: &Snapshot) -> Result<()> {
        let sql = "INSERT INTO snapshot (id, parent, created_at) VALUES (?, ?, ?)";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![col(s.id), col(s.parent), col(s.created_at)]).map(|_| ()).map_err(|e| {
            match error::violation(&e) {
                Some(Violation::Taken) => Error::conflict(format!("snapshot {} exists already", s.id)).with_source(e),
                Some(Violation::Referenced) => {
                    let parent = s.parent.map(|p| p.to_string()).unwrap_or_default();
                    Error::not_found(format!("layer {parent} not found")).with_source(e)
                }
                None => error::db(e),
            }
        })
    }

    /// Deletes the row; the files stay until [`crate::Store::discard_snapshot`].
    ///
    /// Errors: Conflict if a container still uses the snapshot.
    pub fn snapshot_delete(&self, id: &Id) -> Result<()> {
        let mut query = self.conn.prepare_cached("DELETE FROM snapshot WHERE id = ?").map_err(error::db)?;
        query.execute([col(*id)]).map(|_| ()).map_err(|e| match error::violation(&e) {
            Some(Violation::Referenced) => {
                Error::conflict(format!("snapshot {id} is in use by a container")).with_source(e)
            }
            _ => error::db(e),
        })
    }

    /// Inserts the layer unless it exists already.
    pub(crate) fn layer_insert(&self, l: &Layer, synced: bool) -> Result<()> {
        let sql = format!(
            "INSERT INTO layer ({LAYER}, synced) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (chain_id) DO NOTHING"
        );
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let path = l.path.as_ref().map(|p| p.to_string_lossy().into_owned());
        let values =
            params![col(l.chain_id), col(l.diff_id), col(l.parent), col(l.size), path, col(l.created_at), synced];
        query.execute(values).map(|_| ()).map_err(|e| match error::violation(&e) {
            Some(Violation::Referenced) => {
                Error::not_found(format!("the layer below {} does not exist", l.chain_id)).with_source(e)
            }
            _ => error::db(e),
        })
    }

    pub(crate) fn layers_mark_synced(&self, chains: &[ChainId]) -> Result<()> {
        let mut query =
            self.conn.prepare_cached("UPDATE layer SET synced = 1 WHERE chain_id = ?").map_err(error::db)?;
        for chain in chains {
            query.execute([col(*chain)]).map_err(error::db)?;
        }
        Ok(())
    }

    pub(crate) fn blobs_mark_synced(&self, blobs: &[Blob]) -> Result<()> {
        let mut query = self.conn.prepare_cached("UPDATE blob SET synced = 1 WHERE digest = ?").map_err(error::db)?;
        for blob in blobs {
            query.execute([col(blob.digest)]).map_err(error::db)?;
        }
        Ok(())
    }

    /// Whether the row was there. Errors: Conflict if something still stands on the layer.
    pub(crate) fn layer_delete(&self, chain: &ChainId) -> Result<bool> {
        let mut query = self.conn.prepare_cached("DELETE FROM layer WHERE chain_id = ?").map_err(error::db)?;
        query.execute([col(*chain)]).map(|n| n > 0).map_err(|e| match error::violation(&e) {
            Some(Violation::Referenced) => Error::conflict(format!("layer {chain} is in use")).with_source(e),
            _ => error::db(e),
        })
    }

    pub(crate) fn blob_insert(&self, b: &Blob) -> Result<()> {
        let sql = "INSERT INTO blob (digest, size, created_at) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![col(b.digest), col(b.size), col(Timestamp::now())]).map(|_| ()).map_err(error::db)
    }

    pub(crate) fn blob_delete(&self, digest: &Digest) -> Result<()> {
        let mut query = self.conn.prepare_cached("DELETE FROM blob WHERE digest = ?").map_err(error::db)?;
        query.execute([col(*digest)]).map(|_| ()).map_err(error::db)
    }

    /// Records that the blob unpacks to `diff`.
    pub(crate) fn layer_blob_insert(&self, diff: &DiffId, digest: &Digest, media_type: &str) -> Result<()> {
        let sql = "INSERT INTO layer_blob (diff_id, digest, media_type) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![col(*diff), col(*digest), media_type]).map(|_| ()).map_err(error::db)
    }

    /// Takes the blob from the manifests that name it.
    pub(crate) fn manifest_blobs_forget(&self, digest: &Digest) -> Result<()> {
        let mut query = self.conn.prepare_cached("DELETE FROM manifest_blob WHERE digest = ?").map_err(error::db)?;
        query.execute([col(*digest)]).map(|_| ()).map_err(error::db)
    }

    pub(crate) fn layer_blobs_delete(&self, diff: &DiffId) -> Result<()> {
        let mut query = self.conn.prepare_cached("DELETE FROM layer_blob WHERE diff_id = ?").map_err(error::db)?;
        query.execute([col(*diff)]).map(|_| ()).map_err(error::db)
    }
}

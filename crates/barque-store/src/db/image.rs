//! Images: configuration, layers, names, original manifests.

use std::str::FromStr;

use barque_model::{ChainId, DiffId, Digest, Error, ImageId, Platform, Reference, Result, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::column::{col, get};
use super::{Read, Tx};
use crate::error;

/// An image. Its id is the digest of its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: ImageId,
    /// When the image was made, by its own account.
    pub created_at: Timestamp,
    /// When it came to this machine.
    pub added_at: Timestamp,
    pub platform: Platform,
    /// Bytes of the files of all its layers.
    pub size: u64,
    /// The image it was built or committed from, if that is here.
    pub parent: Option<ImageId>,
    /// The configuration, byte for byte (OCI image-spec, "Image Configuration").
    pub config: Vec<u8>,
    /// The lowest first.
    pub layers: Vec<ImageLayer>,
    /// Names with a tag, sorted.
    pub tags: Vec<Reference>,
    /// Names with a digest (`RepoDigests`), sorted.
    pub digests: Vec<Reference>,
}

/// One layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    pub chain_id: ChainId,
    pub diff_id: DiffId,
    /// Bytes of its files.
    pub size: u64,
}

/// A manifest or index, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Vec<u8>,
    /// An index (manifest list) rather than the manifest of one image.
    pub is_index: bool,
}

impl Image {
    /// The top layer, on which a container's snapshot stands.
    pub fn top(&self) -> Option<ChainId> {
        self.layers.last().map(|l| l.chain_id)
    }

    /// Whether no name leads to the image.
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty()
    }
}

const IMAGE: &str = "id, created_at, added_at, platform, size, parent, config";

fn image_row(row: &Row<'_>) -> rusqlite::Result<Image> {
    Ok(Image {
        id: get(row, 0)?,
        created_at: get(row, 1)?,
        added_at: get(row, 2)?,
        platform: Platform::from_str(&row.get::<_, String>(3)?).unwrap_or_else(|_| Platform::host()),
        size: get(row, 4)?,
        parent: get(row, 5)?,
        config: row.get(6)?,
        layers: Vec::new(),
        tags: Vec::new(),
        digests: Vec::new(),
    })
}

impl Read<'_> {
    pub fn image(&self, id: &ImageId) -> Result<Option<Image>> {
        let sql = format!("SELECT {IMAGE} FROM image WHERE id = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let found = query.query_row([col(*id)], image_row).optional().map_err(error::db)?;
        found.map(|image| self.complete(image)).transpose()
    }

    /// All images, the newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        let sql = format!("SELECT {IMAGE} FROM image ORDER BY created_at DESC, id");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([], image_row).map_err(error::db)?;
        rows.map(|image| self.complete(image.map_err(error::db)?)).collect()
    }

    fn complete(&self, mut image: Image) -> Result<Image> {
        let sql = "SELECT i.chain_id, l.diff_id, l.size FROM image_layer i JOIN layer l USING (chain_id) \
                   WHERE i.image = ? ORDER BY i.position";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let row = |r: &Row<'_>| Ok(ImageLayer { chain_id: get(r, 0)?, diff_id: get(r, 1)?, size: get(r, 2)? });
        let rows = query.query_map([col(image.id)], row).map_err(error::db)?;
        image.layers = rows.collect::<Result<_, _>>().map_err(error::db)?;
        for name in self.image_names(&image.id)? {
            if name.digest().is_some() { image.digests.push(name) } else { image.tags.push(name) }
        }
        Ok(image)
    }

    /// The names of an image, with tags and with digests, sorted.
    pub fn image_names(&self, id: &ImageId) -> Result<Vec<Reference>> {
        let sql = "SELECT name FROM image_name WHERE image = ? ORDER BY name";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let rows = query.query_map([col(*id)], |r| r.get::<_, String>(0)).map_err(error::db)?;
        let mut names = Vec::new();
        for name in rows {
            names.push(name.map_err(error::db)?.parse()?);
        }
        Ok(names)
    }

    /// The image that carries `name` (with a tag or a digest, exactly).
    pub fn image_by_name(&self, name: &Reference) -> Result<Option<ImageId>> {
        let mut query = self.conn.prepare_cached("SELECT image FROM image_name WHERE name = ?").map_err(error::db)?;
        query.query_row([name_key(name)], |r| get(r, 0)).optional().map_err(error::db)
    }

    /// The manifest that `name` came with.
    pub fn image_name_manifest(&self, name: &Reference) -> Result<Option<Digest>> {
        let mut query =
            self.conn.prepare_cached("SELECT manifest FROM image_name WHERE name = ?").map_err(error::db)?;
        let found = query.query_row([name_key(name)], |r| get(r, 0)).optional().map_err(error::db)?;
        Ok(found.flatten())
    }

    /// At most two images whose id begins with the hexadecimal digits `prefix`.
    pub(crate) fn images_with_prefix(&self, prefix: &str) -> Result<Vec<ImageId>> {
        let ids = self.ids_with_prefix("image", prefix)?;
        ids.iter().map(|id| id.to_string()).map(|hex| format!("sha256:{hex}").parse()).collect()
    }

    /// The images built on `id`.
    pub fn image_children(&self, id: &ImageId) -> Result<Vec<ImageId>> {
        let mut query =
            self.conn.prepare_cached("SELECT id FROM image WHERE parent = ? ORDER BY id").map_err(error::db)?;
        let rows = query.query_map([col(*id)], |r| get(r, 0)).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// Bytes of the blobs kept for an image: those that its manifests name, and its layers as they are sent.
    pub fn image_content(&self, id: &ImageId) -> Result<u64> {
        let sql = "SELECT coalesce(sum(size), 0) FROM blob WHERE digest IN (\
                   SELECT digest FROM manifest_blob WHERE image = ?1 UNION \
                   SELECT b.digest FROM image_layer i JOIN layer l USING (chain_id) JOIN layer_blob b USING (diff_id) \
                   WHERE i.image = ?1)";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.query_row([col(*id)], |r| get(r, 0)).map_err(error::db)
    }

    /// A configuration or kept manifest by its digest.
    pub(crate) fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let sql =
            "SELECT config FROM image WHERE id = ?1 UNION ALL SELECT bytes FROM manifest WHERE digest = ?1 LIMIT 1";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.query_row([col(*digest)], |r| r.get(0)).optional().map_err(error::db)
    }

    /// The original manifests and indexes kept for an image, manifests first.
    pub fn image_manifests(&self, id: &ImageId) -> Result<Vec<Manifest>> {
        let sql = "SELECT digest, media_type, bytes, is_index FROM manifest WHERE image = ? ORDER BY is_index, rowid";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let row = |r: &Row<'_>| {
            Ok(Manifest { digest: get(r, 0)?, media_type: r.get(1)?, bytes: r.get(2)?, is_index: r.get(3)? })
        };
        let rows = query.query_map([col(*id)], row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }
}

/// Names are stored fully qualified; a tag beside a digest is not part of the identity.
pub(crate) fn name_key(name: &Reference) -> String {
    match name.digest() {
        Some(digest) => name.with_digest(digest).to_string(),
        None => name.clone().with_default_tag().to_string(),
    }
}

impl Tx<'_> {
    /// Inserts the image without names; does nothing if it exists.
    pub(crate) fn image_insert(&self, i: &Image) -> Result<()> {
        let sql = format!("INSERT INTO image ({IMAGE}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let values = params![
            col(i.id),
            col(i.created_at),
            col(i.added_at),
            i.platform.to_string(),
            col(i.size),
            col(i.parent),
            i.config
        ];
        query.execute(values).map_err(error::db)?;
        let sql = "INSERT INTO image_layer (image, position, chain_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        for (position, layer) in i.layers.iter().enumerate() {
            query.execute(params![col(i.id), position as i64, col(layer.chain_id)]).map_err(error::db)?;
        }
        Ok(())
    }

    pub(crate) fn manifest_insert(&self, image: &ImageId, m: &Manifest, blobs: &[Digest]) -> Result<()> {
        let sql = "INSERT INTO manifest (digest, image, media_type, bytes, is_index) VALUES (?, ?, ?, ?, ?) \
                   ON CONFLICT DO NOTHING";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![col(m.digest), col(*image), m.media_type, m.bytes, m.is_index]).map_err(error::db)?;
        let sql = "INSERT INTO manifest_blob (image, manifest, position, digest) VALUES (?, ?, ?, ?) \
                   ON CONFLICT DO NOTHING";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        for (position, blob) in blobs.iter().enumerate() {
            query.execute(params![col(*image), col(m.digest), position as i64, col(*blob)]).map_err(error::db)?;
        }
        Ok(())
    }

    /// Gives `name` to an image, with the manifest it came with if there is one; returns the image that carried it
    /// before, if that was another one.
    ///
    /// Errors: InvalidArgument for a name that reads as a digest.
    pub fn image_name_set(
        &self,
        name: &Reference,
        image: &ImageId,
        manifest: Option<Digest>,
    ) -> Result<Option<ImageId>> {
        if name.familiar_name() == "sha256" {
            return Err(Error::invalid("refusing to create an ambiguous tag using digest algorithm as name"));
        }
        let before = self.image_by_name(name)?;
        let sql = "INSERT INTO image_name (name, image, digested, manifest) VALUES (?, ?, ?, ?) \
                   ON CONFLICT (name) DO UPDATE SET image = excluded.image, manifest = excluded.manifest";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let values = params![name_key(name), col(*image), name.digest().is_some(), col(manifest)];
        query.execute(values).map_err(error::db)?;
        Ok(before.filter(|b| b != image))
    }

    /// Takes `name` from whatever image carries it; whether one did.
    pub fn image_name_delete(&self, name: &Reference) -> Result<bool> {
        let mut query = self.conn.prepare_cached("DELETE FROM image_name WHERE name = ?").map_err(error::db)?;
        query.execute([name_key(name)]).map(|n| n > 0).map_err(error::db)
    }

    /// Deletes the row with its names and manifests. Stopped containers made from it forget it.
    pub(crate) fn image_delete(&self, id: &ImageId) -> Result<()> {
        let mut query =
            self.conn.prepare_cached("UPDATE container SET image = NULL WHERE image = ?").map_err(error::db)?;
        query.execute([col(*id)]).map_err(error::db)?;
        let mut query = self.conn.prepare_cached("DELETE FROM image WHERE id = ?").map_err(error::db)?;
        query.execute([col(*id)]).map(|_| ()).map_err(error::db)
    }

    pub(crate) fn image_set_parent(&self, id: &ImageId, parent: &ImageId) -> Result<()> {
        let mut query = self.conn.prepare_cached("UPDATE image SET parent = ? WHERE id = ?").map_err(error::db)?;
        query.execute([col(*parent), col(*id)]).map(|_| ()).map_err(error::db)
    }
}

//! Containers: definition and state rows.

use barque_model::{Error, Id, ImageId, Result, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::column::{col, get};
use super::{Read, Tx};
use crate::error::{self, Violation};

const COLUMNS: &str = "id, name, image, image_ref, snapshot, created_at, spec, document, state";

/// A container as the engine defined it. `spec`, `document` and `state` are the engine's JSON, opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: Id,
    /// Without a leading slash; unique.
    pub name: String,
    /// `None` after the image was removed by force while the container was stopped.
    pub image: Option<ImageId>,
    /// The image as it was named when the container was created.
    pub image_ref: String,
    /// The writable layer; deleted with the container.
    pub snapshot: Option<Id>,
    pub created_at: Timestamp,
    pub spec: String,
    pub document: String,
    pub state: String,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Container> {
    Ok(Container {
        id: get(row, 0)?,
        name: row.get(1)?,
        image: get(row, 2)?,
        image_ref: row.get(3)?,
        snapshot: get(row, 4)?,
        created_at: get(row, 5)?,
        spec: row.get(6)?,
        document: row.get(7)?,
        state: row.get(8)?,
    })
}

fn no_such(what: impl std::fmt::Display) -> Error {
    Error::not_found(format!("No such container: {what}"))
}

impl Read<'_> {
    pub fn container(&self, id: &Id) -> Result<Option<Container>> {
        let sql = format!("SELECT {COLUMNS} FROM container WHERE id = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        query.query_row([col(*id)], from_row).optional().map_err(error::db)
    }

    /// The container called `name` (a leading slash is ignored).
    pub fn container_by_name(&self, name: &str) -> Result<Option<Container>> {
        let sql = format!("SELECT {COLUMNS} FROM container WHERE name = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        query.query_row([name.trim_start_matches('/')], from_row).optional().map_err(error::db)
    }

    /// All containers, the newest first.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let sql = format!("SELECT {COLUMNS} FROM container ORDER BY created_at DESC, id");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([], from_row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// Resolves a full id, a name, or a unique prefix of an id, in this order, as Docker does.
    ///
    /// Errors: NotFound `No such container: X`; InvalidArgument if several ids have the prefix.
    pub fn container_find(&self, text: &str) -> Result<Id> {
        if let Ok(id) = text.parse::<Id>()
            && self.container(&id)?.is_some()
        {
            return Ok(id);
        }
        if let Some(found) = self.container_by_name(text)? {
            return Ok(found.id);
        }
        match self.ids_with_prefix("container", text)?.as_slice() {
            [id] => Ok(*id),
            [] => Err(no_such(text)),
            _ => Err(Error::invalid(format!("multiple IDs found with provided prefix: {text}"))),
        }
    }

    /// The containers whose definition names `image`.
    pub fn containers_of_image(&self, image: &ImageId) -> Result<Vec<Id>> {
        let sql = "SELECT id FROM container WHERE image = ? ORDER BY created_at, id";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let rows = query.query_map([col(*image)], |r| get(r, 0)).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// At most two ids of `table` that begin with the hexadecimal digits `prefix`.
    pub(crate) fn ids_with_prefix(&self, table: &'static str, prefix: &str) -> Result<Vec<Id>> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(hex) {
            return Ok(Vec::new());
        }
        let sql = format!("SELECT id FROM {table} WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([prefix], |r| get(r, 0)).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }
}

impl Tx<'_> {
    /// Errors: Conflict with Docker's sentence if the name is taken, NotFound if image or snapshot is missing.
    pub fn container_insert(&self, c: &Container) -> Result<()> {
        let sql = format!("INSERT INTO container ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let values = params![
            col(c.id),
            c.name,
            col(c.image),
            c.image_ref,
            col(c.snapshot),
            col(c.created_at),
            c.spec,
            c.document,
            c.state
        ];
        query.execute(values).map(|_| ()).map_err(|e| match error::violation(&e) {
            Some(Violation::Taken) => self.name_taken(&c.name, e),
            Some(Violation::Referenced) => Error::not_found(format!("No such image: {}", c.image_ref)).with_source(e),
            None => error::db(e),
        })
    }

    fn name_taken(&self, name: &str, source: rusqlite::Error) -> Error {
        match self.container_by_name(name) {
            Ok(Some(other)) => Error::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{}\". \
                 You have to remove (or rename) that container to be able to reuse that name.",
                other.id
            )),
            _ => Error::conflict("a container with this id exists already"),
        }
        .with_source(source)
    }

    fn container_update(&self, id: &Id, column: &'static str, value: &str) -> Result<()> {
        let sql = format!("UPDATE container SET {column} = ? WHERE id = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        match query.execute(params![value, col(*id)]) {
            Ok(0) => Err(no_such(id)),
            Ok(_) => Ok(()),
            Err(e) if error::violation(&e) == Some(Violation::Taken) => Err(self.name_taken(value, e)),
            Err(e) => Err(error::db(e)),
        }
    }

    pub fn container_set_state(&self, id: &Id, state: &str) -> Result<()> {
        self.container_update(id, "state", state)
    }

    pub fn container_set_spec(&self, id: &Id, spec: &str) -> Result<()> {
        self.container_update(id, "spec", spec)
    }

    pub fn container_set_document(&self, id: &Id, document: &str) -> Result<()> {
        self.container_update(id, "document", document)
    }

    /// Errors: Conflict with Docker's sentence if `name` is taken.
    pub fn container_rename(&self, id: &Id, name: &str) -> Result<()> {
        self.container_update(id, "name", name)
    }

    /// Deletes the container with its endpoints, volume uses and snapshot row. The snapshot's files stay until
    /// [`crate::Store::discard_snapshot`]. Does nothing if there is no such container.
    pub fn container_delete(&self, id: &Id) -> Result<()> {
        let Some(container) = self.container(id)? else { return Ok(()) };
        let mut query = self.conn.prepare_cached("DELETE FROM container WHERE id = ?").map_err(error::db)?;
        query.execute([col(*id)]).map_err(error::db)?;
        match container.snapshot {
            Some(snapshot) => self.snapshot_delete(&snapshot),
            None => Ok(()),
        }
    }
}

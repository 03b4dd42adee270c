//! Volumes and who uses them.

use std::path::PathBuf;

use barque_model::{Error, Id, Result, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::column::{col, get};
use super::{Read, Tx};
use crate::error::{self, Violation};

/// A volume. `labels` and `options` are the engine's JSON, opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub created_at: Timestamp,
    /// Made for a container without being named; removed with it by `rm -v` and `--rm`.
    pub anonymous: bool,
    pub labels: String,
    pub options: String,
    pub mountpoint: PathBuf,
}

/// A container's claim on a volume, which cannot be removed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUse {
    pub container: Id,
    pub volume: String,
}

const VOLUME: &str = "name, driver, created_at, anonymous, labels, options, mountpoint";

fn volume_row(row: &Row<'_>) -> rusqlite::Result<Volume> {
    Ok(Volume {
        name: row.get(0)?,
        driver: row.get(1)?,
        created_at: get(row, 2)?,
        anonymous: row.get(3)?,
        labels: row.get(4)?,
        options: row.get(5)?,
        mountpoint: PathBuf::from(row.get::<_, String>(6)?),
    })
}

fn no_such(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}

impl Read<'_> {
    pub fn volume(&self, name: &str) -> Result<Option<Volume>> {
        let sql = format!("SELECT {VOLUME} FROM volume WHERE name = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        query.query_row([name], volume_row).optional().map_err(error::db)
    }

    /// All volumes by name.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        let sql = format!("SELECT {VOLUME} FROM volume ORDER BY name");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([], volume_row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// The containers that use the volume.
    pub fn volume_users(&self, name: &str) -> Result<Vec<Id>> {
        let sql = "SELECT container FROM volume_use WHERE volume = ? ORDER BY container";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let rows = query.query_map([name], |r| get(r, 0)).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// The names of the volumes the container uses.
    pub fn volumes_of_container(&self, container: &Id) -> Result<Vec<String>> {
        let sql = "SELECT volume FROM volume_use WHERE container = ? ORDER BY volume";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let rows = query.query_map([col(*container)], |r| r.get(0)).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// Every use of every volume.
    pub fn volume_uses(&self) -> Result<Vec<VolumeUse>> {
        let sql = "SELECT container, volume FROM volume_use ORDER BY volume, container";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let row = |r: &Row<'_>| Ok(VolumeUse { container: get(r, 0)?, volume: r.get(1)? });
        let rows = query.query_map([], row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }
}

impl Tx<'_> {
    /// Errors: Conflict if the name is taken.
    pub fn volume_insert(&self, v: &Volume) -> Result<()> {
        let sql = format!("INSERT INTO volume ({VOLUME}) VALUES (?, ?, ?, ?, ?, ?, ?)");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let mountpoint = v.mountpoint.to_string_lossy();
        let values = params![v.name, v.driver, col(v.created_at), v.anonymous, v.labels, v.options, mountpoint];
        query.execute(values).map(|_| ()).map_err(|e| match error::violation(&e) {
            Some(Violation::Taken) => {
                Error::conflict(format!("a volume named {} already exists", v.name)).with_source(e)
            }
            _ => error::db(e),
        })
    }

    /// Gives the volume another name and mount point; uses follow. The caller moves the files.
    ///
    /// Errors: NotFound; Conflict if `to` is taken.
    pub fn volume_rename(&self, from: &str, to: &str, mountpoint: &std::path::Path) -> Result<()> {
        let sql = "UPDATE volume SET name = ?, mountpoint = ?, anonymous = 0 WHERE name = ?";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        match query.execute(params![to, mountpoint.to_string_lossy(), from]) {
            Ok(0) => Err(no_such(from)),
            Ok(_) => Ok(()),
            Err(e) if error::violation(&e) == Some(Violation::Taken) => {
                Err(Error::conflict(format!("a volume named {to} already exists")).with_source(e))
            }
            Err(e) => Err(error::db(e)),
        }
    }

    /// Errors: NotFound; Conflict `remove NAME: volume is in use - [CONTAINER, …]`.
    pub fn volume_delete(&self, name: &str) -> Result<()> {
        let mut query = self.conn.prepare_cached("DELETE FROM volume WHERE name = ?").map_err(error::db)?;
        match query.execute([name]) {
            Ok(0) => Err(no_such(name)),
            Ok(_) => Ok(()),
            Err(e) if error::violation(&e) == Some(Violation::Referenced) => {
                let users: Vec<String> = self.volume_users(name)?.iter().map(Id::to_string).collect();
                Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", ")))
                    .with_hint("remove these containers first")
                    .with_source(e))
            }
            Err(e) => Err(error::db(e)),
        }
    }

    /// Records that the container uses the volume; twice is fine.
    ///
    /// Errors: NotFound if the volume or the container does not exist.
    pub fn volume_use_insert(&self, container: &Id, volume: &str) -> Result<()> {
        let sql = "INSERT INTO volume_use (container, volume) VALUES (?, ?) ON CONFLICT DO NOTHING";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![col(*container), volume]).map(|_| ()).map_err(|e| match error::violation(&e) {
            Some(Violation::Referenced) => no_such(volume).with_source(e),
            _ => error::db(e),
        })
    }

    pub fn volume_use_delete(&self, container: &Id, volume: &str) -> Result<()> {
        let sql = "DELETE FROM volume_use WHERE container = ? AND volume = ?";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![col(*container), volume]).map(|_| ()).map_err(error::db)
    }
}

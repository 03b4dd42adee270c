//! The database: one writer connection, a few readers, migrations, and the typed rows of `schema.sql`.
//!
//! [`Read`] and [`Tx`] are what closures given to [`crate::Store::read`] and [`crate::Store::write`] work with;
//! every query of the crate is a method of one of them, in the module of its noun.

mod cache;
mod column;
mod container;
mod image;
mod kv;
mod layer;
mod lease;
mod network;
mod volume;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use barque_model::{Context, Error, Result};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

pub use cache::CacheEntry;
pub(crate) use column::get;
pub use container::Container;
pub use image::{Image, ImageLayer, Manifest};
pub use layer::{Blob, Layer, LayerBlob, Snapshot};
pub(crate) use lease::LeaseKind;
pub use network::{Endpoint, MacAddr, Network};
pub use volume::{Volume, VolumeUse};

use crate::error;

const SCHEMA: &str = include_str!("schema.sql");
/// What brings a database of version 1, 2, … to the next one.
const MIGRATIONS: &[&str] = &["ALTER TABLE image_name ADD COLUMN manifest TEXT"];
const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64 + 1;
/// Idle readers kept open; more are opened under load and closed again.
const IDLE_READERS: usize = 2;
/// Page cache per connection in KiB. The whole database of a busy machine is a few megabytes, which the kernel
/// caches anyway; the daemon has to stay small.
const CACHE_KIB: i64 = 256;

/// A consistent view of the database.
pub struct Read<'a> {
    pub(crate) conn: &'a Connection,
}

/// An open write transaction; sees its own changes through the methods of [`Read`].
pub struct Tx<'a> {
    read: Read<'a>,
}

impl<'a> Deref for Tx<'a> {
    type Target = Read<'a>;

    fn deref(&self) -> &Read<'a> {
        &self.read
    }
}

/// How much a commit has to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The death of the process, not the loss of power (WAL, synchronous=NORMAL).
    Process,
    /// The loss of power too (WAL, synchronous=FULL): all earlier commits become durable with it.
    Power,
}

pub(crate) struct Database {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Database {
    /// Opens or creates the database at `path` and brings its schema up to date.
    pub(crate) fn open(path: &Path) -> Result<Database> {
        let writer = connect(path, true)?;
        migrate(&writer, path)?;
        Ok(Database { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) })
    }

    /// Runs `work` on a consistent snapshot. Never waits for a writer.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Read<'_>) -> Result<T>) -> Result<T> {
        let idle = lock(&self.readers).pop();
        let mut conn = match idle {
            Some(conn) => conn,
            None => connect(&self.path, false)?,
        };
        let result = conn
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(error::db)
            .and_then(|tx| work(&Read { conn: &tx }));
        let mut readers = lock(&self.readers);
        if readers.len() < IDLE_READERS {
            readers.push(conn);
        }
        result
    }

    /// Runs `work` in a write transaction: all of it is committed, or for an error nothing.
    /// `work` must not call back into the store's own `read` or `write`.
    pub(crate) fn write<T>(&self, durability: Durability, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        let mut conn = lock(&self.writer);
        if durability == Durability::Power {
            conn.pragma_update(None, "synchronous", "FULL").map_err(error::db)?;
        }
        let result = transact(&mut conn, work);
        if durability == Durability::Power {
            conn.pragma_update(None, "synchronous", "NORMAL").map_err(error::db)?;
        }
        result
    }

    /// Copies the write-ahead log into the database and truncates it; for a clean shutdown.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        let conn = lock(&self.writer);
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(error::db)
    }
}

fn transact<T>(conn: &mut Connection, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error::db)?;
    let value = work(&Tx { read: Read { conn: &tx } })?;
    tx.commit().map_err(error::db)?;
    Ok(value)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a closure has rolled its transaction back, so that the connection is as good as before.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(path: &Path, write: bool) -> Result<Connection> {
    let what = || format!("open the database {}", path.display());
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags |= if write {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    let conn = Connection::open_with_flags(path, flags).map_err(error::db).with_context(what)?;
    let set = || -> rusqlite::Result<()> {
        conn.busy_timeout(std::time::Duration::from_secs(10))?;
        conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
        conn.pragma_update(None, "foreign_keys", true)?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        if write {
            conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            conn.pragma_update(None, "synchronous", "NORMAL")?;
            conn.pragma_update(None, "journal_size_limit", 4 << 20)?;
        } else {
            conn.pragma_update(None, "query_only", true)?;
        }
        Ok(())
    };
    set().map_err(error::db).with_context(what)?;
    conn.set_prepared_statement_cache_capacity(if write { 48 } else { 24 });
    Ok(conn)
}

fn migrate(conn: &Connection, path: &Path) -> Result<()> {
    let what = || format!("migrate the database {}", path.display());
    let version: i64 =
        conn.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(error::db).with_context(what)?;
    if version > SCHEMA_VERSION {
        return Err(Error::conflict(format!(
            "the database {} has version {version}, this program knows up to {SCHEMA_VERSION}",
            path.display()
        ))
        .with_hint("it was written by a newer version: upgrade this one, or use another data root"));
    }
    let steps = match usize::try_from(version) {
        Ok(0) => SCHEMA.to_owned(),
        Ok(version) => MIGRATIONS.get(version - 1..).unwrap_or_default().join("; "),
        Err(_) => return Err(Error::invalid(format!("the database {} has no version", path.display()))),
    };
    if version < SCHEMA_VERSION {
        let sql = format!("BEGIN IMMEDIATE; {steps}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
        conn.execute_batch(&sql).map_err(error::db).with_context(what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

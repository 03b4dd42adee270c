//! Build cache records: opaque to the store except for what the collector needs.

use barque_model::{ChainId, Error, Result, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::column::{col, get};
use super::{Read, Tx};
use crate::error::{self, Violation};

/// One record of the builder's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    pub key: String,
    /// The builder's own JSON.
    pub record: String,
    /// The result, kept as long as the record is.
    pub layer: Option<ChainId>,
    /// Bytes that deleting the record is expected to free.
    pub size: u64,
    pub created_at: Timestamp,
    pub last_used: Timestamp,
    pub uses: u64,
}

const COLUMNS: &str = "key, record, layer, size, created_at, last_used, uses";

fn from_row(row: &Row<'_>) -> rusqlite::Result<CacheEntry> {
    Ok(CacheEntry {
        key: row.get(0)?,
        record: row.get(1)?,
        layer: get(row, 2)?,
        size: get(row, 3)?,
        created_at: get(row, 4)?,
        last_used: get(row, 5)?,
        uses: get(row, 6)?,
    })
}

impl Read<'_> {
    pub fn cache_get(&self, key: &str) -> Result<Option<CacheEntry>> {
        let sql = format!("SELECT {COLUMNS} FROM build_cache WHERE key = ?");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        query.query_row([key], from_row).optional().map_err(error::db)
    }

    /// All records, the least recently used first.
    pub fn cache_entries(&self) -> Result<Vec<CacheEntry>> {
        let sql = format!("SELECT {COLUMNS} FROM build_cache ORDER BY last_used, key");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let rows = query.query_map([], from_row).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }
}

impl Tx<'_> {
    /// Inserts or replaces the record.
    ///
    /// Errors: NotFound if its layer does not exist.
    pub fn cache_put(&self, e: &CacheEntry) -> Result<()> {
        let sql = format!("INSERT OR REPLACE INTO build_cache ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)");
        let mut query = self.conn.prepare_cached(&sql).map_err(error::db)?;
        let values =
            params![e.key, e.record, col(e.layer), col(e.size), col(e.created_at), col(e.last_used), col(e.uses)];
        query.execute(values).map(|_| ()).map_err(|source| match error::violation(&source) {
            Some(Violation::Referenced) => {
                Error::not_found("the layer of a build cache record does not exist").with_source(source)
            }
            _ => error::db(source),
        })
    }

    /// Counts one more use, now.
    pub fn cache_touch(&self, key: &str) -> Result<()> {
        let sql = "UPDATE build_cache SET last_used = ?, uses = uses + 1 WHERE key = ?";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![col(Timestamp::now()), key]).map(|_| ()).map_err(error::db)
    }

    /// Deletes the record; its layer goes with the next [`crate::Store::collect`].
    pub fn cache_delete(&self, key: &str) -> Result<()> {
        let mut query = self.conn.prepare_cached("DELETE FROM build_cache WHERE key = ?").map_err(error::db)?;
        query.execute([key]).map(|_| ()).map_err(error::db)
    }
}

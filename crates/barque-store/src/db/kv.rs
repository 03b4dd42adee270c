//! Settings of the engine, such as its id: plain text by key.

use barque_model::Result;
use rusqlite::{OptionalExtension, params};

use super::{Read, Tx};
use crate::error;

impl Read<'_> {
    /// The value under `key`.
    pub fn kv(&self, key: &str) -> Result<Option<String>> {
        let mut query = self.conn.prepare_cached("SELECT value FROM kv WHERE key = ?").map_err(error::db)?;
        query.query_row([key], |r| r.get(0)).optional().map_err(error::db)
    }
}

impl Tx<'_> {
    /// Puts `value` under `key`.
    pub fn kv_set(&self, key: &str, value: &str) -> Result<()> {
        let sql = "INSERT INTO kv (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![key, value]).map(|_| ()).map_err(error::db)
    }

    pub fn kv_delete(&self, key: &str) -> Result<()> {
        let mut query = self.conn.prepare_cached("DELETE FROM kv WHERE key = ?").map_err(error::db)?;
        query.execute([key]).map(|_| ()).map_err(error::db)
    }
}

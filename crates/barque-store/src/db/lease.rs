//! Leases: what in-flight work holds against the collector.

use barque_model::{Id, Result, Timestamp};
use rusqlite::params;

use super::column::{col, get};
use super::{Read, Tx};
use crate::error;

/// What a lease can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseKind {
    /// A blob, by the hexadecimal digits of its digest.
    Blob,
    /// A layer, by those of its chain id.
    Layer,
    /// A partly written blob, by the name of its file.
    Ingest,
}

impl LeaseKind {
    fn column(self) -> &'static str {
        match self {
            LeaseKind::Blob => "blob",
            LeaseKind::Layer => "layer",
            LeaseKind::Ingest => "ingest",
        }
    }
}

impl Read<'_> {
    /// The items of `kind` that unexpired leases hold.
    pub(crate) fn leased(&self, kind: LeaseKind, now: Timestamp) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT i.item FROM lease_item i JOIN lease l ON l.id = i.lease \
                   WHERE i.kind = ? AND l.expires_at > ?";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let rows = query.query_map(params![kind.column(), col(now)], |r| r.get(0)).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }

    /// All leases with their purpose and expiry.
    pub fn leases(&self) -> Result<Vec<(Id, String, Timestamp)>> {
        let sql = "SELECT id, purpose, expires_at FROM lease ORDER BY expires_at, id";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        let rows = query.query_map([], |r| Ok((get(r, 0)?, r.get(1)?, get(r, 2)?))).map_err(error::db)?;
        rows.collect::<Result<_, _>>().map_err(error::db)
    }
}

impl Tx<'_> {
    pub(crate) fn lease_insert(&self, id: &Id, purpose: &str, expires_at: Timestamp) -> Result<()> {
        let sql = "INSERT INTO lease (id, purpose, expires_at) VALUES (?, ?, ?)";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![col(*id), purpose, col(expires_at)]).map(|_| ()).map_err(error::db)
    }

    pub(crate) fn lease_renew(&self, id: &Id, expires_at: Timestamp) -> Result<()> {
        let mut query = self.conn.prepare_cached("UPDATE lease SET expires_at = ? WHERE id = ?").map_err(error::db)?;
        query.execute(params![col(expires_at), col(*id)]).map(|_| ()).map_err(error::db)
    }

    pub(crate) fn lease_delete(&self, id: &Id) -> Result<()> {
        let mut query = self.conn.prepare_cached("DELETE FROM lease WHERE id = ?").map_err(error::db)?;
        query.execute([col(*id)]).map(|_| ()).map_err(error::db)
    }

    pub(crate) fn leases_expire(&self, now: Timestamp) -> Result<usize> {
        let mut query = self.conn.prepare_cached("DELETE FROM lease WHERE expires_at <= ?").map_err(error::db)?;
        query.execute([col(now)]).map_err(error::db)
    }

    pub(crate) fn lease_hold(&self, id: &Id, kind: LeaseKind, item: &str) -> Result<()> {
        let sql = "INSERT INTO lease_item (lease, kind, item) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        let mut query = self.conn.prepare_cached(sql).map_err(error::db)?;
        query.execute(params![col(*id), kind.column(), item]).map(|_| ()).map_err(error::db)
    }

    pub(crate) fn lease_drop_item(&self, kind: LeaseKind, item: &str) -> Result<()> {
        let mut query =
            self.conn.prepare_cached("DELETE FROM lease_item WHERE kind = ? AND item = ?").map_err(error::db)?;
        query.execute(params![kind.column(), item]).map(|_| ()).map_err(error::db)
    }
}

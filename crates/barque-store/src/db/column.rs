//! Conversions between SQLite columns and the types of `barque-model`.

use barque_model::{ChainId, DiffId, Digest, Id, ImageId, Timestamp};
use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

/// A value as a column holds it.
pub(crate) struct Col<T>(pub(crate) T);

/// Binds `value` as a column.
pub(crate) fn col<T>(value: T) -> Col<T> {
    Col(value)
}

/// Reads column `index` of `row`.
pub(crate) fn get<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    Col<T>: FromSql,
{
    row.get::<_, Col<T>>(index).map(|c| c.0)
}

fn bytes_of(value: ValueRef<'_>) -> FromSqlResult<[u8; 32]> {
    barque_model::id::from_hex(value.as_str()?).ok_or(FromSqlError::InvalidType)
}

macro_rules! hex_column {
    ($type:ty, $make:expr, $take:expr) => {
        impl FromSql for Col<$type> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                bytes_of(value).map($make).map(Col)
            }
        }

        impl ToSql for Col<$type> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from($take(&self.0)))
            }
        }

        impl FromSql for Col<Option<$type>> {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value {
                    ValueRef::Null => Ok(Col(None)),
                    other => bytes_of(other).map(|b| Col(Some($make(b)))),
                }
            }
        }

        impl ToSql for Col<Option<$type>> {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                match &self.0 {
                    Some(v) => Ok(ToSqlOutput::from($take(v))),
                    None => Ok(ToSqlOutput::from(rusqlite::types::Null)),
                }
            }
        }
    };
}

hex_column!(Id, Id::from_bytes, |v: &Id| v.to_string());
hex_column!(Digest, Digest::from_bytes, |v: &Digest| v.hex());
hex_column!(DiffId, |b| DiffId(Digest::from_bytes(b)), |v: &DiffId| v.0.hex());
hex_column!(ChainId, |b| ChainId(Digest::from_bytes(b)), |v: &ChainId| v.0.hex());
hex_column!(ImageId, |b| ImageId(Digest::from_bytes(b)), |v: &ImageId| v.0.hex());

impl FromSql for Col<Timestamp> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(|n| Col(Timestamp::from_nanos(n)))
    }
}

impl ToSql for Col<Timestamp> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.nanos()))
    }
}

impl FromSql for Col<u64> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        u64::try_from(value.as_i64()?).map(Col).map_err(|_| FromSqlError::InvalidType)
    }
}

impl ToSql for Col<u64> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        // No file system holds 2^63 bytes, so that a larger size is a bug or a lie: it saturates.
        Ok(ToSqlOutput::from(i64::try_from(self.0).unwrap_or(i64::MAX)))
    }
}

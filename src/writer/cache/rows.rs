//! The rows of a query that were read to their end: what the cache keeps and shares.

use super::Weigh;
use crate::error::Result;
use crate::pool::{Row, Snapshot};

/// All rows of a query, owned: nothing of the database is held.
#[derive(Debug, PartialEq)]
pub struct CachedRows {
    columns: Vec<String>,
    rows: Vec<Row>,
    /// About as many bytes.
    weight: u64,
}

/// Of a value beside its text or bytes: 32 as the engine has it, and what the allocator adds.
const VALUE: u64 = 48;

impl CachedRows {
    pub(crate) async fn read(snapshot: &mut Snapshot<'_>, sql: &str, params: turso::params::Params) -> Result<Self> {
        let mut found = snapshot.query(sql, params).await?;
        let columns = found.column_names();
        let mut weight = columns.iter().map(|name| name.len() as u64 + VALUE).sum();
        let mut rows = Vec::new();
        while let Some(row) = found.next().await? {
            weight += VALUE;
            for column in 0..row.column_count() {
                weight += VALUE + row.size(column);
            }
            rows.push(row);
        }
        rows.shrink_to_fit();
        Ok(Self { columns, rows, weight })
    }

    /// The names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The rows, in the query's order.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The first row, if there is any.
    #[must_use]
    pub fn first(&self) -> Option<&Row> {
        self.rows.first()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

impl Weigh for CachedRows {
    fn heap_bytes(&self) -> usize {
        self.weight as usize
    }
}

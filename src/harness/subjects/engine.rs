//! Today's engine as a [`Client`]: raw connections, and everything of ours that runs SQL.

use std::path::Path;

use super::super::workload::{Client, Failure, Value};
use crate::error::Error;
use crate::pool::{Connection, Rows, Snapshot, Transaction};

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { rejected: error.is_contention(), message: error.to_string() }
    }
}

impl From<turso::Error> for Failure {
    fn from(error: turso::Error) -> Self {
        Error::from(error).into()
    }
}

/// Opens the file with a `Database` of its own.
pub(super) async fn open(path: &Path) -> Result<turso::Database, Failure> {
    let name = path.to_string_lossy();
    let opened = turso::Builder::new_local(&name).build().await;
    opened.map_err(|error| Error::open(path, &error).into())
}

/// An engine connection.
pub struct Raw(pub turso::Connection);

impl Raw {
    /// A connection of a `Database` of its own.
    pub(super) async fn fresh(path: &Path) -> Result<Self, Failure> {
        Ok(Raw(open(path).await?.connect()?))
    }
}

impl Client for Raw {
    async fn execute(&mut self, sql: &str, params: Vec<Value>) -> Result<u64, Failure> {
        Ok(self.0.prepare_cached(sql).await?.execute(engine_values(params)).await?)
    }

    async fn query(&mut self, sql: &str, params: Vec<Value>) -> Result<Vec<Vec<Value>>, Failure> {
        let mut rows = self.0.query(sql, engine_values(params)).await?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().await? {
            all.push(values(&row)?);
        }
        Ok(all)
    }
}

impl Client for Connection {
    async fn execute(&mut self, sql: &str, params: Vec<Value>) -> Result<u64, Failure> {
        Ok(Connection::execute(self, sql, engine_values(params)).await?)
    }

    async fn query(&mut self, sql: &str, params: Vec<Value>) -> Result<Vec<Vec<Value>>, Failure> {
        all(Connection::query(self, sql, engine_values(params)).await?).await
    }
}

impl Client for Transaction<'_> {
    async fn execute(&mut self, sql: &str, params: Vec<Value>) -> Result<u64, Failure> {
        Ok(Transaction::execute(self, sql, engine_values(params)).await?)
    }

    async fn query(&mut self, sql: &str, params: Vec<Value>) -> Result<Vec<Vec<Value>>, Failure> {
        all(Transaction::query(self, sql, engine_values(params)).await?).await
    }
}

impl Client for Snapshot<'_> {
    async fn execute(&mut self, sql: &str, _params: Vec<Value>) -> Result<u64, Failure> {
        Err(Failure::unexpected(format!("a snapshot does not write: {sql}")))
    }

    async fn query(&mut self, sql: &str, params: Vec<Value>) -> Result<Vec<Vec<Value>>, Failure> {
        all(Snapshot::query(self, sql, engine_values(params)).await?).await
    }
}

async fn all(mut rows: Rows<'_>) -> Result<Vec<Vec<Value>>, Failure> {
    let mut all = Vec::new();
    while let Some(row) = rows.next().await? {
        all.push((0..row.column_count()).map(|column| value(row.value(column)?)).collect::<Result<_, Failure>>()?);
    }
    Ok(all)
}

fn engine_values(values: Vec<Value>) -> Vec<turso::Value> {
    let engine_value = |value| match value {
        Value::Null => turso::Value::Null,
        Value::Integer(value) => turso::Value::Integer(value),
        Value::Real(value) => turso::Value::Real(value),
        Value::Text(value) => turso::Value::Text(value),
    };
    values.into_iter().map(engine_value).collect()
}

fn values(row: &turso::Row) -> Result<Vec<Value>, Failure> {
    (0..row.column_count()).map(|column| value(row.get_value(column)?)).collect()
}

fn value(value: turso::Value) -> Result<Value, Failure> {
    match value {
        turso::Value::Null => Ok(Value::Null),
        turso::Value::Integer(value) => Ok(Value::Integer(value)),
        turso::Value::Real(value) => Ok(Value::Real(value)),
        turso::Value::Text(value) => Ok(Value::Text(value)),
        turso::Value::Blob(_) => Err(Failure::unexpected("a blob, where the story has none")),
    }
}

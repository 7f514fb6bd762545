//! Which rows are wanted: conditions with their values, which never become SQL.

use turso::Value;

use super::model::{BenchmarkId, SessionStatus};

/// As many rows as a list has at most, unless a filter says fewer.
pub const MOST: u32 = 1000;

/// Which rows of performance. `Default` is all of them, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerformanceFilter {
    /// Of this benchmark.
    pub benchmark: Option<BenchmarkId>,
    /// Of this agent.
    pub agent: Option<String>,
    /// That ended then or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// So many at most; never more than 1,000.
    pub limit: Option<u32>,
}

/// Which sessions. `Default` is all of them, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionFilter {
    /// Of this benchmark.
    pub benchmark: Option<BenchmarkId>,
    /// Of this agent.
    pub agent: Option<String>,
    /// That are so far.
    pub status: Option<SessionStatus>,
    /// So many at most; never more than 1,000.
    pub limit: Option<u32>,
}

impl PerformanceFilter {
    pub(super) fn select(&self, columns: &str) -> Select {
        Select::of(columns, "performance")
            .with("benchmark_id = ?", self.benchmark.as_ref().map(BenchmarkId::as_str))
            .with("agent = ?", self.agent.as_deref())
            .with("at_ms >= ?", self.since_ms)
            .latest("at_ms DESC, session_id DESC", self.limit)
    }
}

impl SessionFilter {
    pub(super) fn select(&self, columns: &str) -> Select {
        Select::of(columns, "sessions")
            .with("benchmark_id = ?", self.benchmark.as_ref().map(BenchmarkId::as_str))
            .with("agent = ?", self.agent.as_deref())
            .with("status = ?", self.status.map(SessionStatus::as_str))
            .latest("started_ms DESC, id DESC", self.limit)
    }
}

/// A query and its values.
pub(super) struct Select {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

impl Select {
    fn of(columns: &str, table: &str) -> Self {
        Self { sql: format!("SELECT {columns} FROM {table}"), values: Vec::new() }
    }

    /// One condition, if there is a value for it.
    fn with(mut self, condition: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.sql += if self.values.is_empty() { " WHERE " } else { " AND " };
            self.sql += condition;
            self.values.push(value.into());
        }
        self
    }

    fn latest(mut self, order: &str, limit: Option<u32>) -> Self {
        self.sql += &format!(" ORDER BY {order} LIMIT ?");
        self.values.push(Value::Integer(limit.unwrap_or(MOST).min(MOST).into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_never_becomes_sql() {
        let agent = Some("x' OR 1 = 1 --".to_owned());
        let select = PerformanceFilter { agent, limit: Some(5000), ..PerformanceFilter::default() }.select("score");
        assert_eq!(
            select.sql,
            "SELECT score FROM performance WHERE agent = ? ORDER BY at_ms DESC, session_id DESC LIMIT ?"
        );
        assert_eq!(select.values, [Value::Text("x' OR 1 = 1 --".to_owned()), Value::Integer(1000)]);
    }
}

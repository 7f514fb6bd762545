//! What a pool needs to know of the connections it pools.

use std::future::{Future, ready};
use std::sync::Arc;

/// Opens the connections of a pool, and judges them.
///
/// ```
/// use std::convert::Infallible;
/// use poolproof::{Manage, Pool, PoolConfig};
///
/// struct Numbers;
///
/// impl Manage for Numbers {
///     type Connection = u32;
///     type Error = Infallible;
///
///     async fn connect(&self) -> Result<u32, Infallible> {
///         Ok(7)
///     }
///
///     fn is_reusable(&self, connection: &mut u32) -> bool {
///         *connection == 7
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::new(Numbers, PoolConfig::default())?;
/// assert_eq!(*pool.get().await?, 7);
/// assert_eq!(pool.status().idle, 1);
/// # Ok(())
/// # }
/// ```
pub trait Manage: Send + Sync + 'static {
    /// What is pooled. Dropping it must end it at once, with whatever it was in the middle of.
    type Connection: Send + 'static;
    /// Why connecting failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Opens a connection. May be cancelled at any await.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Whether a connection that comes back may be handed to somebody else. Must not block. A panic discards the
    /// connection, and goes on in whoever gave it back.
    fn is_reusable(&self, connection: &mut Self::Connection) -> bool;

    /// Whether an idle connection still works; see [`PoolConfig::test_after`](crate::PoolConfig::test_after). One that
    /// does not is replaced.
    fn test(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = connection;
        ready(Ok(()))
    }

    /// What can be said of a connection while somebody holds it. Asked once, when the connection was opened.
    fn activity(&self, connection: &Self::Connection) -> Option<Arc<dyn Activity>> {
        let _ = connection;
        None
    }
}

/// What a connection is doing, as somebody else may see it: for the report of a time-out.
pub trait Activity: Send + Sync {
    /// The last statement, shortened, without its parameters.
    fn last_sql(&self) -> Option<String>;
    /// Whether a transaction is open.
    fn in_transaction(&self) -> bool;
    /// Whether a statement runs right now.
    fn in_flight(&self) -> bool;
    /// Whether it reads, so that what it sees has to stay: in a transaction, or in rows of which it has not seen the last.
    fn is_reading(&self) -> bool {
        self.in_transaction() || self.in_flight()
    }
}

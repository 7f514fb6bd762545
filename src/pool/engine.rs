//! The one way in which the engine is awaited.

use crate::catch::catch;
use crate::error::{Error, Result};

/// Awaits the engine. If it panics, over a damaged file for example, that is an error like any other, and the connection is
/// not used again.
pub(super) async fn engine<T>(call: impl Future<Output = turso::Result<T>>) -> Result<T> {
    Ok(catch(call).await.map_err(Error::of_panic)??)
}

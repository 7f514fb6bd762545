//! From the first request to the last: a stop that loses nothing that was accepted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{ApiState, router};
use crate::runs::Store;
use crate::writer::CloseReport;

/// Answers requests until `stop` resolves. Then runs are marked as interrupted, requests that were taken are answered, and
/// the database is closed; each of the two last within `limit`.
///
/// # Errors
/// What the listener says.
///
/// # Cancel safety
/// Dropped half-way, requests are cut off; runs go on until [`Executions::stop`](super::Executions::stop). No write that was
/// acknowledged is lost.
pub async fn serve<S: Store>(
    listener: TcpListener,
    state: ApiState<S>,
    stop: impl Future<Output = ()> + Send + 'static,
    limit: Duration,
) -> io::Result<CloseReport> {
    let last = CancellationToken::new();
    let heartbeat = tokio::spawn(Arc::clone(&state.gauges()).watch_the_runtime());
    let (executions, told) = (state.executions().clone(), last.clone());
    let stopping = tokio::spawn(async move {
        stop.await;
        executions.stop().await;
        told.cancel();
    });
    // A small answer waits for no other.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, router(state.clone())).with_graceful_shutdown(last.clone().cancelled_owned());
    let late = async {
        last.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    let outcome = tokio::select! {
        outcome = async { server.await } => outcome,
        () = late => Ok(()),
    };
    heartbeat.abort();
    stopping.abort();
    state.executions().stop().await;
    let report = state.db().db().close(limit).await;
    outcome.map(|()| report)
}

//! From the first request to the last: connections that are bounded in number and in patience, and a stop that loses nothing
//! that was accepted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{ApiState, Hosts, router};
use crate::runs::Store;
use crate::writer::CloseReport;

/// As many connections are open at most; more wait until one is closed.
pub const MOST_CONNECTIONS: usize = 512;
/// A connection that is silent for so long, or slower to say what it wants, is closed.
const SILENCE: Duration = Duration::from_secs(5);
/// When no connection can be accepted, for want of file descriptors among others, it is tried again after this.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `stop` resolves. Then runs are marked as interrupted, requests that were taken are answered, and
/// the database is closed; each of the two last within `limit`.
///
/// # Cancel safety
/// Dropped half-way, no more connections are accepted; runs go on until [`Executions::stop`](super::Executions::stop). No write
/// that was acknowledged is lost.
pub async fn serve<S: Store>(
    listener: TcpListener,
    state: ApiState<S>,
    hosts: Hosts,
    stop: impl Future<Output = ()> + Send + 'static,
    limit: Duration,
) -> CloseReport {
    let last = CancellationToken::new();
    let heartbeat = tokio::spawn(Arc::clone(state.gauges()).watch_the_runtime());
    let (executions, told) = (state.executions().clone(), last.clone());
    // What runs is stopped while requests are still answered: whoever polls sees it.
    let stopping = tokio::spawn(async move {
        stop.await;
        executions.stop().await;
        told.cancel();
    });
    let connections = accept_until(&last, listener, &router(state.clone(), hosts)).await;
    let _ = tokio::time::timeout(limit, connections.shutdown()).await;
    heartbeat.abort();
    stopping.abort();
    state.executions().stop().await;
    state.db().db().close(limit).await
}

/// Lets each connection ask what it wants, until `last` is cancelled; those that are open then.
async fn accept_until(last: &CancellationToken, listener: TcpListener, router: &Router) -> GracefulShutdown {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let connections = GracefulShutdown::new();
    while let Some(accepted) = last.run_until_cancelled(accept(&listener, &room)).await {
        let Ok((stream, room)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // A small answer waits for no other. A socket that is gone already is noticed when it is read.
        let _ = stream.set_nodelay(true);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
        let service = TowerToHyperService::new(router.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // Whatever ends it is the client's to know.
            let _ = connection.await;
            drop(room);
        });
    }
    connections
}

/// The next connection, once there is room for one.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let room = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, room))
}

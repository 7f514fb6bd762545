//! What a caller is told when something cannot be done: problem details as of RFC 9457, one sentence each. What went wrong
//! inside stays inside: it is in the service's own log.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::executions::NotBegun;
use crate::runs;

/// Whoever came when it was too much may come again after this time, unless the pool says otherwise.
const SOON: Duration = Duration::from_secs(1);

/// A problem.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// It is too much at the moment.
    fn later(detail: &str, after: Duration) -> Self {
        Self { retry_after: Some(after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// Nobody's fault but ours.
    fn inside(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(target: "poolproof", %error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the service failed; its log says why")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default();
        let body = Body { r#type: "about:blank", title, status: self.status.as_u16(), detail: &self.detail };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            let seconds = after.as_millis().div_ceil(1000).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds as u64));
        }
        response
    }
}

impl From<runs::Error> for Problem {
    fn from(error: runs::Error) -> Self {
        match error {
            runs::Error::NoBenchmark(_) | runs::Error::NoSession(_) => {
                Self::new(StatusCode::NOT_FOUND, error.to_string())
            }
            runs::Error::Over(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            runs::Error::Database(error) => Self::from(error),
            runs::Error::File { .. } | runs::Error::Status(_) => Self::inside(&error),
        }
    }
}

impl From<crate::Error> for Problem {
    fn from(error: crate::Error) -> Self {
        use crate::Error::{AcquireTimeout, Closed, Deadline, Full, Locked};
        match error.cause() {
            AcquireTimeout(timeout) => Self::later("every connection is in use; try again", timeout.waited),
            Deadline { limit, .. } => Self::later("too many writes wait; try again", *limit),
            Full(_) => Self::later("too many writes wait; try again", SOON),
            Locked { tried, .. } => Self::later("the database is locked by others; try again", *tried),
            Closed => Self::later("the service is stopping; try again when it runs", SOON),
            _ => Self::inside(&error),
        }
    }
}

impl From<NotBegun> for Problem {
    fn from(error: NotBegun) -> Self {
        match error {
            NotBegun::Runs(error) => Self::from(error),
            NotBegun::NoRoom => Self::later(&format!("{error}; try again when one has ended"), SOON),
            NotBegun::Stopping => Self::later(&format!("{error}; try again when it runs"), SOON),
            NotBegun::OtherBenchmark(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
        }
    }
}

/// Gives an answer that a layer made without a body a body like all others.
pub(super) async fn every_refusal(method: Method, response: Response) -> Response {
    let status = response.status();
    let is_bare = response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/problem+json");
    if !(status.is_client_error() || status.is_server_error()) || !is_bare {
        return response;
    }
    let problem = match status {
        // The header is added behind this.
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(status, format!("{method} is not for this address; `Allow` says what is"))
        }
        StatusCode::SERVICE_UNAVAILABLE => Problem::later("it took too long; try again", SOON),
        StatusCode::INTERNAL_SERVER_ERROR => Problem::new(status, "the service failed; its log says why"),
        StatusCode::FORBIDDEN => Problem::new(status, "this came from another site's page"),
        _ => Problem::new(status, "the request cannot be understood"),
    };
    problem.into_response()
}

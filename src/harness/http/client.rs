//! An HTTP client for services on this machine: hyper's, with a limit for each answer and bodies that are JSON.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Keeps its connections; a clone shares them.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    timeout: Duration,
}

/// A response and all of its body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Bytes,
}

/// A request had no answer, or one that is not what it was taken for.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The address or a header cannot be one.
    #[error("no request: {0}")]
    Request(#[from] hyper::http::Error),
    /// Nobody listens there, or the connection was lost.
    #[error("{0}")]
    Connection(#[from] hyper_util::client::legacy::Error),
    /// The connection was lost in the middle of the answer.
    #[error("half an answer: {0}")]
    Body(#[from] hyper::Error),
    /// The time limit is over.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The body is no JSON, or of another form.
    #[error("no such JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Default for HttpClient {
    /// A client that waits 40 seconds for an answer.
    fn default() -> Self {
        Self::new(Duration::from_secs(40))
    }
}

impl HttpClient {
    /// A client that waits `timeout` for each answer, its body included.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), timeout }
    }

    /// # Errors
    /// If there is no answer in time.
    ///
    /// # Cancel safety
    /// The request may have been sent; its connection is closed.
    pub async fn get(&self, url: &str) -> Result<Answer, Unanswered> {
        self.send(Method::GET, url, None).await
    }

    /// Sends `body` as JSON, or nothing.
    ///
    /// # Errors
    /// If there is no answer in time.
    ///
    /// # Cancel safety
    /// The request may have been sent; its connection is closed.
    pub async fn send(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Answer, Unanswered> {
        let mut request = Request::builder().method(method).uri(url);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::from(body))?;
        let answer = async {
            let (parts, body) = self.client.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(self.timeout, answer).await.unwrap_or(Err(Unanswered::Timeout(self.timeout)))
    }
}

impl Answer {
    /// The body; what is no UTF-8 in it is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// If it is none, or of another form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Unanswered> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

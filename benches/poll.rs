//! Browsers that do nothing with what they are shown: what they take of the machine is taken from the service.

use std::net::SocketAddr;
use std::time::Instant;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// One browser's connection, which stays open.
pub struct Browser(SendRequest<Empty<Bytes>>);

impl Browser {
    /// # Panics
    /// If nobody listens there.
    pub async fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.set_nodelay(true).expect("it is a socket");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
        tokio::spawn(connection);
        Self(sender)
    }

    /// What is at this address.
    ///
    /// # Panics
    /// If it is anything but a success.
    pub async fn get(&mut self, address: &str) -> Bytes {
        let request = Request::get(address).header("host", "localhost").body(Empty::new()).expect("it is an address");
        let response = self.0.send_request(request).await.expect("it is answered");
        assert!(response.status().is_success(), "{address}: {}", response.status());
        response.into_body().collect().await.expect("it is answered to the end").to_bytes()
    }
}

/// Asks for these addresses in turn, on so many connections, until `end`: how many answers there were.
///
/// # Panics
/// As of [`Browser`].
pub async fn poll(address: SocketAddr, browsers: usize, views: &[String], end: Instant) -> u64 {
    let mut all = JoinSet::new();
    for number in 0..browsers {
        let views = views.to_vec();
        all.spawn(async move {
            let mut browser = Browser::new(address).await;
            let mut answers = 0;
            for view in views.iter().cycle().skip(number) {
                browser.get(view).await;
                answers += 1;
                if Instant::now() >= end {
                    break;
                }
            }
            answers
        });
    }
    all.join_all().await.into_iter().sum()
}

//! A receiver of webhooks: a real HTTP server that writes down what it gets and answers as a test wants.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Hit {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Hit {
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Checks the signature as a receiver would, with this secret.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.{}", self.id(), self.headers["webhook-timestamp"], self.body).as_bytes());
        let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        self.headers["webhook-signature"].split(' ').any(|signature| signature == expected)
    }
}

#[derive(Default)]
struct Seen {
    hits: Mutex<Vec<Hit>>,
    failures_left: AtomicUsize,
    count: AtomicUsize,
}

/// Answers by the path: `ok`, `flaky` (503 as often as [`Receiver::fail`] says), `rough` (every third 500), `moved` (302),
/// `gone` (410), `bad` (500), `slow` (after two seconds).
#[derive(Clone)]
pub struct Receiver {
    pub base: String,
    seen: Arc<Seen>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let seen = Arc::new(Seen::default());
        let routes = Router::new().route("/{path}", post(take)).with_state(seen.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Receiver { base, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// The next `n` requests to `flaky` fail.
    pub fn fail(&self, n: usize) {
        self.seen.failures_left.store(n, Ordering::SeqCst);
    }

    /// What came to a path up to now.
    pub fn hits(&self, path: &str) -> Vec<Hit> {
        self.seen.hits.lock().unwrap().iter().filter(|hit| hit.path == path).cloned().collect()
    }

    /// Waits until at least `n` requests have come to a path.
    pub async fn wait_for(&self, path: &str, n: usize) -> Vec<Hit> {
        for _ in 0..2000 {
            let hits = self.hits(path);
            if hits.len() >= n {
                return hits;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("only {} requests came to {path}, not {n}", self.hits(path).len());
    }
}

async fn take(
    State(seen): State<Arc<Seen>>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let headers =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let body = String::from_utf8(body.to_vec()).unwrap();
    seen.hits.lock().unwrap().push(Hit { path: path.clone(), headers, body });
    let n = seen.count.fetch_add(1, Ordering::SeqCst);
    match path.as_str() {
        "flaky" => {
            let left = seen.failures_left.load(Ordering::SeqCst);
            if left == 0 {
                return StatusCode::NO_CONTENT.into_response();
            }
            seen.failures_left.store(left - 1, Ordering::SeqCst);
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response()
        }
        "rough" if n % 3 == 0 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "moved" => (StatusCode::FOUND, [("location", "/ok")]).into_response(),
        "gone" => StatusCode::GONE.into_response(),
        "bad" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "slow" => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            StatusCode::OK.into_response()
        }
        _ => StatusCode::OK.into_response(),
    }
}

//! A server to test against: in this process, or the real program; both with a small random model and a store of their
//! own, reached by a real HTTP client.

#![allow(dead_code)] // each test file uses a part

pub mod receiver;

#[path = "../engine_pack/mod.rs"]
pub mod engine_pack;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use hearken::{
    config::options::Options,
    engine::{Engine, hub::HubOptions},
    http::{
        AppState, metrics, router,
        server::{Door, serve},
    },
    pipeline::Pipeline,
    store,
};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server inside the test's process.
pub struct Server {
    pub base: String,
    pub client: reqwest::Client,
    pub state: AppState,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    serving: Option<tokio::task::JoinHandle<std::io::Result<()>>>,
    _folder: TempDir,
}

impl Server {
    pub async fn start() -> Server {
        Server::start_with("").await
    }

    /// `toml` is what a configuration file would say.
    pub async fn start_with(toml: &str) -> Server {
        Server::start_with_hub(toml, HubOptions { offline: true, ..HubOptions::default() }).await
    }

    pub async fn start_with_hub(toml: &str, hub: HubOptions) -> Server {
        metrics::install();
        let folder = tempfile::tempdir().unwrap();
        let mut options: Options = toml::from_str(toml).unwrap();
        options.data_dir = Some(folder.path().to_owned());
        let config = Arc::new(options.resolve().unwrap());
        let pack = engine_pack::pack(7);
        let mut engine_options = engine_pack::options(pack.path());
        engine_options.queue_tokens_max = config.limits.queue_tokens_max;
        engine_options.hub = hub;
        let engine = Engine::open(&engine_options).unwrap();
        let store = store::open(&config.store).unwrap();
        let pipeline = Pipeline::start(store, engine.clone(), config.pipeline_options()).unwrap();
        let state = AppState::new(engine, pipeline, config);

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let door = Door::default();
        door.open(router(state.clone()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = tokio::spawn(serve(listener, door, async {
            let _ = stopped.await;
        }));
        let client = reqwest::Client::new();
        Server { base, client, state, stop: Some(stop), serving: Some(serving), _folder: folder }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// The JSON behind `path`, which must be there.
    pub async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Response {
        self.request(Method::POST, path).header("content-type", content_type).body(body).send().await.unwrap()
    }

    pub async fn post_json(&self, path: &str, body: &Value) -> Response {
        self.post(path, "application/json", body.to_string()).await
    }

    /// Puts a model into a slot and follows the swap to its end.
    pub async fn swap(&self, slot: &str, body: &Value) -> Value {
        let request = self.request(Method::PUT, &format!("/v1/models/{slot}"));
        let response =
            request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 202);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        loop {
            let swap = self.json(&location).await;
            match swap["state"].as_str().unwrap() {
                "serving" | "failed" => return swap,
                "loading" | "validating" | "warming" => tokio::time::sleep(Duration::from_millis(10)).await,
                other => panic!("{other} is no state"),
            }
        }
    }

    /// Sends events and waits until they are in their documents.
    pub async fn apply(&self, events: &[Value]) -> Value {
        let body = Value::from(events).to_string();
        let response = self.post("/v1/events?wait=applied", "application/cloudevents-batch+json", body).await;
        assert_eq!(response.status(), 202);
        response.json().await.unwrap()
    }

    /// Stops as on SIGTERM and waits until every connection is done.
    pub async fn stop(&mut self) {
        self.state.close();
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap().unwrap();
        }
    }
}

/// An inbound mail of a contact.
pub fn mail(id: &str, contact: &str, text: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "test", "type": "voc.interaction.received.v1",
        "time": jiff::Timestamp::now().to_string(),
        "data": {"record": {"module": "contact", "id": contact}, "channel": "email", "text": text},
    })
}

/// Checks that a response is a problem of the given status and kind, as RFC 9457 and the contract have it.
pub async fn problem(response: Response, status: u16, kind: &str) -> Value {
    let found = response.status().as_u16();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    assert_eq!(headers["content-type"], "application/problem+json", "{text}");
    assert!(headers.contains_key("x-request-id"));
    if matches!(status, 429 | 503) {
        let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!(wait >= 1);
    }
    let body: Value = serde_json::from_str(&text).unwrap();
    check_problem(&body, status, kind);
    body
}

/// The same for a problem inside another answer.
pub fn check_problem(body: &Value, status: u16, kind: &str) {
    assert_eq!(body["type"], format!("/docs/problems#{kind}"), "{body}");
    assert_eq!(body["status"], status, "{body}");
    for member in ["title", "detail"] {
        assert!(body[member].as_str().is_some_and(|s| !s.is_empty()), "{member} of {body}");
    }
}

/// The real program, serving on a port of its own choice.
pub struct Program {
    pub child: Child,
    pub base: String,
    _pack: Option<TempDir>,
}

/// The program with the given arguments, and no settings from the test's own environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearken"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HEARKEN_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

impl Program {
    /// `hearken serve` on `data_dir` with a small model; returns when it is ready for work.
    pub fn serve(data_dir: &Path, arguments: &[&str]) -> Program {
        let pack = engine_pack::pack(7);
        let mut command = command(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(data_dir).arg("--models").arg(pack.path()).args(arguments);
        command.env("RUST_LOG", "warn").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base = line.trim().strip_prefix("hearken listens on ").expect("the address").to_owned();
        let mut program = Program { child, base, _pack: Some(pack) };
        program.wait_until_ready();
        program
    }

    fn wait_until_ready(&mut self) {
        let address = self.base.strip_prefix("http://").unwrap().to_owned();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !answers_ok(&address, "/health/ready") {
            assert!(self.child.try_wait().unwrap().is_none(), "the program ended");
            assert!(Instant::now() < deadline, "the program is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM; returns the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap().code()
    }

    /// SIGKILL, in the middle of whatever it does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A GET without an HTTP library, so that it can be made outside a runtime.
fn answers_ok(address: &str, path: &str) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

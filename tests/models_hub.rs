//! Models from a hub: a stand-in that speaks its protocol over HTTP, with its faults. Not covered here: the real hub.

mod common;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Path as Segments, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use common::{Server, command, engine_pack};
use futures::StreamExt;
use hearken::engine::hub::{Hub, HubError, HubOptions};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the stand-in does wrong, and what it saw.
#[derive(Default)]
struct Behaviour {
    /// Downloads of large files that break off half way.
    cuts: usize,
    /// Downloads of large files with a byte turned over.
    damaged: usize,
    /// A token that is needed.
    token: Option<&'static str>,
    /// Ranges that were asked for of large files.
    ranges: Vec<String>,
}

struct StandIn {
    files: BTreeMap<String, Vec<u8>>,
    behaviour: Mutex<Behaviour>,
}

type Shared = Arc<StandIn>;

/// Files above this are kept as the hub keeps large ones, with their SHA-256.
const LARGE: usize = 20_000;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn refused(hub: &StandIn, headers: &HeaderMap) -> Option<Response> {
    let wanted = hub.behaviour.lock().unwrap().token?;
    let given = headers.get("authorization").and_then(|v| v.to_str().ok());
    (given != Some(&format!("Bearer {wanted}")))
        .then(|| (StatusCode::UNAUTHORIZED, [("x-error-code", "GatedRepo")], "no").into_response())
}

async fn info(
    State(hub): State<Shared>,
    Segments((org, name, revision)): Segments<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    if (org.as_str(), name.as_str()) != ("acme", "tiny") {
        return (StatusCode::UNAUTHORIZED, [("x-error-code", "RepoNotFound")], "no").into_response();
    }
    if let Some(refusal) = refused(&hub, &headers) {
        return refusal;
    }
    if revision != "main" && !COMMIT.starts_with(&revision) {
        return (StatusCode::NOT_FOUND, [("x-error-code", "RevisionNotFound")], "no").into_response();
    }
    let siblings: Vec<Value> = hub
        .files
        .iter()
        .map(|(name, bytes)| {
            let lfs = (bytes.len() > LARGE).then(|| json!({"sha256": sha256(bytes), "size": bytes.len()}));
            json!({"rfilename": name, "size": bytes.len(), "lfs": lfs})
        })
        .collect();
    axum::Json(json!({"sha": COMMIT, "siblings": siblings})).into_response()
}

async fn file(
    State(hub): State<Shared>,
    Segments((_, _, revision, name)): Segments<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    assert_eq!(revision, COMMIT, "files are asked for by commit");
    if let Some(refusal) = refused(&hub, &headers) {
        return refusal;
    }
    let Some(bytes) = hub.files.get(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let range = headers["range"].to_str().unwrap().strip_prefix("bytes=").unwrap().to_owned();
    let (from, to) = range.split_once('-').unwrap();
    let from: usize = from.parse().unwrap();
    let to = to.parse().unwrap_or(bytes.len() - 1);
    if from > to {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let mut part = bytes[from..=to].to_vec();
    let mut whole = part.len();
    let mut behaviour = hub.behaviour.lock().unwrap();
    if bytes.len() > LARGE && range != "0-0" {
        behaviour.ranges.push(range);
        if behaviour.damaged > 0 {
            behaviour.damaged -= 1;
            part[0] ^= 0xFF;
        }
        if behaviour.cuts > 0 {
            behaviour.cuts -= 1;
            whole = part.len();
            part.truncate(whole / 2);
        }
    }
    Response::builder()
        .status(StatusCode::PARTIAL_CONTENT)
        .header("x-repo-commit", COMMIT)
        .header("etag", format!("\"{}\"", sha256(bytes)))
        .header("content-range", format!("bytes {from}-{to}/{}", bytes.len()))
        .header("content-length", whole)
        .body(if part.len() < whole {
            // The connection closes before the length that was promised, once what came before is on its way.
            let broken = async {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                Err(std::io::Error::other("cut"))
            };
            let part = futures::stream::iter([Ok(part)]);
            Body::from_stream(part.chain(futures::stream::once(broken)))
        } else {
            Body::from(part)
        })
        .unwrap()
}

/// A stand-in with one repository, and options that lead to it.
async fn hub(behaviour: Behaviour, cache: &Path) -> (Shared, HubOptions) {
    let pack = engine_pack::pack(7);
    let mut files: BTreeMap<String, Vec<u8>> = ["config.json", "model.safetensors", "tokenizer.json"]
        .iter()
        .map(|name| (name.to_string(), std::fs::read(pack.path().join(name)).unwrap()))
        .collect();
    files.insert("training.log".into(), b"not wanted".to_vec());
    let hub = Arc::new(StandIn { files, behaviour: Mutex::new(behaviour) });
    let routes = Router::new()
        .route("/api/models/{org}/{name}/revision/{revision}", get(info))
        .route("/{org}/{name}/resolve/{revision}/{file}", get(file))
        .with_state(hub.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let options =
        HubOptions { endpoint, token: None, cache: Some(cache.join("hub")), offline: false, progress: false };
    (hub, options)
}

async fn fetch(
    options: &HubOptions,
    repo: &str,
    revision: Option<&str>,
) -> Result<hearken::engine::hub::Snapshot, HubError> {
    let (options, repo, revision) = (options.clone(), repo.to_owned(), revision.map(str::to_owned));
    tokio::task::spawn_blocking(move || Hub::new(&options)?.fetch(&repo, revision.as_deref())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_pinned_checked_and_found_again_without_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, online) = hub(Behaviour::default(), folder.path()).await;
    let offline = HubOptions { offline: true, ..online.clone() };
    let error = fetch(&offline, "acme/tiny", None).await.unwrap_err().to_string();
    assert!(error.contains("this run is offline; fetch it first: hearken models fetch acme/tiny"), "{error}");

    let snapshot = fetch(&online, "acme/tiny", None).await.unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.files["model.safetensors"].sha256, sha256(&hub.files["model.safetensors"]));
    assert!(!snapshot.files.contains_key("training.log"));
    for revision in [None, Some("main"), Some(COMMIT), Some("0123456")] {
        let again = fetch(&offline, "acme/tiny", revision).await.unwrap();
        assert_eq!((again.commit, again.files), (snapshot.commit.clone(), snapshot.files.clone()));
    }
    assert_eq!(Hub::new(&offline).unwrap().snapshots()[0].repo, "acme/tiny");
    let seen = hub.behaviour.lock().unwrap().ranges.len();
    fetch(&online, "acme/tiny", Some(COMMIT)).await.unwrap();
    assert_eq!(hub.behaviour.lock().unwrap().ranges.len(), seen, "what is there is not fetched again");

    // A byte of the cache turns over: noticed offline, put right online.
    let weights = snapshot.dir.join("model.safetensors").canonicalize().unwrap();
    let mut bytes = std::fs::read(&weights).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let error = fetch(&offline, "acme/tiny", None).await.unwrap_err().to_string();
    assert!(error.contains("model.safetensors of acme/tiny is damaged"), "{error}");
    assert!(error.ends_with("fetch it again without --offline"), "{error}");
    fetch(&online, "acme/tiny", None).await.unwrap();
    fetch(&offline, "acme/tiny", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, options) = hub(Behaviour { cuts: 2, ..Behaviour::default() }, folder.path()).await;
    fetch(&options, "acme/tiny", None).await.unwrap();
    let ranges = hub.behaviour.lock().unwrap().ranges.clone();
    assert!(ranges.iter().any(|r| !r.starts_with("0-")), "{ranges:?}");

    // Too often: said, and what came is kept for the next try.
    let folder = tempfile::tempdir().unwrap();
    let (hub, options) = self::hub(Behaviour { cuts: 5, ..Behaviour::default() }, folder.path()).await;
    let error = fetch(&options, "acme/tiny", None).await.unwrap_err().to_string();
    assert!(error.contains("model.safetensors of acme/tiny broke off"), "{error}");
    fetch(&options, "acme/tiny", None).await.unwrap();
    let last = hub.behaviour.lock().unwrap().ranges.last().cloned().unwrap();
    assert!(!last.starts_with("0-"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_on_the_way_is_noticed_and_refusals_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let (_, options) = hub(Behaviour { damaged: 1, ..Behaviour::default() }, folder.path()).await;
    fetch(&options, "acme/tiny", None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_, options) = hub(Behaviour { damaged: 9, ..Behaviour::default() }, folder.path()).await;
    let error = fetch(&options, "acme/tiny", None).await.unwrap_err().to_string();
    assert!(error.contains("is damaged: its SHA-256 is") && error.contains("fetched twice"), "{error}");

    let error = fetch(&options, "acme/none", None).await.unwrap_err().to_string();
    assert!(error.contains("knows no acme/none") && error.contains("HF_TOKEN"), "{error}");
    let error = fetch(&options, "acme/tiny", Some("v9")).await.unwrap_err().to_string();
    assert_eq!(error, "acme/tiny has no revision \"v9\"");
    let error = fetch(&options, "../etc", None).await.unwrap_err().to_string();
    assert!(error.contains("no name of a repository"), "{error}");
    let away = HubOptions { endpoint: "http://127.0.0.1:1".into(), ..options };
    let error = fetch(&away, "acme/tiny", None).await.unwrap_err().to_string();
    assert!(error.contains("the hub at http://127.0.0.1:1 cannot be reached"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_reads_the_variables_that_other_programs_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_, options) = hub(Behaviour { token: Some("secret"), ..Behaviour::default() }, folder.path()).await;
    let run = async |token: &'static str| {
        let mut program = command(&["models", "fetch", "acme/tiny@main", "--json"]);
        program.env("HF_ENDPOINT", &options.endpoint).env("HF_HOME", folder.path()).env("HF_TOKEN", token);
        tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap()
    };
    let refused = run("").await;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("acme/tiny is gated: accept its terms at"), "{text}");
    let fetched = run("secret").await;
    let snapshot: Value = serde_json::from_slice(&fetched.stdout).unwrap();
    assert_eq!(snapshot["commit"], COMMIT);
    assert!(Path::new(snapshot["dir"].as_str().unwrap()).starts_with(folder.path().join("hub")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_takes_a_repository_and_names_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (_, options) = hub(Behaviour::default(), folder.path()).await;
    let server = Server::start_with_hub("", options).await;
    let body = json!({"repo": "acme/tiny", "revision": "main"});
    let swap = server.swap("sentiment", &body).await;
    assert_eq!(swap["state"], "serving", "{swap}");
    let scored = server.post_json("/v1/score", &json!({"inputs": ["the connection is bad"]})).await;
    let scored: Value = scored.json().await.unwrap();
    assert_eq!(scored["models"]["sentiment"], json!({"name": "acme/tiny", "revision": COMMIT}));
    let missing = server.swap("sentiment", &json!({"repo": "acme/none"})).await;
    assert_eq!(missing["state"], "failed");
    assert!(missing["reason"].as_str().unwrap().contains("knows no acme/none"), "{missing}");
}

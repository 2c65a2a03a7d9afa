//! `hearken load` as a process: what it reports of a real server, that a stalling server is charged for everybody who
//! would have waited, and what it refuses. Not here: its arithmetic, which has unit tests beside it.

mod common;

use std::{
    process::Output,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get, routing::post};
use common::{Program, command};
use serde_json::{Value, json};
use tokio::sync::Mutex;

/// Runs the command beside the test's own server.
async fn load(url: &str, arguments: &str) -> Output {
    let mut command = command(&["load", url]);
    command.args(arguments.split_whitespace());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn report(url: &str, arguments: &str) -> Value {
    let ran = load(url, &format!("{arguments} --json -")).await;
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} of {report:#}"))
}

/// Answers as `POST /v1/score` would, and stands still once: from the first to the second time, counted from the first
/// request.
struct Slow {
    begun: Mutex<Option<Instant>>,
    stall: (Duration, Duration),
}

async fn answer(State(slow): State<Arc<Slow>>) -> Json<Value> {
    let begun = *slow.begun.lock().await.get_or_insert_with(Instant::now);
    let (from, to) = slow.stall;
    if (from..to).contains(&begun.elapsed()) {
        tokio::time::sleep_until((begun + to).into()).await;
    }
    Json(json!({"results": [{"id": null}], "models": {}, "usage": {"texts": 1, "tokens": 9},
        "timing_ms": {"tokenize": 0.01, "queue": 0.01, "forward": 0.1, "total": 0.13}}))
}

async fn serve(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    url
}

async fn slow(stall: (Duration, Duration)) -> String {
    let slow = Slow { begun: Mutex::default(), stall };
    let routes = Router::new()
        .route("/health/ready", get(|| async { "ready" }))
        .route("/v1/score", post(answer))
        .with_state(Arc::new(slow));
    serve(routes).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_shows_for_all_who_would_have_waited() {
    // One second of four, with one connection: whoever measures from the moment of sending sees one slow request.
    let url = slow((Duration::from_secs(1), Duration::from_secs(2))).await;
    let report = report(&url, "--rate 40 --duration 4s --warm-up 0 --connections 1 --seed 5").await;
    assert!(number(&report, "/latency_ms/p99") > 800.0, "{report:#}");
    assert!(number(&report, "/latency_ms/p90") > 350.0, "{report:#}");
    assert!(number(&report, "/service_ms/p90") < 300.0, "{report:#}");
    // Nothing was left out: those that were due in the stall were sent as well.
    let due = number(&report, "/requests/due");
    assert!((110.0..210.0).contains(&due), "{due}");
    assert_eq!(number(&report, "/requests/scored"), due);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_is_reported_with_its_stages() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path(), &[]);
    let texts = folder.path().join("texts.jsonl");
    std::fs::write(&texts, "{\"text\": \"the connection is bad.\"}\n{\"text\": \"thanks!\"}\n").unwrap();
    let texts = format!("--texts {}", texts.display());
    let report = report(
        &program.base,
        &format!(
            "--rate 15 --duration 2s --warm-up 0.2 --texts-per-request 2 --tasks sentiment --deadline-ms 60000 {texts}"
        ),
    )
    .await;
    let due = number(&report, "/requests/due");
    assert!((10.0..60.0).contains(&due), "{due}");
    assert_eq!(number(&report, "/requests/scored"), due);
    assert_eq!(number(&report, "/requests/in_time"), due);
    assert!(number(&report, "/throughput/tokens_per_s") > number(&report, "/throughput/texts_per_s"));
    let stages = report["stages"].as_array().unwrap();
    let shares: f64 = stages.iter().map(|s| s["share"].as_f64().unwrap()).sum();
    assert!((0.9..1.1).contains(&shares), "the stages make up the latency: {report:#}");
    assert!(stages.iter().any(|s| s["stage"] == "forward" && s["mean_ms"].as_f64().unwrap() > 0.0));
    assert!(number(&report, "/forward_busy") > 0.0);
    assert!(number(&report, "/latency_ms/p50") <= number(&report, "/latency_ms/p99"));
    assert!(report["limited"]["why"].is_string());

    let ran = load(&program.base, &format!("--rate 50 --requests 20 --warm-up 0 --lane bulk {texts}")).await;
    let table = String::from_utf8(ran.stdout).unwrap();
    assert!(table.contains("20 requests due") && table.contains("20 scored"), "{table}");
    for word in ["p99.9", "tokens/s", "forward", "limit"] {
        assert!(table.contains(word), "{word}: {table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_highest_rate_within_a_target_is_found() {
    // 10 ms each, one after the other: it cannot take a hundred a second.
    let turn = Arc::new(Mutex::new(()));
    let answer = move || async move {
        let _turn = turn.lock().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        Json(json!({"results": [{}], "usage": {"texts": 1, "tokens": 9},
            "timing_ms": {"tokenize": 0.0, "queue": 0.0, "forward": 10.0, "total": 10.0}}))
    };
    let routes =
        Router::new().route("/health/ready", get(|| async { "ready" })).route("/v1/score", post(answer));
    let url = serve(routes).await;
    let found = report(&url, "--find-max --p99-ms 150 --rate 16 --duration 1s --warm-up 0.1").await;
    let rate = number(&found, "/rate_max");
    assert!((16.0..110.0).contains(&rate), "{found:#}");
    assert!(number(&found, "/best/latency_ms/p99") <= 150.0);
    assert!(found["trials"].as_array().unwrap().iter().any(|t| t["passed"] == false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_counted_by_status_and_advice() {
    let refuse = |body: String| async move {
        match serde_json::from_str::<Value>(&body).unwrap()["inputs"][0].as_str().unwrap() {
            "with" => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3")]),
            "without" => (StatusCode::TOO_MANY_REQUESTS, [("x-other", "3")]),
            _ => (StatusCode::OK, [("x-other", "3")]),
        }
    };
    let routes =
        Router::new().route("/health/ready", get(|| async { "ready" })).route("/v1/score", post(refuse));
    let url = serve(routes).await;
    let folder = tempfile::tempdir().unwrap();
    let texts = folder.path().join("texts.txt");
    std::fs::write(&texts, "with\nwithout\nnonsense\nwith\n").unwrap();
    let arguments = format!("--rate 200 --requests 40 --warm-up 0 --texts {}", texts.display());
    let report = report(&url, &arguments).await;
    assert_eq!(report["requests"]["refused"]["429"], json!({"requests": 30, "with_retry_after": 20}));
    assert_eq!(number(&report, "/requests/broken"), 10.0);
    assert!(report["requests"]["broken_example"].as_str().unwrap().contains("POST /v1/score"));
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words() {
    let said = |url: &'static str, arguments: &'static str| async move {
        let ran = load(url, arguments).await;
        assert!(!ran.status.success(), "{arguments}");
        String::from_utf8(ran.stderr).unwrap()
    };
    assert!(said("http://192.0.2.7:80", "").await.contains("--allow-remote"));
    assert!(said("http://127.0.0.1:9", "").await.contains("no server answers"));
    assert!(said("http://127.0.0.1:9", "--rate 0").await.contains("--rate"));
    assert!(said("http://127.0.0.1:9", "--find-max").await.contains("--p99-ms"));
    assert!(said("http://127.0.0.1:9", "--texts /does/not/exist").await.contains("/does/not/exist"));
    assert!(said("http://127.0.0.1:9", "--duration soon").await.contains("30s"));
}

//! The shapes of text-embeddings-inference, and what an operator asks: `/predict`, `/info`, `/v1/models`, `/metrics`.

mod common;

use common::{Server, problem};
use serde_json::{Value, json};

#[tokio::test]
async fn predict_answers_every_form_of_inputs() {
    let server = Server::start().await;
    let predict =
        async |body: Value| server.post_json("/predict", &body).await.json::<Value>().await.unwrap();
    let single = predict(json!({"inputs": "the connection is bad"})).await;
    let ranks: Vec<f64> = single.as_array().unwrap().iter().map(|p| p["score"].as_f64().unwrap()).collect();
    assert_eq!(ranks.len(), 3);
    assert!(ranks.is_sorted_by(|a, b| a >= b) && (ranks.iter().sum::<f64>() - 1.0).abs() < 1e-3);
    let batch = predict(json!({"inputs": [["the connection is bad"], ["thanks!"]], "truncate": true})).await;
    assert_eq!(batch.as_array().unwrap().len(), 2);
    assert_eq!(batch[0], single);
    assert_eq!(predict(json!({"inputs": ["the connection is bad"]})).await, single);
    // Logits: the test pack divides them by 1.5 before the softmax.
    let raw = predict(json!({"inputs": "the connection is bad", "raw_scores": true})).await;
    let logit = |i: usize| raw[i]["score"].as_f64().unwrap() / 1.5;
    let sum: f64 = (0..3).map(|i| logit(i).exp()).sum();
    assert!((logit(0).exp() / sum - ranks[0]).abs() < 1e-4 && raw[0]["label"] == single[0]["label"]);
    let pair = predict(json!({"inputs": [["the connection", "is bad"]]})).await;
    assert_ne!(pair[0], predict(json!({"inputs": [["is bad", "the connection"]]})).await[0]);

    let three = server.post_json("/predict", &json!({"inputs": ["a", "b", "c"]})).await;
    let three = problem(three, 422, "invalid-input").await;
    assert_eq!(three["error_type"], "Validation");
    problem(server.post_json("/predict", &json!({"inputs": []})).await, 422, "invalid-body").await;
    problem(server.post_json("/predict", &json!({"inputs": 3})).await, 422, "invalid-body").await;
    problem(server.post_json("/predict", &json!({"inputs": " "})).await, 422, "invalid-input").await;
}

#[tokio::test]
async fn what_runs_is_told_to_clients_and_operators() {
    let server = Server::start().await;
    let info = server.json("/info").await;
    assert_eq!(info["model_id"], "random");
    assert_eq!(info["model_type"]["classifier"]["id2label"]["0"], "negative");
    assert!(info["max_batch_tokens"].as_u64().unwrap() > 0 && info["device"] == "cpu");
    let models = server.json("/v1/models").await;
    let slots: Vec<_> =
        models["items"].as_array().unwrap().iter().map(|m| m["slot"].as_str().unwrap()).collect();
    assert_eq!(slots, ["emotion", "intent", "keyphrases", "sentiment"]);
    assert_eq!(server.get("/health").await.status(), 200);
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let server = Server::start().await;
    server.get("/v1/records/contact/7/insights").await;
    server.get("/no/such/route").await;
    let text = server.get("/metrics").await.text().await.unwrap();
    let route = "route=\"/v1/records/{module}/{id}/insights\"";
    assert!(
        text.lines().any(|l| l.starts_with("hearken_http_requests_total{") && l.contains(route)),
        "{text}"
    );
    assert!(text.lines().any(|l| l.starts_with("hearken_http_request_seconds_bucket{") && l.contains(route)));
    assert!(text.contains("route=\"unmatched\"") && !text.contains("/no/such"));
    assert!(text.contains("hearken_events_total") && text.contains("hearken_texts_total"));
}

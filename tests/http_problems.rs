//! What a caller is told when a request does not fit: every kind of bad request gets a problem of RFC 9457 that says
//! where and why, and the server goes on as if nothing had been. Not covered here: keys (`http_keys.rs`), events one by
//! one (`http_events.rs`).

mod common;

use common::{Server, check_problem, problem};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn bad_score_requests_are_explained_and_leave_the_server_healthy() {
    let server = Server::start_with("[limits]\nscore_inputs_max = 3\nbody_bytes_max = 20000").await;
    let json = "application/json";
    let cases: &[(&str, Vec<u8>, u16, &str, &str)] = &[
        (json, b"{\"inputs\": [\"a\",\n  }".to_vec(), 400, "malformed-json", "line 2 column 3"),
        (json, b"".to_vec(), 400, "malformed-json", "ends too early"),
        (json, b"{\"inputs\": [\"\xff\"]}".to_vec(), 400, "malformed-json", "byte 13"),
        (json, b"{\"inputs\": [], \"x\\ud800\": 1}".to_vec(), 400, "malformed-json", "both halves"),
        (json, b"[]".to_vec(), 422, "invalid-body", ""),
        (json, b"{}".to_vec(), 422, "invalid-body", "inputs"),
        (json, b"{\"inputs\": \"one text\"}".to_vec(), 422, "invalid-body", "/inputs"),
        (json, b"{\"inputs\": []}".to_vec(), 422, "invalid-body", "at least one"),
        (json, b"{\"inputs\": [1,2,3,4]}".to_vec(), 413, "too-large", "score_inputs_max"),
        (json, b"{\"inputs\": [\"a\"], \"tasks\": [\"mood\"]}".to_vec(), 422, "invalid-body", "/tasks/0"),
        (json, b"{\"inputs\": [\"a\"], \"tasks\": []}".to_vec(), 422, "invalid-body", "/tasks"),
        (
            json,
            b"{\"inputs\": [\"a\"], \"options\": {\"lane\": 1}}".to_vec(),
            422,
            "invalid-body",
            "/options/lane",
        ),
        (json, b"{\"inputs\": [\"a\"], \"task\": []}".to_vec(), 422, "invalid-body", "task"),
        (json, vec![b' '; 20001], 413, "too-large", "body_bytes_max"),
        ("text/plain", b"{\"inputs\": [\"a\"]}".to_vec(), 415, "unsupported-media-type", "application/json"),
        (
            "application/x-www-form-urlencoded",
            b"a".to_vec(),
            415,
            "unsupported-media-type",
            "application/json",
        ),
    ];
    for (content_type, body, status, kind, says) in cases {
        let response = server.post("/v1/score", content_type, body.clone()).await;
        let found = problem(response, *status, kind).await;
        assert!(found.to_string().contains(says), "{found} does not say {says}");
        if *status == 422 {
            assert!(found["errors"][0]["pointer"].is_string(), "{found}");
        }
    }
    let good = server.post_json("/v1/score", &json!({"inputs": ["still here"]})).await;
    assert_eq!(good.status(), 200);
    assert_eq!(server.get("/health/ready").await.status(), 200);
}

#[tokio::test]
async fn one_bad_input_never_fails_the_others() {
    let server = Server::start_with("[limits]\ntext_bytes_max = 100000").await;
    let long = "x".repeat(10 << 20);
    let body = format!(
        r#"{{"inputs": ["fine", 7, {{"id": "b", "text": 3}}, {{"id": "c"}}, {{"id": "d", "text": "  "}},
            {{"id": "e", "text": "\ud800"}}, {{"id": "f", "text": "{long}"}}, null, {{"id": 9, "text": "fine too"}}]}}"#
    );
    let response = server.post("/v1/score", "application/json", body).await;
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 9);
    let ids: Vec<&Value> = results.iter().map(|r| &r["id"]).collect();
    assert_eq!(json!(ids), json!([null, null, "b", "c", "d", "e", "f", null, 9]));
    for good in [0, 8] {
        assert!(results[good]["error"].is_null() && results[good]["sentiment"]["label"].is_string());
    }
    for (bad, pointer, says) in [
        (1, "/inputs/1", "a number"),
        (2, "/inputs/2/text", "a number"),
        (3, "/inputs/3/text", "no `text`"),
        (4, "/inputs/4/text", "empty"),
        (5, "/inputs/5/text", "surrogate"),
        (6, "/inputs/6/text", "text_bytes_max"),
        (7, "/inputs/7", "null"),
    ] {
        let error = &results[bad]["error"];
        check_problem(error, 422, "invalid-input");
        assert_eq!(error["errors"][0]["pointer"], pointer);
        assert!(error["detail"].as_str().unwrap().contains(says), "{error}");
    }
    assert_eq!(answer["usage"]["texts"], 9);
}

#[tokio::test]
async fn a_request_with_nothing_but_bad_inputs_is_answered_like_any_other() {
    let server = Server::start().await;
    let answer: Value =
        server.post_json("/v1/score", &json!({"inputs": [1, ""]})).await.json().await.unwrap();
    for result in answer["results"].as_array().unwrap() {
        check_problem(&result["error"], 422, "invalid-input");
    }
}

#[tokio::test]
async fn routes_and_methods_that_do_not_exist_are_problems_too() {
    let server = Server::start().await;
    problem(server.get("/v1/nothing").await, 404, "not-found").await;
    let response = server.request(Method::DELETE, "/v1/score").send().await.unwrap();
    assert_eq!(response.headers()["allow"], "POST");
    problem(response, 405, "method-not-allowed").await;
    problem(server.get("/v1/records/contact/%ff/insights").await, 400, "bad-request").await;
    problem(server.get("/v1/records?limit=many").await, 422, "invalid-query").await;
    problem(server.get("/v1/records?limit=0").await, 422, "invalid-query").await;
    problem(server.get("/v1/records?labels=x").await, 422, "invalid-query").await;
}

#[tokio::test]
async fn work_that_cannot_wait_any_longer_is_given_up_with_advice() {
    let server = Server::start_with("[limits]\nqueue_tokens_max = 50").await;
    let late = json!({"inputs": ["text"], "options": {"deadline_ms": 0}});
    problem(server.post_json("/v1/score", &late).await, 503, "deadline-exceeded").await;
    let much = json!({"inputs": vec!["the connection quality is bad again"; 20]});
    let asked = (0..12).map(|_| server.post_json("/v1/score", &much));
    let mut refused = 0;
    for response in futures::future::join_all(asked).await {
        if response.status() != 200 {
            problem(response, 429, "overloaded").await;
            refused += 1;
        }
    }
    assert!((1..12).contains(&refused), "{refused} of 12 refused");
    assert_eq!(server.post_json("/v1/score", &json!({"inputs": ["good"]})).await.status(), 200);
}

#[tokio::test]
async fn a_request_is_traced_by_its_id() {
    let server = Server::start().await;
    let response =
        server.request(Method::GET, "/health").header("x-request-id", "mine-1").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    let response =
        server.request(Method::GET, "/health").header("accept-encoding", "gzip").send().await.unwrap();
    assert!(!response.headers().contains_key("content-encoding"));
    let schema =
        server.request(Method::GET, "/openapi.json").header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(schema.headers()["content-encoding"], "gzip");
}

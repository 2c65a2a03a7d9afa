//! API keys: what a key may do, whose records it sees, and how a browser signs in.

mod common;

use common::{Server, mail, problem};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const KEYS: &str = r#"
    [[keys]]
    key = "acme-all"
    tenant = "acme"
    scopes = ["admin"]
    [[keys]]
    key = "acme-feed"
    tenant = "acme"
    scopes = ["ingest", "score"]
    [[keys]]
    key = "acme-crm"
    tenant = "acme"
    scopes = ["insights:read"]
    [[keys]]
    key = "other"
    tenant = "other"
    scopes = ["ingest", "insights:read"]
"#;

async fn call(server: &Server, key: &str, method: Method, path: &str, body: Option<Value>) -> Response {
    let mut request = server.request(method, path).bearer_auth(key);
    if let Some(body) = body {
        request = request.json(&body);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_nothing_else() {
    let server = Server::start_with(KEYS).await;
    let texts = json!({"inputs": ["thanks!"]});
    let insights = "/v1/records/contact/1/insights";
    let event = mail("a", "1", "thanks!");
    let taken =
        call(&server, "acme-feed", Method::POST, "/v1/events?wait=applied", Some(event.clone())).await;
    assert_eq!(taken.status(), 202);
    assert_eq!(
        call(&server, "acme-feed", Method::POST, "/v1/score", Some(texts.clone())).await.status(),
        200
    );
    assert_eq!(call(&server, "acme-crm", Method::GET, insights, None).await.status(), 200);
    assert_eq!(call(&server, "acme-all", Method::GET, insights, None).await.status(), 200);
    assert_eq!(call(&server, "acme-all", Method::POST, "/v1/score", Some(texts.clone())).await.status(), 200);

    let refused = call(&server, "acme-feed", Method::GET, insights, None).await;
    let refused = problem(refused, 403, "forbidden").await;
    assert!(refused["detail"].as_str().unwrap().contains("insights:read"));
    for (key, method, path, body) in [
        ("acme-crm", Method::POST, "/v1/score", Some(texts)),
        ("acme-crm", Method::POST, "/v1/events", Some(event)),
        ("acme-crm", Method::DELETE, "/v1/records/contact/1", None),
        ("acme-feed", Method::GET, "/v1/records", None),
        ("acme-crm", Method::PUT, "/v1/settings/modules", Some(json!({"modules": []}))),
    ] {
        problem(call(&server, key, method, path, body).await, 403, "forbidden").await;
    }
}

#[tokio::test]
async fn without_a_known_key_nothing_is_told() {
    let server = Server::start_with(KEYS).await;
    let refused = server.get("/v1/records").await;
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    problem(refused, 401, "unauthorized").await;
    problem(call(&server, "guess", Method::GET, "/v1/records", None).await, 401, "unauthorized").await;
    // Before anything of the body is read:
    let refused = server.post("/v1/events", "text/plain", "x").await;
    problem(refused, 401, "unauthorized").await;
    for open in ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"] {
        assert_eq!(server.get(open).await.status(), 200, "{open}");
    }
}

#[tokio::test]
async fn records_of_one_tenant_do_not_exist_for_another() {
    let server = Server::start_with(KEYS).await;
    let wait = "/v1/events?wait=applied";
    call(&server, "acme-feed", Method::POST, wait, Some(mail("a", "1", "the connection is bad"))).await;
    let insights = "/v1/records/contact/1/insights";
    problem(call(&server, "other", Method::GET, insights, None).await, 404, "unknown-record").await;
    let list: Value = call(&server, "other", Method::GET, "/v1/records", None).await.json().await.unwrap();
    assert_eq!(list["items"], json!([]));
    // The same name of an event is another event there.
    let answer = call(&server, "other", Method::POST, wait, Some(mail("a", "1", "thanks!"))).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["accepted"], 1);
    call(&server, "other", Method::DELETE, "/v1/records/contact/1", None).await;
    assert_eq!(call(&server, "acme-crm", Method::GET, insights, None).await.status(), 200);
}

#[tokio::test]
async fn a_browser_is_asked_to_sign_in_and_may_read() {
    let server = Server::start_with(KEYS).await;
    let ask = server.request(Method::GET, "/").header("accept", "text/html").send().await.unwrap();
    assert_eq!(ask.status(), 401);
    assert!(ask.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic"));
    let signed = server.request(Method::GET, "/").basic_auth("me", Some("acme-crm")).send().await.unwrap();
    assert_eq!(signed.status(), 200);
    let written = server.request(Method::POST, "/v1/events").basic_auth("me", Some("acme-feed"));
    problem(written.json(&mail("a", "1", "x")).send().await.unwrap(), 401, "unauthorized").await;
}

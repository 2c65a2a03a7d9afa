//! Replays over HTTP: begun, followed, compared, switched to, refused. What they do to documents is in
//! `pipeline_replay.rs`.

mod common;

use std::time::Duration;

use common::{Server, mail, problem};
use reqwest::Method;
use serde_json::{Value, json};

async fn until(server: &Server, place: &str, state: &str) -> Value {
    for _ in 0..1000 {
        let found = server.json(place).await;
        if found["state"] == state {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{place} does not become {state}");
}

#[tokio::test]
async fn rules_are_tried_compared_and_switched_to() {
    let server = Server::start().await;
    server.apply(&[mail("a", "1", "the connection is bad"), mail("b", "1", "the quality is bad")]).await;
    let order = json!({"settings": {"competitors": {"competitors": [{"name": "Airo"}]}, "labels": {"last_negatives": 9}}});
    let begun = server.post_json("/v1/replays", &order).await;
    assert_eq!(begun.status(), 202);
    let place = begun.headers()["location"].to_str().unwrap().to_owned();
    let ready = until(&server, &place, "ready").await;
    assert_eq!(ready["settings"], json!(["competitors", "labels"]));
    assert_eq!((&ready["model"], &ready["progress"]["records_compared"]), (&Value::Null, &json!(1)));
    assert_eq!(ready["diff"]["records_counts_changed"], 0);
    let all = server.json(&format!("{place}/diff?changed=false")).await;
    assert_eq!(all["items"][0]["record"]["id"], "1");
    assert_eq!(all["items"][0]["sentiment_before"], all["items"][0]["sentiment_after"]);
    let open = problem(server.post_json("/v1/replays", &order).await, 409, "conflict").await;
    assert!(open["detail"].as_str().unwrap().contains("delete it first"));
    assert_eq!(server.json("/v1/settings/labels").await["version"], 0);

    let switched = server.request(Method::POST, &format!("{place}/switch")).send().await.unwrap();
    assert_eq!(switched.status(), 200);
    assert_eq!(switched.json::<Value>().await.unwrap()["state"], "switched");
    assert_eq!(server.json("/v1/settings/labels").await["last_negatives"], 9);
    assert_eq!(server.json("/v1/records/contact/1/insights").await["meta"]["rules"], "labels@1");
    let again = server.request(Method::POST, &format!("{place}/switch")).send().await.unwrap();
    problem(again, 409, "conflict").await;
    let gone = server.request(Method::DELETE, &place).send().await.unwrap();
    problem(gone, 409, "conflict").await;
    assert_eq!(server.json("/v1/replays").await["items"][0]["state"], "switched");
}

#[tokio::test]
async fn bad_orders_are_refused_and_failures_are_told() {
    let server = Server::start().await;
    for (order, pointer) in [
        (json!({}), ""),
        (json!({"settings": {"labels": {"window_days": 0}}}), "/settings/labels/window_days"),
        (json!({"model": {"folder": "x"}}), "/model/folder"),
    ] {
        let refused = problem(server.post_json("/v1/replays", &order).await, 422, "invalid-body").await;
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{order}");
    }
    let unknown = json!({"settings": {"weather": {}}});
    problem(server.post_json("/v1/replays", &unknown).await, 404, "unknown-setting").await;
    problem(server.get("/v1/replays/7").await, 404, "unknown-replay").await;
    problem(server.get("/v1/replays/x/diff").await, 404, "unknown-replay").await;
    let begun = server.post_json("/v1/replays", &json!({"model": {"path": "/nowhere"}})).await;
    let place = begun.headers()["location"].to_str().unwrap().to_owned();
    let failed = until(&server, &place, "failed").await;
    assert!(failed["error"].as_str().unwrap().contains("/nowhere"));
    let deleted = server.request(Method::DELETE, &place).send().await.unwrap();
    assert_eq!(deleted.json::<Value>().await.unwrap()["state"], "cancelled");
}

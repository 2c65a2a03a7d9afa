//! What is served of a record: the document and its tag, lists, the interactions behind a number, the stream of
//! revisions, export, erasure, and settings that change it. What a document says is tested with the documents.

mod common;

use std::time::Duration;

use common::{Server, mail, problem};
use futures::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};

#[tokio::test]
async fn a_document_is_sent_again_only_when_it_has_changed() {
    let server = Server::start().await;
    server.apply(&[mail("a", "1", "the connection is bad")]).await;
    let path = "/v1/records/contact/1/insights";
    let first = server.get(path).await;
    assert_eq!(first.headers()["content-type"], "application/json");
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert!(tag.starts_with('"'));
    let again = |tag: String| server.request(Method::GET, path).header("if-none-match", tag).send();
    let same = again(tag.clone()).await.unwrap();
    assert_eq!((same.status().as_u16(), same.headers()["etag"].to_str().unwrap()), (304, tag.as_str()));
    assert!(same.bytes().await.unwrap().is_empty());
    assert_eq!(again(format!("\"other\", W/{tag}")).await.unwrap().status(), 304);

    server.apply(&[mail("b", "1", "thanks!")]).await;
    let changed = again(tag.clone()).await.unwrap();
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.headers()["etag"], tag.as_str());
    let document: Value = changed.json().await.unwrap();
    assert_eq!(document["highlights"]["total"], 2);
}

#[tokio::test]
async fn a_view_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    server.apply(&[mail("a", "1", "again?")]).await;
    for good in ["?window=all", "?window=7d", "?window=2020-01-01/2020-02-01", "?as_of=2030-01-01T00:00:00Z"]
    {
        assert_eq!(
            server.get(&format!("/v1/records/contact/1/insights{good}")).await.status(),
            200,
            "{good}"
        );
    }
    for bad in ["?window=soon", "?window=0d", "?as_of=today", "?windows=all"] {
        problem(server.get(&format!("/v1/records/contact/1/insights{bad}")).await, 422, "invalid-query")
            .await;
    }
    problem(server.get("/v1/records/contact/2/insights").await, 404, "unknown-record").await;
}

#[tokio::test]
async fn ids_may_hold_any_character() {
    let server = Server::start().await;
    server.apply(&[mail("a", "ü/7 ?", "thanks!")]).await;
    let document = server.json("/v1/records/contact/%C3%BC%2F7%20%3F/insights").await;
    assert_eq!(document["record"]["id"], "ü/7 ?");
}

#[tokio::test]
async fn records_are_listed_in_parts() {
    let server = Server::start_with("[limits]\npage_items_max = 2").await;
    server.apply(&["1", "2", "3"].map(|id| mail(id, id, "the connection is bad"))).await;
    let first = server.json("/v1/records?module=contact&limit=2").await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["items"][0]["interactions"], 1);
    let cursor = first["next"].as_str().unwrap();
    let second = server.json(&format!("/v1/records?module=contact&limit=2&cursor={cursor}")).await;
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["next"], Value::Null);
    assert_eq!(server.json("/v1/records?q=3").await["items"][0]["record"]["id"], "3");
    assert_eq!(server.json("/v1/records?module=deal").await["items"], json!([]));
    problem(server.get("/v1/records?limit=3").await, 422, "invalid-query").await;
    problem(server.get("/v1/records?cursor=made-up").await, 422, "invalid-query").await;
}

#[tokio::test]
async fn the_interactions_behind_a_number_are_shown() {
    let server = Server::start().await;
    server.apply(&[mail("a", "1", "the connection is bad"), mail("b", "1", "thanks!")]).await;
    let all = server.json("/v1/records/contact/1/interactions").await;
    let items = all["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert!(items.iter().any(|i| i["id"] == "a" && i["text"] == "the connection is bad"));
    let label = items[0]["scores"]["sentiment"]["label"].as_str().unwrap();
    let evidence = server.json(&format!("/v1/records/contact/1/evidence?panel=sentiment&key={label}")).await;
    assert!(evidence["items"].as_array().unwrap().iter().any(|i| i["id"] == items[0]["id"]));
    problem(server.get("/v1/records/contact/1/evidence").await, 422, "invalid-query").await;
    problem(server.get("/v1/records/contact/1/evidence?panel=nonsense").await, 422, "invalid-query").await;
    problem(server.get("/v1/records/contact/2/evidence?panel=sentiment").await, 404, "unknown-record").await;
    problem(server.get("/v1/records/contact/2/interactions").await, 404, "unknown-record").await;
}

#[tokio::test]
async fn what_is_held_can_be_taken_away_and_erased() {
    let server = Server::start().await;
    server.apply(&[mail("a", "1", "the connection is bad"), mail("b", "1", "thanks!")]).await;
    let export = server.get("/v1/records/contact/1/export").await;
    assert_eq!(export.headers()["content-type"], "application/x-ndjson");
    let text = export.text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.len() >= 2 && text.contains("the connection is bad"));

    let erased = server.request(Method::DELETE, "/v1/records/contact/1").send().await.unwrap();
    assert_eq!(erased.status(), 200);
    let receipt: Value = erased.json().await.unwrap();
    assert_eq!(receipt["erased_interactions"], 2);
    assert!(!receipt["receipt"].as_str().unwrap().is_empty());
    problem(server.get("/v1/records/contact/1/insights").await, 404, "unknown-record").await;
    problem(server.get("/v1/records/contact/1/export").await, 404, "unknown-record").await;
}

/// The next event of a stream, as its lines.
async fn next_event(
    stream: &mut (impl StreamExt<Item = reqwest::Result<axum::body::Bytes>> + Unpin),
) -> String {
    let mut text = String::new();
    while !text.contains("\n\n") {
        let chunk = tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
    text
}

fn event_document(event: &str) -> Value {
    assert!(event.contains("event: revision\n"), "{event}");
    let data = event.lines().find_map(|l| l.strip_prefix("data: ")).unwrap();
    serde_json::from_str(data).unwrap()
}

#[tokio::test]
async fn a_stream_tells_of_every_new_revision_and_ends_at_shutdown() {
    let mut server = Server::start().await;
    server.apply(&[mail("a", "1", "the connection is bad")]).await;
    let path = "/v1/records/contact/1/insights/stream";
    let open = |response: Response| {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.bytes_stream()
    };
    let mut stream = open(server.get(path).await);
    server.apply(&[mail("b", "1", "thanks!")]).await;
    let document = event_document(&next_event(&mut stream).await);
    assert_eq!(document["highlights"]["total"], 2);

    let missed = server.request(Method::GET, path).header("last-event-id", "0").send().await.unwrap();
    let missed = next_event(&mut open(missed)).await;
    assert_eq!(event_document(&missed), document);
    assert!(missed.contains(&format!("id: {}\n", document["meta"]["revision"])));

    tokio::time::timeout(Duration::from_secs(10), server.stop())
        .await
        .expect("open streams do not hold it up");
}

#[tokio::test]
async fn settings_have_versions_and_change_only_from_the_one_that_was_read() {
    let server = Server::start().await;
    let path = "/v1/settings/competitors";
    let start = server.get(path).await;
    let tag = start.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(start.json::<Value>().await.unwrap(), json!({"version": 0, "competitors": []}));
    let put = |body: Value, tag: &str| {
        let request = server.request(Method::PUT, path).json(&body);
        if tag.is_empty() { request } else { request.header("if-match", tag) }.send()
    };
    let body = json!({"version": 0, "competitors": [{"name": "Airo Networks", "aliases": ["艾罗网络"]}]});
    let written: Value = put(body.clone(), &tag).await.unwrap().json().await.unwrap();
    assert_eq!((&written["version"], &written["competitors"]), (&json!(1), &body["competitors"]));
    problem(put(body.clone(), &tag).await.unwrap(), 412, "version-conflict").await;
    let wrong = put(json!({"competitors": [{"name": 7}]}), "").await.unwrap();
    let wrong = problem(wrong, 422, "invalid-setting").await;
    assert_eq!(wrong["errors"][0]["pointer"], "/competitors/0/name");
    assert_eq!(server.json(path).await["version"], 1);
    problem(server.get("/v1/settings/weather").await, 404, "unknown-setting").await;
}

#[tokio::test]
async fn a_module_that_is_not_enabled_shows_nothing() {
    let server = Server::start().await;
    server.apply(&[mail("a", "1", "the connection is bad")]).await;
    let body = json!({"modules": [{"name": "contact", "enabled": false}]});
    let put = server.request(Method::PUT, "/v1/settings/modules").json(&body).send().await.unwrap();
    assert_eq!(put.status(), 200);
    for path in ["insights", "interactions", "export", "insights/stream", "evidence?panel=sentiment"] {
        let refused = server.get(&format!("/v1/records/contact/1/{path}")).await;
        let refused = problem(refused, 403, "module-disabled").await;
        assert_eq!(refused["meta"], json!({"eligible": false, "module_enabled": false}));
    }
}

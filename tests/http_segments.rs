//! Segments over HTTP: kept exact under retraction, erasure and settings, and written as CSV; lists of records as files.
//! What a segment's numbers mean is in `insight_segments.rs`.

mod common;

use common::{Server, mail, problem};
use serde_json::{Value, json};

fn about(id: &str, contact: &str, channel: &str, text: &str) -> Value {
    let mut event = mail(id, contact, text);
    event["data"]["channel"] = json!(channel);
    event["data"]["product"] = json!("fibre");
    event
}

/// Responses by value of a segment.
async fn responses(server: &Server, by: &str) -> Vec<(String, u64)> {
    let report = server.json(&format!("/v1/segments/{by}?window=all")).await;
    assert_eq!(report["pending"], 0);
    let rows = report["segments"].as_array().unwrap().iter();
    rows.map(|r| (r["value"].as_str().unwrap().to_owned(), r["responses"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn segments_are_exact_after_retraction_and_erasure() {
    let server = Server::start().await;
    server
        .apply(&[
            about("a", "1", "email", "the connection is bad"),
            about("b", "1", "chat", "thanks!"),
            about("c", "2", "email", "the connection is bad"),
            about("d", "3", "email", "the quality"),
        ])
        .await;
    let is = |pairs: &[(&str, u64)]| pairs.iter().map(|(v, n)| ((*v).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(responses(&server, "channel").await, is(&[("email", 3), ("chat", 1)]));
    assert_eq!(responses(&server, "module").await, is(&[("contact", 4)]));
    let retraction = json!({"specversion": "1.0", "id": "r", "source": "test", "type": "voc.interaction.retracted.v1",
        "data": {"interaction": {"source": "test", "id": "b"}}});
    server.apply(&[retraction]).await;
    assert_eq!(responses(&server, "channel").await, is(&[("email", 3)]));
    let erased = server.request(reqwest::Method::DELETE, "/v1/records/contact/2").send().await.unwrap();
    assert_eq!(erased.status(), 200);
    assert_eq!(responses(&server, "product").await, is(&[("fibre", 2)]));
    let moved = json!({"specversion": "1.0", "id": "m", "source": "test", "type": "voc.record.merged.v1",
        "data": {"from": {"module": "contact", "id": "3"}, "into": {"module": "contact", "id": "1"}}});
    server.apply(&[moved]).await;
    let report = server.json("/v1/segments/channel?window=all").await;
    assert_eq!((&report["records_read"], &report["segments"][0]["records"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn what_cannot_be_cut_is_refused_and_tables_come_as_csv() {
    let server = Server::start().await;
    server
        .apply(&[about("a", "=1", "email", "the connection is bad"), about("b", "2", "chat", "thanks!")])
        .await;
    problem(server.get("/v1/segments/weather").await, 422, "invalid-query").await;
    problem(server.get("/v1/segments/channel?as_of=2026-01-01T00:00:00Z").await, 422, "invalid-query").await;
    problem(server.get("/v1/segments/channel?format=jsonl").await, 422, "invalid-query").await;
    for part in ["segments", "series", "emerging", "drivers", "friction"] {
        let response = server.get(&format!("/v1/segments/channel?format=csv&part={part}")).await;
        assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
        let text = response.text().await.unwrap();
        assert!(text.starts_with("by,value,"), "{part}: {text}");
        if part == "segments" {
            assert_eq!(text.lines().count(), 3, "{text}");
        }
    }
    // The whole list, over several pages.
    let list = server.get("/v1/records?format=csv").await.text().await.unwrap();
    assert!(list.starts_with("module,id,labels,interactions,net_sentiment,last_activity_at\r\n"));
    assert!(list.contains("contact,'=1,"), "{list}");
    let lines = server.get("/v1/records?format=jsonl").await.text().await.unwrap();
    let records: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["record"]["module"], "contact");
}

#[tokio::test]
async fn lists_are_filtered_and_files_hold_every_page() {
    let server = Server::start_with("[limits]\npage_items_max = 2").await;
    let competitors = json!({"competitors": [{"name": "Airo Networks", "aliases": ["Airo"]}]});
    let put = server.request(reqwest::Method::PUT, "/v1/settings/competitors").json(&competitors);
    assert_eq!(put.send().await.unwrap().status(), 200);
    let begun = jiff::Timestamp::now();
    let events: Vec<Value> =
        (0..5).map(|i| mail(&format!("e{i}"), &i.to_string(), "the connection")).collect();
    server.apply(&events).await;
    let file = server.get("/v1/records?format=csv").await.text().await.unwrap();
    assert_eq!(file.lines().count(), 6, "a header and five records: {file}");
    let page = server.get("/v1/records?format=csv&limit=2").await.text().await.unwrap();
    assert_eq!(page.lines().count(), 3);
    server.apply(&[mail("x", "2", "Airo is better")]).await;
    let naming = server.json("/v1/records?competitor=Airo%20Networks").await;
    assert_eq!(naming["items"].as_array().unwrap().len(), 1);
    assert_eq!(naming["items"][0]["record"]["id"], "2");
    let since = |time: jiff::Timestamp| format!("/v1/records?updated_since={time}&format=jsonl");
    let count = async |path: String| server.get(&path).await.text().await.unwrap().lines().count();
    assert_eq!(count(since(begun)).await, 5);
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    assert_eq!(count(since(later)).await, 0);
    let mut moods = 0;
    for mood in ["negative", "neutral", "positive"] {
        moods += count(format!("/v1/records?sentiment={mood}&format=jsonl")).await;
    }
    assert_eq!(moods, 5, "every record has one mood");
    problem(server.get("/v1/records?sentiment=sad").await, 422, "invalid-query").await;
    problem(server.get("/v1/records?updated_since=monday").await, 422, "invalid-query").await;
}

#[tokio::test]
async fn assumptions_are_settings_and_patterns_answer_them() {
    let server = Server::start().await;
    let body = json!({"assumptions": [{"id": "fine", "statement": "All is well.", "measure": "negative_share",
        "expect": "below", "than": 0.5}]});
    let put = async |body: &Value| {
        server.request(reqwest::Method::PUT, "/v1/settings/assumptions").json(body).send().await.unwrap()
    };
    assert_eq!(put(&body).await.status(), 200);
    let wrong = json!({"assumptions": [{"id": "x", "statement": "y", "measure": "negative_share", "expect": "below", "than": 7}]});
    let refused = problem(put(&wrong).await, 422, "invalid-setting").await;
    assert_eq!(refused["errors"][0]["pointer"], "/assumptions/0/than");
    server.apply(&[mail("a", "1", "the connection is bad")]).await;
    let found = server.json("/v1/segments/channel/patterns?window=all").await;
    assert_eq!(found["patterns"][0]["verdict"], "insufficient_evidence");
    let csv = server.get("/v1/segments/channel/patterns?format=csv").await.text().await.unwrap();
    assert!(
        csv.starts_with("assumption,statement,value,verdict") && csv.contains("fine,All is well.,email"),
        "{csv}"
    );
}

#[tokio::test]
async fn evidence_follows_the_view_and_names_every_kind_of_event() {
    let server = Server::start().await;
    let mut old = mail("old", "1", "the connection is bad");
    old["time"] = json!("2020-06-01T23:30:00Z");
    let seen = json!({"specversion": "1.0", "id": "saw", "source": "web", "type": "voc.behaviour.observed.v1",
        "data": {"record": {"module": "contact", "id": "1"}, "kind": "cart_abandoned", "page": "/cart"}});
    let left = json!({"specversion": "1.0", "id": "left", "source": "crm", "type": "voc.customer.churned.v1",
        "data": {"record": {"module": "contact", "id": "1"}, "reason": "price"}});
    server.apply(&[old, mail("new", "1", "the quality"), seen, left]).await;
    let base = "/v1/records/contact/1";
    let ids = async |path: &str| -> Vec<String> {
        let body = server.json(&format!("{base}/{path}")).await;
        body["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("evidence?panel=highlights").await, ["new"]);
    assert_eq!(ids("evidence?panel=highlights&window=all").await, ["new", "old"]);
    assert_eq!(ids("evidence?panel=highlights&window=2020-06-02/2020-06-02&tz=Asia/Tokyo").await, ["old"]);
    assert_eq!(ids("evidence?panel=highlights&window=all&as_of=2021-01-01T00:00:00Z").await, ["old"]);
    assert_eq!(ids("evidence?panel=labels&key=churned_customer").await, ["left"]);
    assert_eq!(ids("interactions?window=2020-06-01/2020-06-01").await, ["old"]);
    let all = server.json(&format!("{base}/interactions")).await;
    let of = |id: &str| all["items"].as_array().unwrap().iter().find(|i| i["id"] == id).unwrap().clone();
    assert_eq!(of("left")["type"], "voc.customer.churned.v1");
    assert_eq!(
        (of("left")["reason"].clone(), of("saw")["behaviour"]["page"].clone()),
        (json!("price"), json!("/cart"))
    );
    assert_eq!(ids("interactions?id=saw").await, ["saw"]);
    let document = server.json(&format!("{base}/insights?window=2020-06-02/2020-06-02&tz=Asia/Tokyo")).await;
    assert_eq!(
        (&document["highlights"]["total"], &document["meta"]["window"]["tz"]),
        (&json!(1), &json!("Asia/Tokyo"))
    );
    problem(server.get(&format!("{base}/insights?tz=Mars/Olympus")).await, 422, "invalid-query").await;
    problem(server.get(&format!("{base}/evidence?panel=sentiment&window=soon")).await, 422, "invalid-query")
        .await;
}

#[tokio::test]
async fn keywords_go_on_after_the_document() {
    let server = Server::start().await;
    server.apply(&[mail("a", "1", "the connection is bad. the quality is bad.")]).await;
    let all = server.json("/v1/records/contact/1/keywords").await;
    let total = all["total"].as_u64().unwrap();
    assert_eq!(all["items"].as_array().unwrap().len() as u64, total);
    let mut seen = 0;
    let mut cursor = String::new();
    loop {
        let page = server.json(&format!("/v1/records/contact/1/keywords?limit=1{cursor}")).await;
        seen += page["items"].as_array().unwrap().len() as u64;
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, total);
    problem(server.get("/v1/records/contact/1/keywords?cursor=x").await, 422, "invalid-query").await;
}

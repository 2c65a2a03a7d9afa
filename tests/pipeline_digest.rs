//! The daily digest: once for each team and day, at the tenant's hour, with nobody's name in it.

mod pipeline_common;

use std::time::Duration;

use hearken::{
    pipeline::{AlertQuery, Pipeline},
    store::{NewAlert, WebhookRow},
};
use pipeline_common::*;
use serde_json::{Value, json};

/// All digests that were written.
async fn digests(pipeline: &Pipeline) -> Vec<Value> {
    let query = AlertQuery { rule: Some("digest".into()), ..AlertQuery::default() };
    let page = pipeline.alerts(&TENANT(), &query).await.unwrap();
    page.items.iter().rev().map(|body| serde_json::from_str(body).unwrap()).collect()
}

async fn wait_for(pipeline: &Pipeline, n: usize) -> Vec<Value> {
    for _ in 0..500 {
        let found = digests(pipeline).await;
        if found.len() >= n {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} digests, not {n}", digests(pipeline).await.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn c16_each_team_hears_of_yesterday_once_at_its_hour() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(folder.path());
    // Noon in UTC is 21:00 in Tokyo.
    let put = |name: &str, body: Value| store.put_setting(&TENANT(), name, &body.to_string()).unwrap();
    put("alerts", json!({"digest": {"enabled": true, "tz": "Asia/Tokyo", "hour": 21}}));
    put("routing", json!({"routing": [{"label": "negative_customer", "team": "care"}]}));
    let body = json!({"url": "https://127.0.0.1:9/", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                      "created_at": "2026-03-02T12:00:00Z"});
    let hook =
        WebhookRow { id: "w".into(), enabled: true, types: vec![], teams: vec![], body: body.to_string() };
    store.outbox().put_webhook(&TENANT(), &hook).unwrap();
    let raised = |id: &str, at: &str| NewAlert {
        tenant: TENANT(),
        id: id.into(),
        record: Some(key(("contact", "secret-name"))),
        type_: "hearken.alert.label_raised.v1".into(),
        rule: "label_raised".into(),
        label: "negative_customer".into(),
        team: Some("care".into()),
        severity: 2,
        at: at.parse().unwrap(),
        body: "{}".into(),
        only: None,
    };
    // Yesterday in Tokyo is from 15:00 to 15:00 in UTC.
    let days = [
        ("before", "2026-02-28T14:59:59Z"),
        ("first", "2026-02-28T15:00:00Z"),
        ("last", "2026-03-01T14:59:59Z"),
        ("after", "2026-03-01T15:00:00Z"),
    ];
    store.outbox().put_alerts(days.iter().map(|(id, at)| raised(id, at)).collect()).unwrap();

    let hands = Hands::at_noon();
    let start = || Pipeline::start(store.clone(), Words::default(), options(&hands)).unwrap();
    let pipeline = start();
    let sent = wait_for(&pipeline, 1).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["type"], "hearken.digest.daily.v1");
    let data = &sent[0]["data"];
    assert_eq!(
        (&data["team"], &data["date"], &data["tz"]),
        (&json!("care"), &json!("2026-03-01"), &json!("Asia/Tokyo"))
    );
    assert_eq!(
        data["alerts"],
        json!([{"rule": "label_raised", "label": "negative_customer", "severity": 2, "count": 2}])
    );
    assert!(!sent[0].to_string().contains("secret-name"));
    let asked = pipeline.digest(&TENANT(), Some("care"), None).await.unwrap();
    assert_eq!(serde_json::to_value(asked).unwrap(), *data, "the same as when it is asked for");
    pipeline.shutdown().await;

    // Neither a restart nor a later hour sends it again; the next day's is another one.
    hands.forward(3600);
    let pipeline = start();
    assert_eq!(wait_for(&pipeline, 1).await.len(), 1);
    pipeline.shutdown().await;
    hands.forward(86_400);
    let pipeline = start();
    let sent = wait_for(&pipeline, 2).await;
    assert_eq!(sent[1]["data"]["date"], "2026-03-02");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_its_hour_and_without_webhooks_nothing_is_sent() {
    let rig = Rig::new();
    let early = json!({"digest": {"enabled": true, "tz": "UTC", "hour": 13}});
    rig.pipeline.put_setting(&TENANT(), "alerts", &early.to_string()).await.unwrap();
    let bad = json!({"digest": {"enabled": true, "tz": "Mars/Olympus", "hour": 1}});
    let refused = rig.pipeline.put_setting(&TENANT(), "alerts", &bad.to_string()).await.unwrap_err();
    assert!(refused.to_string().contains("Europe/Paris"), "{refused}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(digests(&rig.pipeline).await.is_empty());
}

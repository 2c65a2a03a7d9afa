//! What raises an alert, and that it is raised once: rules, repeats, history that is loaded, crashes at every commit.
//! How alerts are delivered is tested in `http_webhooks.rs` and `webhook_crash.rs`.

mod pipeline_common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearken::{
    pipeline::{AlertQuery, IncomingEvent, Pipeline},
    store::{Store, StoreError, WebhookRow},
};
use pipeline_common::{
    faults::{Fault, Faulty, Write},
    *,
};
use serde_json::{Value, json};

const CONTACT: (&str, &str) = ("contact", "1");

/// All alerts, the oldest first.
async fn alerts(pipeline: &Pipeline) -> Vec<Value> {
    let page = pipeline.alerts(&TENANT(), &AlertQuery::default()).await.unwrap();
    page.items.iter().rev().map(|body| serde_json::from_str(body).unwrap()).collect()
}

/// `rule cause severity` of each alert.
async fn told(pipeline: &Pipeline) -> Vec<String> {
    let line = |alert: &Value| {
        let data = &alert["data"];
        format!("{} {} {}", data["rule"], data["cause"]["id"], data["severity"]).replace('"', "")
    };
    alerts(pipeline).await.iter().map(line).collect()
}

async fn put(pipeline: &Pipeline, name: &str, body: Value) {
    pipeline.put_setting(&TENANT(), name, &body.to_string()).await.unwrap();
}

fn airo() -> Value {
    json!({"competitors": [{"name": "Airo Networks", "aliases": ["Airo"]}]})
}

fn answer(id: &str, metric: &str, value: f64, min: f64, max: f64) -> IncomingEvent {
    let data = json!({"record": {"module": "contact", "id": "1"}, "channel": "survey",
                      "survey": {"metric": metric, "value": value, "scale": {"min": min, "max": max}}});
    event(id, "interaction.received", 0, data)
}

#[tokio::test(flavor = "multi_thread")]
async fn z08_a_label_alerts_when_it_turns_and_when_it_gets_worse_and_not_again() {
    let rig = Rig::new();
    rig.apply(vec![says("a", CONTACT, 3, "Slow.")]).await;
    assert_eq!(told(&rig.pipeline).await, [""; 0]);
    rig.apply(vec![says("b", CONTACT, 2, "An outage.")]).await;
    assert_eq!(told(&rig.pipeline).await, ["label_raised b 1"]);
    rig.apply(vec![says("b", CONTACT, 2, "An outage."), says("ok", CONTACT, 5, "Ok.")]).await;
    assert_eq!(
        told(&rig.pipeline).await.len(),
        1,
        "a repeat and an event that changes no label tell nothing"
    );
    rig.apply(vec![says("c", CONTACT, 1, "It is broken."), says("d", CONTACT, 1, "Still slow.")]).await;
    assert_eq!(told(&rig.pipeline).await, ["label_raised b 1", "label_raised d 2"]);

    let alert = &alerts(&rig.pipeline).await[1];
    assert_eq!(alert["specversion"], "1.0");
    assert_eq!(alert["type"], "hearken.alert.label_raised.v1");
    assert_eq!(alert["subject"], "contact/1");
    let data = &alert["data"];
    assert_eq!(data["record"], json!({"module": "contact", "id": "1"}));
    assert_eq!(data["found"]["label"], "negative_customer");
    assert_eq!(data["found"]["severity_before"], 1);
    assert_eq!(data["links"]["page"], "/records/contact/1");
    assert!(!alert.to_string().contains("broken"), "no words of the customer");
}

#[tokio::test(flavor = "multi_thread")]
async fn z16_a_mention_alerts_with_leaning_and_likelihood_of_loss() {
    let rig = Rig::new();
    put(&rig.pipeline, "competitors", airo()).await;
    rig.apply(vec![says("a", CONTACT, 0, "Your line is slow. I am switching to Airo.")]).await;
    let all = alerts(&rig.pipeline).await;
    let mention = all.iter().find(|a| a["data"]["rule"] == "competitor_mentioned").expect("an alert");
    let found = &mention["data"]["found"];
    assert_eq!(found["competitor"], "Airo Networks");
    assert_eq!((&found["mentions"], &found["speaks_of_switching"]), (&json!(1), &json!(true)));
    assert_eq!(mention["data"]["severity"], 3);
    assert_eq!(found["switch_risk"]["n"], 1);
    assert!(found["stance"]["competitor"].is_number(), "{found}");
    let switching = all.iter().find(|a| a["data"]["rule"] == "label_raised").expect("the label's own");
    assert_eq!(switching["data"]["found"]["label"], "may_switch_to_competitor");
}

#[tokio::test(flavor = "multi_thread")]
async fn c09_critical_answers_alert_and_others_do_not() {
    let rig = Rig::new();
    rig.apply(vec![
        answer("promoter", "nps", 10.0, 0.0, 10.0),
        answer("angry", "nps", 2.0, 0.0, 10.0),
        answer("detractor", "nps", 6.0, 0.0, 10.0),
        answer("other-scale", "nps", 1.0, 1.0, 5.0),
        answer("content", "csat", 4.0, 1.0, 5.0),
        answer("unhappy", "csat", 2.0, 0.0, 10.0),
        answer("hard", "ces", 1.0, 1.0, 7.0),
        answer("easy-legacy", "ces", 1.0, 1.0, 5.0),
    ])
    .await;
    assert_eq!(
        told(&rig.pipeline).await,
        [
            "critical_feedback angry 3",
            "critical_feedback detractor 2",
            "critical_feedback unhappy 2",
            "critical_feedback hard 2"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn c14_watched_phrases_alert_once_for_each_list() {
    let rig = Rig::new();
    let lists = json!({"watchlists": [{"name": "brand", "kind": "brand", "phrases": ["Hearken Box", "HB2"]},
                                      {"name": "people", "kind": "person", "phrases": ["Jane Doe"]}]});
    put(&rig.pipeline, "watchlists", lists).await;
    rig.apply(vec![says(
        "a",
        CONTACT,
        0,
        "The HB2 is slow; my Hearken Box, the HB2, broke. Jane Doe knows.",
    )])
    .await;
    let all = alerts(&rig.pipeline).await;
    let hits: Vec<&Value> =
        all.iter().filter(|a| a["data"]["rule"] == "watch_hit").map(|a| &a["data"]).collect();
    assert_eq!(hits.len(), 2);
    assert_eq!(hits[0]["found"]["phrases"], json!(["HB2", "Hearken Box"]));
    assert_eq!((&hits[0]["found"]["count"], &hits[0]["severity"]), (&json!(3), &json!(2)));
    put(&rig.pipeline, "alerts", json!({"watch_hit": {"enabled": true, "names": ["people"]}})).await;
    rig.apply(vec![says("b", CONTACT, 0, "HB2 again.")]).await;
    assert_eq!(alerts(&rig.pipeline).await.len(), all.len(), "only lists that the rule names");
}

#[tokio::test(flavor = "multi_thread")]
async fn x06_responses_that_turn_negative_alert_once_a_day() {
    let rig = Rig::new();
    put(&rig.pipeline, "alerts", json!({"label_raised": {"enabled": false}})).await;
    rig.apply(vec![says("a", CONTACT, 6, "Great, thanks."), says("b", CONTACT, 5, "Slow.")]).await;
    rig.apply(vec![says("c", CONTACT, 0, "Slow.")]).await;
    assert_eq!(told(&rig.pipeline).await, ["turned_negative c 2"]);
    let found = alerts(&rig.pipeline).await[0]["data"]["found"].clone();
    assert_eq!(found, json!({"net_from": 0.0, "net_to": -0.33, "net_below": 0.0, "responses": 3}));
    rig.apply(vec![says("d", CONTACT, 0, "Great."), says("e", CONTACT, 0, "Great.")]).await;
    rig.apply(vec![says("f", CONTACT, 0, "Slow."), says("g", CONTACT, 0, "Slow.")]).await;
    assert_eq!(told(&rig.pipeline).await.len(), 1, "up and down around the bound is one turn a day");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_loaded_settings_days_and_erasures_raise_nothing() {
    let rig = Rig::new();
    let old: Vec<IncomingEvent> = (0..20)
        .map(|i| says(&format!("old{i}"), CONTACT, 8 + i, "An outage; Airo has none. I will cancel."))
        .collect();
    rig.apply(old).await;
    put(&rig.pipeline, "competitors", airo()).await;
    put(&rig.pipeline, "labels", json!({"negatives_min": 1})).await;
    rig.hands.forward(86_400);
    rig.pipeline.verify().await.unwrap();
    assert!(rig.document(CONTACT).await["highlights"]["labels"][0]["active"].as_bool().unwrap());
    rig.apply(vec![retracts("r", "old3")]).await;
    rig.pipeline.erase(&TENANT(), &key(("contact", "other"))).await.unwrap();
    assert_eq!(told(&rig.pipeline).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_of_a_lead_is_not_told_again_of_the_contact() {
    let rig = Rig::new();
    let lead = ("lead", "L");
    rig.apply(vec![says("a", lead, 3, "Slow.")]).await;
    rig.apply(vec![says("b", lead, 2, "Slow.")]).await;
    rig.apply(vec![converts("c", lead, CONTACT, 1), says("d", CONTACT, 0, "Ok.")]).await;
    assert_eq!(told(&rig.pipeline).await, ["label_raised b 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_that_are_not_enabled_alert_nobody() {
    let rig = Rig::new();
    put(&rig.pipeline, "modules", json!({"modules": [{"name": "contact", "enabled": false}]})).await;
    rig.apply(vec![answer("a", "nps", 0.0, 0.0, 10.0)]).await;
    assert_eq!(told(&rig.pipeline).await, [""; 0]);
}

/// Commits fail from the n-th on: before it is on disk, or after.
#[derive(Clone, Copy)]
struct Death {
    at: usize,
    after: bool,
}

struct Dying(Option<Death>, AtomicUsize);

impl Fault for Dying {
    fn before(&self, write: Write) -> Result<(), StoreError> {
        let (Some(death), Write::Commit) = (self.0, write) else { return Ok(()) };
        let n = self.1.fetch_add(1, Ordering::SeqCst);
        let dead = if death.after { n > death.at } else { n >= death.at };
        if dead { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn after(&self, write: Write) -> Result<(), StoreError> {
        let (Some(death), Write::Commit) = (self.0, write) else { return Ok(()) };
        let dead = death.after && self.1.load(Ordering::SeqCst) > death.at;
        if dead { Err(StoreError::Closed) } else { Ok(()) }
    }
}

/// A webhook that leads nowhere: what is meant for it stays in the outbox.
fn nowhere() -> WebhookRow {
    let body = json!({"url": "https://127.0.0.1:9/", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                      "created_at": "2026-03-02T12:00:00Z"});
    WebhookRow { id: "wh".into(), enabled: true, types: vec![], teams: vec![], body: body.to_string() }
}

/// Sends events one by one until one is not applied.
async fn feed(pipeline: &Pipeline, events: &[IncomingEvent]) -> bool {
    let stalled = async || {
        while pipeline.health().stalled.is_none() {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let tenant = TENANT();
    for event in events {
        tokio::select! {
            done = pipeline.ingest(&tenant, vec![event.clone()], true) => { done.unwrap(); }
            () = stalled() => return false,
        }
    }
    true
}

/// Ids of all alerts, and of those that the outbox holds for the webhook.
async fn raised(store: &Arc<dyn Store>, pipeline: &Pipeline) -> (BTreeSet<String>, Vec<String>) {
    let ids = alerts(pipeline).await.iter().map(|a| a["id"].as_str().unwrap().to_owned()).collect();
    let deliveries = store.outbox().deliveries(&TENANT(), "wh", None, None, 100).unwrap();
    (ids, deliveries.into_iter().map(|d| d.alert).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_commit_neither_loses_nor_doubles_an_alert() {
    let events = [
        says("a", CONTACT, 3, "Slow."),
        says("b", CONTACT, 2, "An outage, Airo has none."),
        says("c", CONTACT, 1, "Slow and broken."),
        answer("d", "nps", 1.0, 0.0, 10.0),
        says("e", ("contact", "2"), 0, "Airo is great."),
    ];
    let routing = json!({"routing": [{"label": "*", "team": "care"}]});
    let mut expected: Option<BTreeSet<String>> = None;
    let deaths = (0..6).flat_map(|at| [false, true].map(|after| Some(Death { at, after })));
    for death in std::iter::once(None).chain(deaths) {
        let folder = tempfile::tempdir().unwrap();
        let hands = Hands::at_noon();
        let store = open_in(folder.path());
        store.put_setting(&TENANT(), "competitors", &airo().to_string()).unwrap();
        store.put_setting(&TENANT(), "routing", &routing.to_string()).unwrap();
        store.outbox().put_webhook(&TENANT(), &nowhere()).unwrap();
        let faulty = Arc::new(Faulty::new(store.clone(), Dying(death, AtomicUsize::new(0))));
        let pipeline = Pipeline::start(faulty, Words::default(), options(&hands)).unwrap();
        let through = feed(&pipeline, &events).await;
        drop(pipeline);
        let name = death.map(|d| format!("commit {} after={}", d.at, d.after)).unwrap_or_default();
        let pipeline = Pipeline::start(store.clone(), Words::default(), options(&hands)).unwrap();
        assert!(feed(&pipeline, &events).await, "{name}");
        assert_eq!(through, death.is_none(), "{name}: the death came");
        let (ids, mut deliveries) = raised(&store, &pipeline).await;
        deliveries.sort();
        assert!(ids.len() >= 5, "{ids:?}");
        assert_eq!(
            deliveries,
            ids.iter().cloned().collect::<Vec<_>>(),
            "{name}: one delivery for each alert"
        );
        assert_eq!(&ids, expected.get_or_insert_with(|| ids.clone()), "{name}");
        assert!(pipeline.verify().await.unwrap().different.is_empty(), "{name}");
    }
}

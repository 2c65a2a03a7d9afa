//! Cases: opened by routes and by hand, shown in documents and lists, kept through conversions, merges and restarts,
//! gone with an erasure, and exact under retraction.

mod pipeline_common;

use std::time::Duration;

use hearken::{
    insight::action::ActionPatch,
    pipeline::{ActionQuery, AlertQuery, Pipeline, PipelineError, RecordAction, Tenant},
};
use pipeline_common::{faults::holds, *};
use serde_json::{Value, json};

const CONTACT: (&str, &str) = ("contact", "1");

/// A pipeline where a negative customer opens a case of the team `care`.
async fn routed() -> Rig {
    let rig = Rig::new();
    let routing =
        json!({"routing": [{"label": "negative_customer", "team": "care", "due_hours": [48, 24, 4]}]});
    rig.pipeline.put_setting(&TENANT(), "routing", &routing.to_string()).await.unwrap();
    rig
}

/// Waits until what a step itself has added is applied too.
async fn settle(pipeline: &Pipeline) {
    let quiet = async {
        while pipeline.health().applied < pipeline.health().logged {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), quiet).await.unwrap();
}

async fn complain(rig: &Rig, record: (&str, &str)) {
    let id = |n: &str| format!("{}-{n}", record.1);
    rig.apply(vec![says(&id("a"), record, 3, "Slow.")]).await;
    rig.apply(vec![says(&id("b"), record, 2, "An outage.")]).await;
    settle(&rig.pipeline).await;
}

async fn listed(pipeline: &Pipeline, query: ActionQuery) -> Vec<RecordAction> {
    pipeline.actions(&TENANT(), &query).await.unwrap().items
}

async fn all(pipeline: &Pipeline) -> Vec<RecordAction> {
    listed(pipeline, ActionQuery::default()).await
}

fn patch(json: Value) -> ActionPatch {
    serde_json::from_value(json).unwrap()
}

async fn change(rig: &Rig, id: &str, json: Value) -> RecordAction {
    rig.pipeline.change_action(&TENANT(), id, patch(json), None).await.unwrap().expect("an action")
}

#[tokio::test(flavor = "multi_thread")]
async fn c16_a_route_opens_a_case_with_a_team_and_a_due_time() {
    let rig = routed().await;
    complain(&rig, CONTACT).await;
    let action = rig.document(CONTACT).await["actions"][0].clone();
    assert_eq!(action["state"], "open");
    assert_eq!((&action["kind"], &action["owner_team"]), (&json!("call_back"), &json!("care")));
    assert_eq!(action["opened_at"], "2026-03-02T12:00:00Z");
    assert_eq!(action["due_at"], "2026-03-04T12:00:00Z", "48 hours for severity 1");
    assert_eq!(action["evidence"], json!(["1-b", "1-a"]));
    let alerts = rig.pipeline.alerts(&TENANT(), &AlertQuery::default()).await.unwrap();
    let alert: Value = serde_json::from_str(&alerts.items[0]).unwrap();
    assert_eq!((&alert["data"]["action"], &alert["data"]["owner_team"]), (&action["id"], &json!("care")));
    // A worse label finds the case open, and opens no other.
    rig.apply(vec![says("c", CONTACT, 1, "Broken.")]).await;
    settle(&rig.pipeline).await;
    assert_eq!(rig.document(CONTACT).await["actions"].as_array().unwrap().len(), 1);
    let of_team =
        ActionQuery { owner_team: Some("care".into()), state: Some("open".into()), ..Default::default() };
    assert_eq!(listed(&rig.pipeline, of_team).await[0].action.id, action["id"].as_str().unwrap());
    let others = ActionQuery { owner_team: Some("sales".into()), ..Default::default() };
    assert!(listed(&rig.pipeline, others).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_x11_a_suggestion_becomes_a_case_and_is_closed_and_told_weeks_later() {
    let rig = Rig::new();
    complain(&rig, CONTACT).await;
    let before = rig.document(CONTACT).await;
    let suggested = &before["actions"][0];
    assert_eq!((&suggested["state"], &suggested["changes"]), (&json!("suggested"), &json!(0)));
    let id = suggested["id"].as_str().unwrap().to_owned();

    let taken = change(&rig, &id, json!({"assignee": "jane", "owner_team": "care"})).await;
    assert_eq!((taken.action.state.as_str(), taken.action.changes), ("open", 1));
    let after = rig.document(CONTACT).await;
    assert_eq!(after["actions"][0]["assignee"], "jane");
    assert_ne!(after["meta"]["revision"], before["meta"]["revision"]);

    change(&rig, &id, json!({"state": "in_progress", "note": "Router sent."})).await;
    change(&rig, &id, json!({"state": "done", "assignee": null})).await;
    let done = rig.document(CONTACT).await["actions"][0].clone();
    assert_eq!(
        (&done["state"], &done["assignee"], &done["note"]),
        (&json!("done"), &json!(null), &json!("Router sent."))
    );
    assert_eq!(done["customer_told_at"], json!(null));

    // Long after, out of the window: still there until the customer knows.
    rig.hands.forward(120 * 86_400);
    assert_eq!(rig.document(CONTACT).await["actions"][0]["state"], "done");
    change(&rig, &id, json!({"customer_told_at": "2026-06-30T12:00:00Z"})).await;
    let history = rig.pipeline.action(&TENANT(), &id).await.unwrap().unwrap().1;
    let sets: Vec<Value> = history.iter().map(|c| serde_json::to_value(&c.set).unwrap()).collect();
    assert_eq!(sets[1], json!({"state": "in_progress", "note": "Router sent."}));
    assert_eq!(sets[3], json!({"customer_told_at": "2026-06-30T12:00:00Z"}));
    assert!(rig.pipeline.verify().await.unwrap().different.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_case_quiets_its_label_until_there_is_new_evidence() {
    let rig = routed().await;
    complain(&rig, CONTACT).await;
    let first = all(&rig.pipeline).await[0].action.id.clone();
    change(&rig, &first, json!({"state": "dismissed"})).await;
    let states = |document: &Value| -> Vec<String> {
        let actions = document["actions"].as_array().unwrap();
        actions.iter().map(|a| a["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states(&rig.document(CONTACT).await), ["dismissed"]);
    rig.hands.forward(7200);
    let again = says("again", CONTACT, 0, "Slow again.");
    let mut again = again;
    again.event.time = "2026-03-02T13:00:00Z".parse().unwrap();
    rig.apply(vec![again]).await;
    settle(&rig.pipeline).await;
    assert_eq!(states(&rig.document(CONTACT).await), ["open", "dismissed"]);
    assert_ne!(all(&rig.pipeline).await[0].action.id, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_follow_conversions_and_merges_and_restarts() {
    let rig = routed().await;
    let lead = ("lead", "L");
    complain(&rig, lead).await;
    let id = all(&rig.pipeline).await[0].action.id.clone();
    change(&rig, &id, json!({"note": "called"})).await;
    rig.apply(vec![converts("cv", lead, CONTACT, 1), merges("mg", CONTACT, ("contact", "2"), 1)]).await;
    settle(&rig.pipeline).await;
    let listed = all(&rig.pipeline).await;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].record.id.as_str(), listed[0].action.id.as_str()), ("2", id.as_str()));
    assert_eq!(listed[0].action.note.as_deref(), Some("called"));
    change(&rig, &id, json!({"state": "in_progress"})).await;
    let merged = rig.document(("contact", "2")).await;
    assert_eq!(merged["actions"][0]["state"], "in_progress");

    // Taken apart again, what was done with the merged record stays with it.
    rig.apply(vec![unmerges("um", CONTACT, ("contact", "2"), 0)]).await;
    assert_eq!(rig.document(CONTACT).await["actions"][0]["id"], id.as_str());
    assert!(rig.pipeline.verify().await.unwrap().different.is_empty());

    let expected = documents(&rig.pipeline).await;
    let actions = all(&rig.pipeline).await.len();
    rig.pipeline.shutdown().await;
    let again = Pipeline::start(open_in(rig.folder.path()), Words::default(), options(&rig.hands)).unwrap();
    assert_same(&documents(&again).await, &expected, "after a restart");
    assert_eq!(all(&again).await.len(), actions);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_record_leaves_no_case_no_alert_and_no_word_of_either() {
    let rig = routed().await;
    complain(&rig, CONTACT).await;
    complain(&rig, ("contact", "2")).await;
    let id = all(&rig.pipeline).await.iter().find(|a| a.record.id == "1").unwrap().action.id.clone();
    change(&rig, &id, json!({"note": "SECRETNOTE", "assignee": "SECRETNAME"})).await;
    assert!(holds(rig.folder.path(), "SECRETNOTE"), "the test looks in the right place");
    rig.pipeline.erase(&TENANT(), &key(CONTACT)).await.unwrap();
    for word in ["SECRETNOTE", "SECRETNAME", &id] {
        assert!(!holds(rig.folder.path(), word), "{word}");
    }
    assert!(all(&rig.pipeline).await.iter().all(|a| a.record.id == "2"));
    assert!(rig.pipeline.action(&TENANT(), &id).await.unwrap().is_none());
    let alerts = rig.pipeline.alerts(&TENANT(), &AlertQuery::default()).await.unwrap().items;
    assert!(alerts.len() == 1 && alerts[0].contains("contact/2"), "{alerts:?}");
    let gone =
        rig.pipeline.change_action(&TENANT(), &id, patch(json!({"state": "done"})), None).await.unwrap();
    assert!(gone.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn n02_a_case_falls_with_the_event_that_opened_it_unless_somebody_worked_on_it() {
    let rig = routed().await;
    complain(&rig, CONTACT).await;
    complain(&rig, ("contact", "2")).await;
    let worked_on = all(&rig.pipeline).await.into_iter().find(|a| a.record.id == "2").unwrap().action.id;
    change(&rig, &worked_on, json!({"state": "in_progress"})).await;
    rig.apply(vec![retracts("r1", "1-b"), retracts("r2", "2-b")]).await;
    settle(&rig.pipeline).await;

    let never = routed().await;
    never.apply(vec![says("1-a", CONTACT, 3, "Slow.")]).await;
    let (found, expected) = (documents(&rig.pipeline).await, documents(&never.pipeline).await);
    assert_eq!(found[&key(CONTACT)], expected[&key(CONTACT)], "as if it had never been said");

    let actions = all(&rig.pipeline).await;
    assert_eq!(actions.len(), 1);
    assert_eq!(
        (actions[0].action.id.as_str(), actions[0].action.state.as_str()),
        (worked_on.as_str(), "in_progress")
    );
    assert!(actions[0].action.evidence.is_empty(), "evidence that is gone is not named");
    // The same label can open a case again.
    rig.apply(vec![says("1-c", CONTACT, 1, "Broken.")]).await;
    settle(&rig.pipeline).await;
    assert_eq!(rig.document(CONTACT).await["actions"][0]["state"], "open");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_cross_are_noticed_and_tenants_do_not_meet() {
    let rig = Rig::new();
    complain(&rig, CONTACT).await;
    let id = all(&rig.pipeline).await[0].action.id.clone();
    let other = Tenant("other".into());
    assert!(rig.pipeline.actions(&other, &ActionQuery::default()).await.unwrap().items.is_empty());
    let theirs =
        rig.pipeline.change_action(&other, &id, patch(json!({"state": "done"})), None).await.unwrap();
    assert!(theirs.is_none());

    let first =
        rig.pipeline.change_action(&TENANT(), &id, patch(json!({"note": "one"})), Some(0)).await.unwrap();
    assert_eq!(first.unwrap().action.changes, 1);
    let second = rig.pipeline.change_action(&TENANT(), &id, patch(json!({"note": "two"})), Some(0)).await;
    assert!(matches!(second, Err(PipelineError::Changed { is: 1, expected: 0, .. })), "{second:?}");
    let long = patch(json!({"note": "x".repeat(5000)}));
    let refused = rig.pipeline.change_action(&TENANT(), &id, long, None).await;
    assert!(
        matches!(&refused, Err(PipelineError::Body { pointer, .. }) if pointer == "/note"),
        "{refused:?}"
    );
    let same = rig.pipeline.change_action(&TENANT(), &id, patch(json!({})), None).await.unwrap().unwrap();
    assert_eq!(same.action.changes, 1, "an empty patch is no change");
}

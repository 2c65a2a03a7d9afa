//! Replays: history under another model or other settings. What is served does not move before the switch, and is after
//! it what it would have been had the new model been there all along; crashes, erasures and late events included.

mod pipeline_common;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use hearken::{
    pipeline::{
        Pipeline, PipelineError, PipelineOptions, Replay, ReplayRequest, ReplayState, Scored, Scorer,
        ScorerError, ViewQuery, verify_store,
    },
    scores::{Classified, Scores},
};
use pipeline_common::{
    Rig, TENANT, Words, assert_same, documents, history, key, open_in, options, says, without_stamps,
};
use serde_json::json;

/// Another model: everything is negative, and a complaint.
#[derive(Clone, Default)]
struct Gloom {
    held: Arc<AtomicBool>,
}

impl Scorer for Gloom {
    fn score(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Scored, ScorerError>> {
        let held = self.held.clone();
        Box::pin(async move {
            if held.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let reason = "the test holds the other model".into();
                return Err(ScorerError { reason, retry_after: None, too_much: false });
            }
            let one = |text: &String| {
                Ok(Scores {
                    tokens: text.len() as u32,
                    sentiment: Classified::new(&[0.9, 0.05, 0.05]),
                    intent: Classified::new(&[0.9, 0.0, 0.0, 0.1]),
                    ..Scores::default()
                })
            };
            Ok(Scored {
                results: texts.iter().map(one).collect(),
                models: BTreeMap::from([("sentiment".into(), "sha256:gloom".into())]),
            })
        })
    }
}

fn opens(gloom: &Gloom) -> impl Fn(&mut PipelineOptions) + use<> {
    let gloom = gloom.clone();
    move |options| {
        let gloom = gloom.clone();
        options.open_model = Arc::new(move |path: &Path| {
            if path.ends_with("gloom") {
                Ok(Arc::new(gloom.clone()) as Arc<dyn Scorer>)
            } else {
                Err(format!("there is no model in {}", path.display()))
            }
        });
    }
}

fn with_gloom() -> ReplayRequest {
    ReplayRequest { model: Some("/models/gloom".into()), ..ReplayRequest::default() }
}

async fn until(pipeline: &Pipeline, id: u64, wanted: ReplayState) -> Replay {
    for _ in 0..2000 {
        let found = pipeline.replay(&TENANT(), id).await.unwrap().unwrap();
        if found.state == wanted {
            return found;
        }
        let over = matches!(found.state, ReplayState::Failed | ReplayState::Cancelled | ReplayState::Ready);
        assert!(!over, "{:?}: {:?}", found.state, found.body.error);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the replay does not become {wanted:?}");
}

/// The documents of a pipeline that had the other model from the beginning.
async fn as_if_always(
    events: Vec<hearken::pipeline::IncomingEvent>,
) -> BTreeMap<hearken::insight::event::RecordKey, String> {
    let folder = tempfile::tempdir().unwrap();
    let hands = pipeline_common::Hands::at_noon();
    let pipeline = Pipeline::start(open_in(folder.path()), Gloom::default(), options(&hands)).unwrap();
    pipeline.ingest(&TENANT(), events, true).await.unwrap();
    documents(&pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_switch_all_is_as_if_the_model_had_always_been_there() {
    let gloom = Gloom::default();
    let rig = Rig::with(opens(&gloom));
    let events = history(5, 80);
    rig.apply(events.clone()).await;
    let before = documents(&rig.pipeline).await;

    let begun = rig.pipeline.start_replay(&TENANT(), with_gloom()).await.unwrap();
    let ready = until(&rig.pipeline, begun.id, ReplayState::Ready).await;
    assert_same(&documents(&rig.pipeline).await, &before, "nothing moves before the switch");
    let changes = &ready.body.events;
    assert!(changes.scored > 30 && changes.sentiment_changed > 0 && changes.intent_changed > 0);
    // Old neutral and positive texts became negative; what was negative stayed.
    let table = &changes.sentiment.0;
    assert_eq!(table.iter().map(|row| row[1] + row[2]).sum::<u64>(), 0, "{table:?}");
    assert_eq!(table[1][0] + table[2][0] + new_labels(&ready), changes.sentiment_changed);
    assert_eq!(ready.body.records.compared as usize, before.len());
    assert!(ready.body.records.labels["negative_customer"].gained > 0, "{:?}", ready.body.records);

    // What comes in between is scored by both.
    let late =
        vec![says("late", ("contact", "1"), 0, "Thanks, great."), says("late2", ("contact", "2"), 0, "Ok.")];
    rig.apply(late.clone()).await;
    let switched = rig.pipeline.switch_replay(&TENANT(), begun.id).await.unwrap().unwrap();
    assert_eq!(switched.state, ReplayState::Switched);
    let expected = as_if_always([events.clone(), late.clone()].concat()).await;
    assert_same(&documents(&rig.pipeline).await, &expected, "after the switch");

    // New texts go to the new model, also after a restart.
    let more = vec![says("more", ("contact", "3"), 0, "Thanks, great.")];
    rig.apply(more.clone()).await;
    let all = [events, late, more].concat();
    assert_same(&documents(&rig.pipeline).await, &as_if_always(all.clone()).await, "new texts");
    rig.pipeline.shutdown().await;
    assert_eq!(verify_store(&*rig.store).unwrap().different, vec![]);
    let mut again = options(&rig.hands);
    opens(&gloom)(&mut again);
    let pipeline = Pipeline::start(rig.store.clone(), Words::default(), again).unwrap();
    let last = vec![says("last", ("contact", "4"), 0, "Thanks, great.")];
    pipeline.ingest(&TENANT(), last.clone(), true).await.unwrap();
    assert_same(&documents(&pipeline).await, &as_if_always([all, last].concat()).await, "after a restart");
    let error = pipeline.cancel_replay(&TENANT(), begun.id).await.unwrap_err();
    assert!(matches!(&error, PipelineError::Conflict(why) if why.contains("served")), "{error}");
}

/// Texts that had no sentiment: they count as changed and stand in no table.
fn new_labels(replay: &Replay) -> u64 {
    let changes = &replay.body.events;
    let in_table: u64 = changes.sentiment.0.iter().flatten().sum();
    changes.scored - in_table
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rules_are_tried_before_they_hold() {
    let rig = Rig::new();
    let texts = |record, n: i64| {
        (0..n).map(move |i| says(&format!("{}{i}", record), ("contact", record), n - i, "The outage."))
    };
    rig.apply(texts("1", 2).chain(texts("2", 9)).collect()).await;
    let settings = BTreeMap::from([("labels".into(), json!({"last_negatives": 5}))]);
    let request = ReplayRequest { model: None, settings };
    let begun = rig.pipeline.start_replay(&TENANT(), request).await.unwrap();
    let ready = until(&rig.pipeline, begun.id, ReplayState::Ready).await;
    assert_eq!((ready.body.events.scored, ready.body.records.labels_changed), (0, 1));
    let page = rig.pipeline.replay_differences(&TENANT(), begun.id, true, None, None).await.unwrap().unwrap();
    assert_eq!(page.items.len(), 1);
    let change = &page.items[0];
    assert_eq!(
        (change.record.id.as_str(), change.labels_before.as_slice()),
        ("1", &["negative_customer".to_owned()][..])
    );
    assert!(change.labels_after.is_empty());
    let all =
        rig.pipeline.replay_differences(&TENANT(), begun.id, false, None, Some(1)).await.unwrap().unwrap();
    assert_eq!(all.items.len(), 1);
    let rest = rig
        .pipeline
        .replay_differences(&TENANT(), begun.id, false, all.next.as_deref(), Some(1))
        .await
        .unwrap();
    assert_eq!(rest.unwrap().items[0].record.id, "2");

    assert_eq!(rig.pipeline.setting(&TENANT(), "labels").await.unwrap().version, 0);
    assert_eq!(rig.document(("contact", "1")).await["meta"]["rules"], "labels@0");
    rig.pipeline.switch_replay(&TENANT(), begun.id).await.unwrap().unwrap();
    assert_eq!(rig.pipeline.setting(&TENANT(), "labels").await.unwrap().version, 1);
    let document = rig.document(("contact", "1")).await;
    assert_eq!(
        (&document["meta"]["rules"], &document["highlights"]["labels"][0]["active"]),
        (&json!("labels@1"), &json!(false))
    );
    assert_eq!(rig.pipeline.verify().await.unwrap().different, vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_replay_leaves_nothing_and_one_runs_at_a_time() {
    let gloom = Gloom::default();
    let rig = Rig::with(opens(&gloom));
    rig.apply(history(3, 30)).await;
    let before = documents(&rig.pipeline).await;
    gloom.held.store(true, Ordering::SeqCst);
    let first = rig.pipeline.start_replay(&TENANT(), with_gloom()).await.unwrap();
    let second = rig.pipeline.start_replay(&TENANT(), with_gloom()).await.unwrap_err();
    assert!(matches!(&second, PipelineError::Conflict(why) if why.contains("delete it first")), "{second}");
    let early = rig.pipeline.switch_replay(&TENANT(), first.id).await.unwrap_err();
    assert!(early.to_string().contains("not ready"), "{early}");
    let cancelled = rig.pipeline.cancel_replay(&TENANT(), first.id).await.unwrap().unwrap();
    assert_eq!(cancelled.state, ReplayState::Cancelled);
    assert_same(&documents(&rig.pipeline).await, &before, "cancelled");
    gloom.held.store(false, Ordering::SeqCst);
    let third = rig.pipeline.start_replay(&TENANT(), with_gloom()).await.unwrap();
    until(&rig.pipeline, third.id, ReplayState::Ready).await;
    assert!(rig.pipeline.replay(&TENANT(), 99).await.unwrap().is_none());
    let listed: Vec<u64> = rig.pipeline.replays(&TENANT()).await.unwrap().iter().map(|r| r.id).collect();
    assert_eq!(listed, [third.id, first.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_and_a_model_that_cannot_be_opened_fails_the_replay_alone() {
    let rig = Rig::with(opens(&Gloom::default()));
    rig.apply(history(3, 10)).await;
    let nothing = rig.pipeline.start_replay(&TENANT(), ReplayRequest::default()).await.unwrap_err();
    assert!(nothing.to_string().contains("model"), "{nothing}");
    let settings = BTreeMap::from([("labels".into(), json!({"window_days": 0}))]);
    let wrong =
        rig.pipeline.start_replay(&TENANT(), ReplayRequest { model: None, settings }).await.unwrap_err();
    assert!(
        matches!(&wrong, PipelineError::Body { pointer, .. } if pointer == "/settings/labels/window_days"),
        "{wrong:?}"
    );
    let settings = BTreeMap::from([("replay".into(), json!({}))]);
    let hidden =
        rig.pipeline.start_replay(&TENANT(), ReplayRequest { model: None, settings }).await.unwrap_err();
    assert!(matches!(hidden, PipelineError::UnknownSetting(_)));
    let request = ReplayRequest { model: Some("/models/none".into()), ..ReplayRequest::default() };
    let begun = rig.pipeline.start_replay(&TENANT(), request).await.unwrap();
    for _ in 0..400 {
        let found = rig.pipeline.replay(&TENANT(), begun.id).await.unwrap().unwrap();
        if found.state == ReplayState::Failed {
            assert!(found.body.error.unwrap().contains("no model in /models/none"));
            assert_eq!(rig.pipeline.health().stalled, None);
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the replay does not fail");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_it_was() {
    let gloom = Gloom::default();
    let rig = Rig::with(opens(&gloom));
    rig.apply(history(8, 40)).await;
    gloom.held.store(true, Ordering::SeqCst);
    let begun = rig.pipeline.start_replay(&TENANT(), with_gloom()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    rig.pipeline.shutdown().await;
    gloom.held.store(false, Ordering::SeqCst);
    let mut again = options(&rig.hands);
    opens(&gloom)(&mut again);
    let pipeline = Pipeline::start(rig.store.clone(), Words::default(), again).unwrap();
    let ready = until(&pipeline, begun.id, ReplayState::Ready).await;
    assert!(ready.body.events.scored > 10);
    pipeline.switch_replay(&TENANT(), begun.id).await.unwrap().unwrap();
    assert_same(&documents(&pipeline).await, &as_if_always(history(8, 40)).await, "after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_leaves_a_replay_too() {
    let rig = Rig::with(opens(&Gloom::default()));
    rig.apply(vec![
        says("a", ("contact", "1"), 3, "The outage is back."),
        says("b", ("contact", "2"), 3, "Thanks, great."),
        says("c", ("contact", "2"), 2, "Thanks, great."),
    ])
    .await;
    let begun = rig.pipeline.start_replay(&TENANT(), with_gloom()).await.unwrap();
    until(&rig.pipeline, begun.id, ReplayState::Ready).await;
    rig.pipeline.erase(&TENANT(), &key(("contact", "2"))).await.unwrap();
    let left =
        rig.pipeline.replay_differences(&TENANT(), begun.id, false, None, None).await.unwrap().unwrap();
    assert_eq!(left.items.iter().map(|d| d.record.id.as_str()).collect::<Vec<_>>(), ["1"]);
    let file = pipeline_common::database(rig.folder.path());
    let count = |sql: &str| -> i64 {
        rusqlite::Connection::open(&file).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM replay_scores"), 1, "scores leave with their events");
    rig.pipeline.switch_replay(&TENANT(), begun.id).await.unwrap().unwrap();
    let left = documents(&rig.pipeline).await;
    assert_eq!(left.len(), 1);
    let served =
        rig.pipeline.document(&TENANT(), &key(("contact", "1")), &ViewQuery::default()).await.unwrap();
    assert_eq!(without_stamps(&served.unwrap().bytes), left[&key(("contact", "1"))]);
    assert!(rig.store.positions().unwrap().applied > 0);
}

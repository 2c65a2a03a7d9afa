//! What readers see after events: the same documents whatever the arrival, nothing left of what was taken back, one
//! customer where records become one, settings and days that move on. Crashes and erasures are in `pipeline_faults.rs`;
//! what the panels count is insight's to test.

mod pipeline_common;

use std::time::Duration;

use futures::StreamExt;
use hearken::pipeline::{EvidenceQuery, InteractionQuery, PipelineError, RecordQuery, Tenant, ViewQuery};
use pipeline_common::*;
use serde_json::json;

/// Takes events in, in batches of random sizes, and gives all documents.
async fn in_batches(rig: &Rig, events: Vec<hearken::pipeline::IncomingEvent>, dice: &mut Dice) {
    let mut rest = events.into_iter().peekable();
    while rest.peek().is_some() {
        let batch: Vec<_> = rest.by_ref().take(1 + dice.below(40)).collect();
        let wait = dice.below(3) == 0;
        rig.pipeline.ingest(&TENANT(), batch, wait).await.unwrap();
    }
    // An empty batch with `wait` answers when everything before it is applied.
    rig.apply(vec![]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_arrival_gives_the_same_documents() {
    for seed in 0..4 {
        let events = history(seed, 150);
        let mut dice = Dice::new(seed + 1000);
        let whole = Rig::new();
        whole.apply(events.clone()).await;
        let expected = documents(&whole.pipeline).await;
        assert!(expected.len() >= 5);
        assert_eq!(whole.pipeline.verify().await.unwrap().different, []);

        let mut shuffled = events.clone();
        shuffled.extend(events.iter().filter(|_| dice.below(4) == 0).cloned());
        dice.shuffle(&mut shuffled);
        // Hardly any memory for histories, and batches of a few events.
        let other = Rig::with(|options| {
            options.history_interactions_max = 20;
            options.cached_document_bytes_max = 0;
            options.batch_events_max = 7;
        });
        in_batches(&other, shuffled, &mut dice).await;
        assert_same(&documents(&other.pipeline).await, &expected, &format!("seed {seed}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_retracted_never_was() {
    for seed in 10..13 {
        let events = history(seed, 120);
        let mut dice = Dice::new(seed);
        let gone: Vec<bool> = events.iter().map(|_| dice.below(4) == 0).collect();
        let never = Rig::new();
        let kept = events.iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(e, _)| e.clone());
        never.apply(kept.collect()).await;
        let expected = documents(&never.pipeline).await;

        // Retractions of interactions and of links, anywhere before and after what they retract.
        let mut all = events.clone();
        for (event, _) in events.iter().zip(&gone).filter(|(_, gone)| **gone) {
            let id = &event.event.id.id;
            let at = dice.below(all.len() + 1);
            all.insert(at, retracts(&format!("r-{id}"), id));
        }
        let rig = Rig::with(|options| options.batch_events_max = 5);
        in_batches(&rig, all, &mut dice).await;
        assert_same(&documents(&rig.pipeline).await, &expected, &format!("seed {seed}"));
        assert_eq!(rig.pipeline.verify().await.unwrap().different, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_revision_replaces_also_on_another_record() {
    let revised = |revision: u32, record: &str, text: &str| {
        event(
            "a",
            "interaction.received",
            3,
            json!({"record": {"module": "contact", "id": record}, "channel": "chat", "text": text, "revision": revision}),
        )
    };
    let rig = Rig::new();
    rig.apply(vec![revised(0, "1", "The outage is back."), says("b", ("contact", "1"), 2, "Ok.")]).await;
    rig.apply(vec![revised(2, "2", "Thanks, great.")]).await;
    let late = rig.pipeline.ingest(&TENANT(), vec![revised(1, "1", "Slow.")], true).await.unwrap();
    assert_eq!((late.accepted, late.duplicates), (0, 1));
    let first = rig.document(("contact", "1")).await;
    assert_eq!(first["sentiment"]["distribution"], json!({"positive": 0, "neutral": 1, "negative": 0}));
    let second = rig.document(("contact", "2")).await;
    assert_eq!(second["sentiment"]["distribution"], json!({"positive": 1, "neutral": 0, "negative": 0}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_which_nothing_is_left_has_no_document() {
    let rig = Rig::new();
    rig.apply(vec![says("a", ("contact", "1"), 1, "Slow."), says("b", ("contact", "2"), 1, "Ok.")]).await;
    assert_eq!(rig.pipeline.health().records, 2);
    rig.apply(vec![retracts("r", "a")]).await;
    assert!(!rig.has_document(("contact", "1")).await);
    assert!(rig.has_document(("contact", "2")).await);
    assert_eq!(rig.pipeline.health().records, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lead_becomes_a_contact_and_keeps_its_address() {
    let rig = Rig::new();
    let lead = ("lead", "L7");
    rig.apply(vec![says("a", lead, 30, "What is the price?"), says("b", ("contact", "7"), 2, "Slow.")]).await;
    assert_eq!(rig.document(lead).await["highlights"]["total"], 1);
    rig.apply(vec![converts("c", lead, ("contact", "7"), 20)]).await;
    for record in [lead, ("contact", "7")] {
        let document = rig.document(record).await;
        assert_eq!(document["record"]["id"], "7");
        assert_eq!(document["record"]["aliases"], json!([{"module": "lead", "id": "L7"}]));
        assert_eq!(document["highlights"]["total"], 2);
        assert_eq!(document["conversion"]["lead_id"], "L7");
    }
    let listed = rig.pipeline.records(&TENANT(), &RecordQuery::default()).await.unwrap().items;
    assert_eq!(listed.len(), 1, "the lead is listed no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_merge_and_part_again() {
    let rig = Rig::new();
    let (one, two) = (("contact", "1"), ("contact", "2"));
    rig.apply(vec![says("a", one, 5, "Slow."), says("b", two, 4, "Thanks.")]).await;
    let apart = documents(&rig.pipeline).await;
    rig.apply(vec![merges("m", one, two, 3)]).await;
    assert_eq!(rig.document(one).await["highlights"]["total"], 2);
    assert_eq!(documents(&rig.pipeline).await.len(), 1);
    // To retract the merge is as if it had never been.
    rig.apply(vec![retracts("r", "m")]).await;
    assert_same(&documents(&rig.pipeline).await, &apart, "merge retracted");

    rig.apply(vec![merges("m2", one, two, 3), unmerges("u", one, two, 2)]).await;
    assert_eq!(rig.document(one).await["highlights"]["total"], 1);
    assert_eq!(rig.document(two).await["highlights"]["total"], 1);
    assert_eq!(rig.pipeline.verify().await.unwrap().different, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_changes_documents_that_are_there() {
    let body = r#"{"competitors":[{"name":"Airo Networks","aliases":["Airo"]}]}"#;
    let events = history(21, 120);
    let before = Rig::new();
    before.pipeline.put_setting(&TENANT(), "competitors", body).await.unwrap();
    before.apply(events.clone()).await;
    let expected = documents(&before.pipeline).await;
    assert!(expected.values().any(|d| d.contains("\"competitor\":\"Airo Networks\"")));

    let after = Rig::new();
    after.apply(events).await;
    assert!(!documents(&after.pipeline).await.values().any(|d| d.contains("\"competitor\":\"Airo")));
    let setting = after.pipeline.put_setting(&TENANT(), "competitors", body).await.unwrap();
    assert_eq!((setting.version, setting.body.as_str()), (1, body));
    // A reader never sees the old settings, also before the sweep has been there.
    assert_same(&documents(&after.pipeline).await, &expected, "read at once");
    // And the sweep reaches those that nobody reads.
    let verified = after.pipeline.verify().await.unwrap();
    assert_eq!((verified.different.len(), verified.pending), (0, 0));
    let texts = after.words.texts();
    after.pipeline.put_setting(&TENANT(), "labels", r#"{"negatives_min": 1}"#).await.unwrap();
    assert!(documents(&after.pipeline).await.values().all(|d| d.contains("labels@1")));
    assert_eq!(after.words.texts(), texts, "no model is asked again");
    let read = after.pipeline.setting(&TENANT(), "labels").await.unwrap();
    assert!(read.body.contains("\"negatives_min\":1") && read.body.contains("\"window_days\":90"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_setting_changes_nothing() {
    let rig = Rig::new();
    let error = rig.pipeline.put_setting(&TENANT(), "competitors", r#"{"competitors":[{"name":1}]}"#).await;
    assert!(
        matches!(&error, Err(PipelineError::Setting { pointer, .. }) if pointer == "/competitors/0/name"),
        "{error:?}"
    );
    assert_eq!(rig.pipeline.setting(&TENANT(), "competitors").await.unwrap().version, 0);
    let error = rig.pipeline.put_setting(&TENANT(), "colours", "{}").await.unwrap_err();
    assert!(error.to_string().contains("competitors, modules"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_each_find_their_event_in_the_document() {
    let rig = Rig::with(|options| options.batch_events_max = 16);
    let writer = |w: usize| {
        let pipeline = rig.pipeline.clone();
        async move {
            for i in 0..8 {
                let id = format!("{w}-{i}");
                let thread = format!("thread-{id}");
                let data = json!({"record": {"module": "contact", "id": "1"}, "channel": "chat",
                    "thread_id": thread, "text": format!("The outage {id}, please.")});
                let said = event(&id, "interaction.received", 1, data);
                pipeline.ingest(&TENANT(), vec![said], true).await.unwrap();
                let query = ViewQuery { window: Some("all".into()), ..ViewQuery::default() };
                let document = pipeline.document(&TENANT(), &key(("contact", "1")), &query).await.unwrap();
                let text = String::from_utf8(document.unwrap().bytes.to_vec()).unwrap();
                let total: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert!(total["highlights"]["total"].as_u64().unwrap() > i as u64);
                let stored = pipeline
                    .document(&TENANT(), &key(("contact", "1")), &ViewQuery::default())
                    .await
                    .unwrap();
                assert!(stored.unwrap().revision > i as u64);
            }
        }
    };
    futures::future::join_all((0..8).map(writer)).await;
    assert_eq!(rig.document(("contact", "1")).await["highlights"]["total"], 64);
    assert_eq!(rig.words.texts(), 64, "every text is scored once");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_content_keeps_its_bytes_and_stamps() {
    let rig = Rig::new();
    rig.apply(vec![says("a", ("contact", "1"), 1, "Slow.")]).await;
    let read = || async {
        rig.pipeline
            .document(&TENANT(), &key(("contact", "1")), &ViewQuery::default())
            .await
            .unwrap()
            .unwrap()
    };
    let first = read().await;
    let document: serde_json::Value = serde_json::from_slice(&first.bytes).unwrap();
    assert_eq!(document["meta"]["as_of"], "2026-03-02T12:00:00Z");
    assert_eq!(document["meta"]["lag_ms"], 0);
    assert!(first.etag.starts_with('"') && first.etag.ends_with('"') && first.etag.len() == 34);
    rig.hands.forward(60);
    // A setting that does not touch this document, and a repeat.
    rig.pipeline
        .put_setting(&TENANT(), "modules", r#"{"modules":[{"name":"lead","enabled":false}]}"#)
        .await
        .unwrap();
    rig.apply(vec![says("a", ("contact", "1"), 1, "Slow.")]).await;
    let second = read().await;
    assert_eq!((second.etag, second.bytes), (first.etag.clone(), first.bytes.clone()));
    rig.apply(vec![says("b", ("contact", "1"), 1, "Ok.")]).await;
    let third = read().await;
    assert_ne!(third.etag, first.etag);
    let document: serde_json::Value = serde_json::from_slice(&third.bytes).unwrap();
    assert_eq!(document["meta"]["as_of"], "2026-03-02T12:01:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_day_moves_the_window() {
    let rig = Rig::new();
    rig.apply(vec![says("a", ("contact", "1"), 89, "Slow."), says("b", ("contact", "1"), 1, "Ok.")]).await;
    let today = rig.document(("contact", "1")).await;
    assert_eq!(today["meta"]["window"]["to"], "2026-03-02");
    assert_eq!(today["highlights"]["total"], 2);
    rig.hands.forward(5 * 86_400);
    let later = rig.document(("contact", "1")).await;
    assert_eq!(later["meta"]["window"]["to"], "2026-03-07");
    assert_eq!(later["highlights"]["total"], 1);
    assert_eq!(later["meta"]["lag_ms"], 0, "no event came, so none was late");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_windows_and_moments_are_made_when_asked() {
    let rig = Rig::new();
    let record = ("contact", "1");
    rig.apply(vec![
        says("a", record, 150, "Slow."),
        says("b", record, 10, "Ok."),
        says("c", record, 1, "Ok."),
    ])
    .await;
    let total = |window: Option<&str>, as_of: Option<&str>| {
        let query = ViewQuery { window: window.map(Into::into), as_of: as_of.map(Into::into), tz: None };
        let pipeline = rig.pipeline.clone();
        async move {
            let document = pipeline.document(&TENANT(), &key(record), &query).await?.unwrap();
            let json: serde_json::Value = serde_json::from_slice(&document.bytes).unwrap();
            Ok::<_, PipelineError>((
                json["highlights"]["total"].as_u64().unwrap(),
                json["meta"]["as_of"].clone(),
            ))
        }
    };
    let noon = json!("2026-03-02T12:00:00Z");
    assert_eq!(total(None, None).await.unwrap(), (2, noon.clone()));
    assert_eq!(total(Some("90d"), None).await.unwrap(), (2, noon.clone()));
    assert_eq!(total(Some("all"), None).await.unwrap(), (3, noon.clone()));
    assert_eq!(total(Some("5d"), None).await.unwrap(), (1, noon));
    let moment = "2026-02-25T00:00:00Z";
    assert_eq!(total(Some("all"), Some(moment)).await.unwrap(), (2, json!(moment)));
    let error = total(Some("soon"), None).await.unwrap_err();
    assert!(matches!(&error, PipelineError::Query(why) if why.contains("90d")), "{error}");
    let nobody =
        rig.pipeline.document(&TENANT(), &key(("contact", "x")), &ViewQuery::default()).await.unwrap();
    assert!(nobody.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_cannot_be_scored_holds_nothing_up() {
    let rig = Rig::new();
    let record = ("contact", "1");
    rig.apply(vec![says("a", record, 1, "Slow."), says("b", record, 1, "unreadable")]).await;
    let document = rig.document(record).await;
    assert_eq!(document["meta"]["coverage"]["unscored"], 1);
    assert_eq!(document["highlights"]["total"], 1);
    let export = rig.pipeline.export(&TENANT(), &key(record)).await.unwrap().unwrap();
    assert!(export[1].contains("the tokenizer gave up"), "{}", export[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_fail_stall_the_documents_and_not_the_log() {
    let rig = Rig::with(|options| options.backlog_events_max = 3);
    rig.words.set_down(true);
    let one = |id: &str| vec![says(id, ("contact", "1"), 1, "Slow.")];
    for id in ["a", "b", "c"] {
        rig.pipeline.ingest(&TENANT(), one(id), false).await.unwrap();
    }
    let refused = rig.pipeline.ingest(&TENANT(), one("d"), false).await.unwrap_err();
    assert!(matches!(refused, PipelineError::Overloaded { backlog_events_max: 3, .. }), "{refused}");
    let stalled = async {
        while rig.pipeline.health().stalled.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        rig.pipeline.health()
    };
    let health = tokio::time::timeout(Duration::from_secs(10), stalled).await.unwrap();
    assert!(health.stalled.unwrap().contains("switched the models off"));
    assert_eq!((health.logged, health.applied), (3, 0));
    rig.words.set_down(false);
    rig.apply(vec![]).await;
    assert_eq!(rig.document(("contact", "1")).await["highlights"]["total"], 3);
    assert_eq!(rig.pipeline.health().stalled, None);
    rig.pipeline.ingest(&TENANT(), one("d"), true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_get_every_revision_of_their_record() {
    let rig = Rig::new();
    let lead = ("lead", "L1");
    rig.apply(vec![says("a", lead, 5, "Slow.")]).await;
    let mut changes = rig.pipeline.changes(&TENANT(), &key(lead));
    let mut strangers = rig.pipeline.changes(&Tenant("other".into()), &key(lead));
    rig.apply(vec![says("b", lead, 4, "Ok."), says("x", ("contact", "9"), 4, "Ok.")]).await;
    assert_eq!(changes.next().await.unwrap().revision, 2);
    // From now on the lead's document is the contact's.
    rig.apply(vec![converts("c", lead, ("contact", "1"), 3)]).await;
    let converted = changes.next().await.unwrap();
    assert_eq!(converted.revision, 3);
    assert!(String::from_utf8_lossy(&converted.bytes).contains("\"module\":\"contact\",\"id\":\"1\""));
    rig.pipeline.shutdown().await;
    assert!(changes.next().await.is_none(), "the stream ends at shutdown");
    assert!(strangers.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_do_not_see_each_other() {
    let rig = Rig::new();
    let (us, them) = (TENANT(), Tenant("other".into()));
    rig.apply(vec![says("a", ("contact", "1"), 1, "Slow.")]).await;
    rig.pipeline.ingest(&them, vec![says("a", ("contact", "1"), 1, "Thanks.")], true).await.unwrap();
    rig.pipeline.ingest(&them, vec![merges("m", ("contact", "1"), ("contact", "2"), 1)], true).await.unwrap();
    let ours =
        rig.pipeline.document(&us, &key(("contact", "1")), &ViewQuery::default()).await.unwrap().unwrap();
    let theirs =
        rig.pipeline.document(&them, &key(("contact", "1")), &ViewQuery::default()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&ours.bytes).contains("\"record\":{\"module\":\"contact\",\"id\":\"1\""));
    assert!(
        String::from_utf8_lossy(&theirs.bytes).contains("\"record\":{\"module\":\"contact\",\"id\":\"2\"")
    );
    rig.pipeline.put_setting(&them, "labels", "{}").await.unwrap();
    assert_eq!(rig.pipeline.setting(&us, "labels").await.unwrap().version, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_page_to_their_end() {
    let rig = Rig::with(|options| options.page_items_max = 20);
    let record = ("contact", "1");
    let mut events: Vec<_> =
        (0..45).map(|i| says(&format!("s{i}"), record, i % 9, "The outage is back.")).collect();
    events.push(event("out", "interaction.received", 1,
        json!({"record": {"module": "contact", "id": "1"}, "channel": "email", "direction": "outbound", "text": "We are sorry."})));
    rig.apply(events).await;
    let mut seen = vec![];
    let mut cursor = None;
    loop {
        let query = InteractionQuery { cursor, ..InteractionQuery::default() };
        let page = rig.pipeline.interactions(&TENANT(), &key(record), &query).await.unwrap().unwrap();
        assert!(page.items.len() <= 20);
        seen.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 46);
    assert!(seen.windows(2).all(|w| w[0].event.time >= w[1].event.time), "newest first");
    let ours = seen.iter().find(|row| row.event.id.id == "out").unwrap();
    assert_eq!((ours.text.as_deref(), ours.scores.as_ref()), (None, None), "only the customer is scored");

    let about = |panel: &str| EvidenceQuery { panel: panel.into(), ..EvidenceQuery::default() };
    let mut found = 0;
    let mut cursor = None;
    loop {
        let query = EvidenceQuery { item: Some("outage".into()), cursor, ..about("keywords") };
        let page = rig.pipeline.evidence(&TENANT(), &key(record), &query).await.unwrap().unwrap();
        for row in &page.items {
            let text: Vec<char> = row.text.as_ref().unwrap().chars().collect();
            let (start, end) = row.spans[0];
            assert_eq!(text[start as usize..end as usize].iter().collect::<String>(), "outage");
        }
        found += page.items.len();
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, 45);
    let nobody = rig.pipeline.evidence(&TENANT(), &key(("contact", "x")), &about("keywords")).await.unwrap();
    assert!(nobody.is_none());
    let error = rig.pipeline.evidence(&TENANT(), &key(record), &about("colours")).await.unwrap_err();
    assert!(error.to_string().contains("colours"), "{error}");
    let query = InteractionQuery { cursor: Some("zz".into()), ..InteractionQuery::default() };
    let error = rig.pipeline.interactions(&TENANT(), &key(record), &query).await.unwrap_err();
    assert!(error.to_string().contains("cursor"), "{error}");
    let lines = rig.pipeline.export(&TENANT(), &key(record)).await.unwrap().unwrap();
    assert_eq!(lines.len(), 46);
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&line["id"], &line["data"]["text"]), (&json!("s0"), &json!("The outage is back.")));
    assert_eq!(line["scores"]["models"]["sentiment"], "sha256:words");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_shutdown_nothing_is_taken_and_all_is_on_disk() {
    let rig = Rig::new();
    rig.pipeline.ingest(&TENANT(), history(31, 60), false).await.unwrap();
    rig.pipeline.shutdown().await;
    let late = rig.pipeline.ingest(&TENANT(), vec![], false).await.unwrap_err();
    assert!(matches!(late, PipelineError::ShuttingDown));
    rig.pipeline.shutdown().await;
    let again = hearken::pipeline::Pipeline::start(rig.store.clone(), rig.words.clone(), options(&rig.hands))
        .unwrap();
    again.ingest(&TENANT(), vec![], true).await.unwrap();
    let whole = Rig::new();
    whole.apply(history(31, 60)).await;
    assert_same(&documents(&again).await, &documents(&whole.pipeline).await, "after a restart");
}

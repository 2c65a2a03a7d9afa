//! What holds when things go wrong: a crash at any commit, a store that fails for a while, erasures at any moment,
//! documents that somebody has tampered with. Crashes of whole processes are tested where processes are.

mod pipeline_common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hearken::{
    insight::event::RecordKey,
    pipeline::{IncomingEvent, Pipeline, RecordQuery, ViewQuery, verify_store},
    store::*,
};
use pipeline_common::{
    faults::{self, Faulty, Write, holds},
    *,
};
use serde_json::json;

/// When commits fail.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// From the n-th on, as if the power had gone before it.
    Before(usize),
    /// From after the n-th on: it is on disk, and nobody learns of it.
    After(usize),
    /// The n-th and the two after it.
    ForAWhile(usize),
}

/// Commits that fail.
struct Commits {
    fault: Fault,
    /// Begun so far.
    begun: AtomicUsize,
}

impl Commits {
    fn fail(fault: Fault, store: Arc<dyn Store>) -> Arc<Faulty<Commits>> {
        Arc::new(Faulty::new(store, Commits { fault, begun: AtomicUsize::default() }))
    }
}

impl faults::Fault for Commits {
    fn before(&self, write: Write) -> Result<(), StoreError> {
        if write != Write::Commit {
            return Ok(());
        }
        let n = self.begun.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Before(at) if n >= at => Err(StoreError::Closed),
            Fault::After(at) if n > at => Err(StoreError::Closed),
            Fault::ForAWhile(at) if (at..at + 3).contains(&n) => Err(StoreError::Closed),
            _ => Ok(()),
        }
    }

    fn after(&self, write: Write) -> Result<(), StoreError> {
        let n = self.begun.load(Ordering::SeqCst);
        match self.fault {
            Fault::After(at) if write == Write::Commit && n == at + 1 => Err(StoreError::Closed),
            _ => Ok(()),
        }
    }
}

/// A history with retractions and a setting in it, in steps.
fn steps() -> Vec<Vec<IncomingEvent>> {
    let mut events = history(41, 60);
    for (at, of) in [(50, "e3"), (35, "e12"), (20, "e40")] {
        events.insert(at, retracts(&format!("r-{of}"), of));
    }
    events.chunks(9).map(<[_]>::to_vec).collect()
}

async fn undisturbed() -> std::collections::BTreeMap<RecordKey, String> {
    let rig = Rig::new();
    for step in steps() {
        rig.apply(step).await;
    }
    documents(&rig.pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_commit_loses_nothing_and_counts_nothing_twice() {
    let expected = undisturbed().await;
    let mut crashes = 0;
    for at in 0..7 {
        for fault in [Fault::Before(at), Fault::After(at)] {
            let folder = tempfile::tempdir().unwrap();
            let (words, hands) = (Words::default(), Hands::at_noon());
            let failing = Commits::fail(fault, open_in(folder.path()));
            let first = Pipeline::start(failing.clone(), words.clone(), options(&hands)).unwrap();
            for step in steps() {
                // Durable even where it is never applied.
                first.ingest(&TENANT(), step.clone(), false).await.unwrap();
                let deadline = tokio::time::Instant::now() + Duration::from_millis(300);
                while first.health().applied < first.health().logged
                    && first.health().stalled.is_none()
                    && tokio::time::Instant::now() < deadline
                {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            crashes += usize::from(first.health().stalled.is_some());
            // No shutdown: it is simply gone.
            drop(first);
            drop(failing);
            let second = Pipeline::start(open_in(folder.path()), words, options(&hands)).unwrap();
            // The sender repeats what it is not sure of.
            for step in steps() {
                let again = second.ingest(&TENANT(), step, true).await.unwrap();
                assert_eq!(again.accepted, 0);
            }
            assert_same(&documents(&second).await, &expected, &format!("crash at commit {at}"));
            let verified = second.verify().await.unwrap();
            assert_eq!((verified.different.len(), verified.pending), (0, 0));
        }
    }
    assert!(crashes >= 10, "the faults were met: {crashes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_a_while_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let failing = Commits::fail(Fault::ForAWhile(2), open_in(folder.path()));
    let pipeline = Pipeline::start(failing, Words::default(), options(&Hands::at_noon())).unwrap();
    for step in steps() {
        pipeline.ingest(&TENANT(), step, true).await.unwrap();
    }
    assert_eq!(pipeline.health().stalled, None);
    assert_same(&documents(&pipeline).await, &undisturbed().await, "after the failures");
}

/// Every record of the tenant as lists show it: labels, interactions, net sentiment.
async fn listed(pipeline: &Pipeline) -> Vec<String> {
    let query = RecordQuery { limit: Some(200), ..RecordQuery::default() };
    let page = pipeline.records(&TENANT(), &query).await.unwrap();
    page.items.iter().map(|row| format!("{row:?}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_never_was() {
    let customer = ("contact", "erase-me");
    for seed in 50..53 {
        let others = history(seed, 80);
        let never = Rig::new();
        never.apply(others.clone()).await;
        let expected = documents(&never.pipeline).await;
        let listed = listed(&never.pipeline).await;

        // The customer was a lead, is merged into, is a contact of a deal, is related to the mail of others.
        let lead = ("lead", "erase-lead");
        let theirs = vec![
            says("x1", lead, 50, "The outage at erase-lead."),
            converts("x2", lead, customer, 40),
            says("x3", customer, 30, "Slow, SECRET."),
            merges("x4", ("contact", "erase-other"), customer, 20),
            says("x5", ("contact", "erase-other"), 10, "Thanks, SECRET."),
        ];
        let mut dice = Dice::new(seed);
        let mut all = others.clone();
        for event in theirs.clone() {
            all.insert(dice.below(all.len() + 1), event);
        }
        let rig = Rig::with(|options| options.batch_events_max = 9);
        rig.apply(all).await;
        assert!(rig.has_document(customer).await);
        // Also under the name that it had before.
        let receipt = rig.pipeline.erase(&TENANT(), &key(lead)).await.unwrap();
        assert_eq!((receipt.erased_interactions, receipt.documents_changed), (3, 1));
        assert_same(&documents(&rig.pipeline).await, &expected, &format!("seed {seed}"));
        assert_eq!(self::listed(&rig.pipeline).await, listed, "what the tenant's lists count");
        assert_eq!(rig.pipeline.health().records, never.pipeline.health().records);
        assert!(!holds(rig.folder.path(), "erase-"), "a name is left in a file");
        let again = rig.pipeline.ingest(&TENANT(), theirs, true).await.unwrap();
        assert_eq!((again.accepted, again.duplicates), (0, 5));
        assert_same(&documents(&rig.pipeline).await, &expected, "after a repeat");
        assert_eq!(rig.pipeline.verify().await.unwrap().different, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_name_leaves_the_events_of_others() {
    let rig = Rig::new();
    let me = json!({"module": "contact", "id": "erase-me"});
    let them = json!({"module": "contact", "id": "2"});
    let deal = json!({"module": "deal", "id": "D"});
    rig.apply(vec![
        event(
            "s",
            "deal.stage_changed",
            9,
            json!({"record": deal, "contacts": [me, them], "to": "won", "outcome": "won"}),
        ),
        event(
            "i",
            "interaction.received",
            8,
            json!({"record": them, "related": [me], "channel": "chat", "text": "The outage is back."}),
        ),
        says("m", ("contact", "erase-me"), 7, "Slow, SECRET."),
    ])
    .await;
    assert_eq!(rig.document(("deal", "D")).await["highlights"]["total"], 2);
    let receipt = rig.pipeline.erase(&TENANT(), &key(("contact", "erase-me"))).await.unwrap();
    assert_eq!(receipt.erased_interactions, 1);
    assert!(!rig.has_document(("contact", "erase-me")).await);
    assert_eq!(rig.document(("deal", "D")).await["highlights"]["total"], 1);
    assert_eq!(rig.document(("contact", "2")).await["highlights"]["total"], 1);
    assert!(!holds(rig.folder.path(), "erase-me") && !holds(rig.folder.path(), "SECRET"));
    assert_eq!(rig.pipeline.verify().await.unwrap().different, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_stops_what_is_in_flight() {
    let rig = Rig::with(|options| options.batch_events_max = 2);
    let me = ("contact", "1");
    rig.apply(vec![says("a", me, 9, "The outage, SECRET.")]).await;
    rig.words.set_held(true);
    let more = (0..7)
        .map(|i| says(&format!("b{i}"), if i % 2 == 0 { me } else { ("contact", "2") }, 1, "Slow, SECRET."));
    rig.pipeline.ingest(&TENANT(), more.collect(), false).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let receipt = tokio::time::timeout(Duration::from_secs(10), rig.pipeline.erase(&TENANT(), &key(me)))
        .await
        .expect("an erasure does not wait for the models")
        .unwrap();
    assert_eq!(receipt.erased_interactions, 5);
    rig.words.set_held(false);
    rig.apply(vec![says("c", ("contact", "3"), 1, "Ok.")]).await;
    assert!(!rig.has_document(me).await);
    assert_eq!(rig.document(("contact", "2")).await["highlights"]["total"], 3);
    rig.pipeline.erase(&TENANT(), &key(("contact", "2"))).await.unwrap();
    assert!(!holds(rig.folder.path(), "SECRET"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_among_events_takes_what_stands_before_it() {
    let rig = Rig::new();
    let me = ("contact", "1");
    let batch = || {
        vec![
            says("a", me, 2, "Slow."),
            says("b", ("contact", "2"), 2, "Slow."),
            erases("x", me),
            says("c", me, 1, "Thanks."),
        ]
    };
    let done = rig.pipeline.ingest(&TENANT(), batch(), true).await.unwrap();
    assert_eq!((done.accepted, done.duplicates), (4, 0));
    let document = rig.document(me).await;
    assert_eq!(document["sentiment"]["distribution"], json!({"positive": 1, "neutral": 0, "negative": 0}));
    assert_eq!(document["meta"]["revision"], 1);
    let again = rig.pipeline.ingest(&TENANT(), batch(), true).await.unwrap();
    assert_eq!((again.accepted, again.duplicates), (0, 4), "also the erasure is done once");
    assert_eq!(rig.document(me).await, document);
    let nobody = rig.pipeline.erase(&TENANT(), &key(("contact", "nobody"))).await.unwrap();
    assert_eq!((nobody.erased_interactions, nobody.documents_changed), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_what_is_not_what_the_log_says() {
    let rig = Rig::new();
    rig.apply(history(61, 60)).await;
    let clean = rig.pipeline.verify().await.unwrap();
    assert_eq!(clean.different, []);
    assert_eq!(clean.records as u64, rig.pipeline.health().records);
    rig.pipeline.shutdown().await;
    assert_eq!(verify_store(&*rig.store).unwrap(), clean);

    let records: Vec<TenantRecord> =
        rig.store.bases(None, 100).unwrap().into_iter().map(|(record, _)| record).collect();
    let document = rig.store.document(&records[0].0, &records[0].1).unwrap().unwrap();
    let forged = String::from_utf8_lossy(&document.bytes).replace("\"total\":", "\"total\":1");
    let forged = StoredDocument { bytes: forged.into_bytes().into(), ..document };
    let invented = (TENANT(), key(("contact", "invented")));
    rig.store
        .commit(Commit {
            documents: vec![(records[0].clone(), forged.clone()), (invented.clone(), forged)],
            removed: vec![records[1].clone()],
            ..Commit::default()
        })
        .unwrap();
    let mut found = verify_store(&*rig.store).unwrap().different;
    found.sort();
    let mut expected = vec![records[0].1.clone(), records[1].1.clone(), invented.1];
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_a_history_in_memory_that_is_not_what_the_log_says() {
    let me = ("contact", "1");
    let (first, second) = (says("a", me, 2, "Slow."), says("b", me, 1, "Ok."));
    let happy = Rig::new();
    happy.apply(vec![says("a", me, 2, "Thanks, great.")]).await;
    let scores = vec![(1, happy.store.read_after(0, 1, usize::MAX).unwrap().remove(0).scores.unwrap())];
    let rescored = Commit { scores, ..Commit::default() };

    // What the document is where the log has other scores, and nobody remembers the old ones.
    let other = Rig::new();
    other.apply(vec![first.clone()]).await;
    other.pipeline.shutdown().await;
    other.store.commit(rescored.clone()).unwrap();
    let again = Pipeline::start(other.store.clone(), Words::default(), options(&other.hands)).unwrap();
    again.ingest(&TENANT(), vec![second.clone()], true).await.unwrap();
    let record = (TENANT(), key(me));
    let document = other.store.document(&record.0, &record.1).unwrap().unwrap();

    // The same log and the same document, behind the back of a pipeline that remembers.
    let rig = Rig::new();
    rig.apply(vec![first, second]).await;
    assert_eq!(rig.pipeline.verify().await.unwrap().different, []);
    let commit = Commit { documents: vec![(record.clone(), document)], ..rescored };
    rig.store.commit(commit).unwrap();
    assert_eq!(verify_store(&*rig.store).unwrap().different, [], "log and documents agree");
    assert_eq!(rig.pipeline.verify().await.unwrap().different, [record.1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_one_state_or_the_next() {
    // While events, settings and erasures go on, a document is always one that some state of the log has.
    let rig = Rig::with(|options| options.batch_events_max = 4);
    let me = ("contact", "1");
    let reader = {
        let pipeline = rig.pipeline.clone();
        tokio::spawn(async move {
            let mut seen = 0;
            for _ in 0..2000 {
                let found = pipeline.document(&TENANT(), &key(me), &ViewQuery::default()).await.unwrap();
                let Some(found) = found else { continue };
                let json: serde_json::Value = serde_json::from_slice(&found.bytes).unwrap();
                let total = json["highlights"]["total"].as_u64().unwrap();
                assert_eq!(json["meta"]["coverage"]["interactions"], total);
                assert!(total >= seen, "{total} after {seen}");
                seen = total;
                tokio::task::yield_now().await;
            }
        })
    };
    for i in 0..30 {
        let said = says(&format!("a{i}"), me, 1, "The outage is back.");
        let other = says(&format!("o{i}"), ("contact", "2"), 1, "The outage is back.");
        rig.pipeline.ingest(&TENANT(), vec![said, other], i % 5 == 0).await.unwrap();
        if i % 10 == 5 {
            let body = format!("{{\"negatives_min\": {i}}}");
            rig.pipeline.put_setting(&TENANT(), "labels", &body).await.unwrap();
        }
    }
    reader.await.unwrap();
    rig.apply(vec![]).await;
    assert_eq!(rig.document(me).await["highlights"]["total"], 30);
}

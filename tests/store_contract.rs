//! What every backend of the store promises, each test run on each backend. Not covered: speed (`benches/store.rs`) and
//! what a pipeline makes of it (`pipeline_*.rs`).

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hearken::{
    insight::event::{EventId, RecordKey},
    pipeline::Tenant,
    store::{
        Appended, Basis, Commit, Erasure, Membership, NewEvent, RecordFilter, Store, StoreError,
        StoredDocument, sqlite::SqliteStore,
    },
};
use jiff::{Timestamp, civil::date};

/// Runs a test on every backend, each time in a new folder.
fn on_each_backend(test: impl Fn(&dyn Fn() -> Arc<dyn Store>, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hearken.db");
    test(&|| Arc::new(SqliteStore::open(&path).unwrap()), folder.path());
}

fn tenant() -> Tenant {
    Tenant::default()
}

fn key(id: &str) -> RecordKey {
    RecordKey { module: "contact".into(), id: id.into() }
}

fn id(id: &str) -> EventId {
    EventId { source: "crm".into(), id: id.into() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_770_000_000 + second).unwrap()
}

fn event(name: &str, records: &[&str]) -> NewEvent {
    let member = |(i, r): (usize, &&str)| Membership { record: key(r), owned: i == 0 };
    NewEvent {
        tenant: tenant(),
        id: id(name),
        revision: 0,
        type_: "voc.interaction.received.v1".into(),
        time: at(1),
        received_at: at(2),
        data: format!("{{\"name\":\"{name}\"}}"),
        records: records.iter().enumerate().map(member).collect(),
        retracts: None,
        link: false,
    }
}

fn retraction(name: &str, of: &str) -> NewEvent {
    NewEvent { retracts: Some(id(of)), ..event(name, &[]) }
}

fn document(content: &str, activity: Option<i64>) -> StoredDocument {
    StoredDocument {
        bytes: content.as_bytes().into(),
        etag: "\"tag\"".into(),
        revision: 7,
        labels: vec!["negative_customer".into()],
        interactions: 3,
        net_sentiment: Some(-0.25),
        last_activity_at: activity.map(at),
        basis: Basis { day: date(2026, 3, 1), settings: 2 },
    }
}

fn erasure(records: &[&str]) -> Erasure {
    Erasure {
        tenant: tenant(),
        records: records.iter().map(|r| key(r)).collect(),
        rewritten: vec![],
        because: None,
        at: at(9),
    }
}

fn names(store: &dyn Store, record: &str) -> Vec<String> {
    store.history(&tenant(), &[key(record)]).unwrap().into_iter().map(|row| row.id.id).collect()
}

fn dirty(store: &dyn Store) -> Vec<String> {
    let mut records: Vec<String> =
        store.dirty(100).unwrap().into_iter().map(|mark| mark.record.1.id).collect();
    records.sort();
    records
}

#[test]
fn events_come_back_as_they_went_and_in_order() {
    on_each_backend(|open, _| {
        let store = open();
        let batch = store.append(vec![event("a", &["1"]), event("b", &["1", "2"])]).unwrap();
        assert_eq!(batch.events, [Appended::At(1), Appended::At(2)]);
        assert_eq!(batch.logged, 2);
        let rows = store.read_after(0, 10, usize::MAX).unwrap();
        assert_eq!(rows.len(), 2);
        let row = &rows[0];
        assert_eq!((row.position, &row.tenant, &row.id, row.revision), (1, &tenant(), &id("a"), 0));
        assert_eq!((row.time, row.received_at), (at(1), at(2)));
        assert_eq!((row.data.as_str(), row.scores.as_deref()), (r#"{"name":"a"}"#, None));
        assert_eq!(names(&*store, "1"), ["a", "b"]);
        assert_eq!(names(&*store, "2"), ["b"]);
        let both = store.history(&tenant(), &[key("2"), key("1")]).unwrap();
        assert_eq!(both.iter().map(|r| r.position).collect::<Vec<_>>(), [1, 2], "each row once, in order");
        assert!(store.history(&Tenant("other".into()), &[key("1")]).unwrap().is_empty());
        let known: Vec<_> = store.known_records(None, 1).unwrap();
        assert_eq!(known, [(tenant(), key("1"))]);
        assert_eq!(store.known_records(known.last(), 9).unwrap(), [(tenant(), key("2"))]);
    });
}

#[test]
fn reads_are_bounded_by_events_and_by_bytes() {
    on_each_backend(|open, _| {
        let store = open();
        store.append((0..9).map(|i| event(&i.to_string(), &["1"])).collect()).unwrap();
        assert_eq!(store.read_after(2, 3, usize::MAX).unwrap().len(), 3);
        // Every row has 12 bytes of data; the row that reaches the limit is still given.
        assert_eq!(store.read_after(0, 100, 13).unwrap().len(), 2);
        assert_eq!(store.read_after(0, 100, 1).unwrap().len(), 1, "never nothing while there is something");
    });
}

#[test]
fn a_repeat_changes_nothing_in_the_same_batch_or_later() {
    on_each_backend(|open, _| {
        let store = open();
        let batch = store.append(vec![event("a", &["1"]), event("a", &["2"])]).unwrap();
        assert_eq!(batch.events, [Appended::At(1), Appended::Duplicate]);
        assert_eq!(store.append(vec![event("a", &["3"])]).unwrap().events, [Appended::Duplicate]);
        assert_eq!(names(&*store, "1"), ["a"]);
        assert!(names(&*store, "2").is_empty() && names(&*store, "3").is_empty());
        let other = NewEvent { tenant: Tenant("other".into()), ..event("a", &["1"]) };
        assert!(matches!(store.append(vec![other]).unwrap().events[..], [Appended::At(_)]));
    });
}

#[test]
fn a_higher_revision_replaces_and_a_lower_one_is_late() {
    on_each_backend(|open, _| {
        let store = open();
        let revision = |revision, records: &[&str]| NewEvent { revision, ..event("a", records) };
        store.append(vec![revision(1, &["1"])]).unwrap();
        assert_eq!(store.append(vec![revision(0, &["1"])]).unwrap().events, [Appended::Duplicate]);
        let batch = store.append(vec![revision(2, &["2"])]).unwrap();
        assert_eq!(batch.events, [Appended::At(2)]);
        assert!(names(&*store, "1").is_empty());
        assert_eq!(names(&*store, "2"), ["a"]);
        let marks = store.dirty(10).unwrap();
        assert_eq!(marks.len(), 1);
        assert_eq!((&marks[0].record.1, marks[0].position), (&key("1"), 2));
        assert!(marks[0].ticket <= batch.ticket);
    });
}

#[test]
fn a_retraction_holds_for_what_is_there_and_for_what_comes() {
    on_each_backend(|open, _| {
        let store = open();
        store.append(vec![event("a", &["1"])]).unwrap();
        store.append(vec![retraction("r1", "a"), retraction("r2", "b")]).unwrap();
        assert!(names(&*store, "1").is_empty());
        assert_eq!(dirty(&*store), ["1"]);
        let late = NewEvent { revision: 5, ..event("a", &["1"]) };
        assert_eq!(
            store.append(vec![event("b", &["2"]), late]).unwrap().events,
            [Appended::Duplicate, Appended::Duplicate]
        );
        assert_eq!(store.append(vec![retraction("r1", "a")]).unwrap().events, [Appended::Duplicate]);
        assert_eq!(store.positions().unwrap().logged, 3, "positions are not given twice");
    });
}

#[test]
fn a_mark_stands_until_the_very_mark_is_dealt_with() {
    on_each_backend(|open, _| {
        let store = open();
        assert_eq!(store.dirty_since().unwrap(), None);
        store.append(vec![event("a", &["1"]), event("b", &["1"]), event("c", &["2"])]).unwrap();
        let first = store.append(vec![retraction("r1", "a")]).unwrap();
        let seen = store.dirty(10).unwrap();
        let second = store.append(vec![retraction("r2", "b"), retraction("r3", "c")]).unwrap();
        assert!(first.ticket < second.ticket);
        store.commit(Commit { clean: seen, ..Commit::default() }).unwrap();
        assert_eq!(dirty(&*store), ["1", "2"], "record 1 was marked again meanwhile");
        assert!(store.dirty_since().unwrap().unwrap() <= first.ticket, "and has been dirty since then");
        let all = store.dirty(10).unwrap();
        store.commit(Commit { clean: all, ..Commit::default() }).unwrap();
        assert_eq!(store.dirty_since().unwrap(), None);
    });
}

#[test]
fn a_commit_is_seen_whole() {
    on_each_backend(|open, _| {
        let store = open();
        store.append(vec![event("a", &["1"]), event("b", &["2"])]).unwrap();
        let one = (tenant(), key("1"));
        store
            .commit(Commit {
                applied: Some(2),
                scores: vec![(1, "{\"v\":1}".into()), (77, "of a row that is gone".into())],
                documents: vec![(one.clone(), document("one", Some(5)))],
                ..Commit::default()
            })
            .unwrap();
        assert_eq!(store.positions().unwrap().applied, 2);
        assert_eq!(store.read_after(0, 1, 1).unwrap()[0].scores.as_deref(), Some("{\"v\":1}"));
        assert_eq!(store.document(&tenant(), &key("1")).unwrap(), Some(document("one", Some(5))));
        assert_eq!(store.record_count().unwrap(), 1);
        assert_eq!(store.bases(None, 9).unwrap(), [(one.clone(), document("", None).basis)]);
        assert!(store.bases(Some(&one), 9).unwrap().is_empty());
        store.commit(Commit { removed: vec![one], ..Commit::default() }).unwrap();
        assert_eq!(store.document(&tenant(), &key("1")).unwrap(), None);
        assert_eq!(store.positions().unwrap().applied, 2, "a commit without a position leaves it");
        drop(store);
        assert_eq!(open().positions().unwrap().applied, 2, "and it is on disk");
    });
}

#[test]
fn lists_are_filtered_and_go_on_where_they_stopped() {
    on_each_backend(|open, _| {
        let store = open();
        let mut documents = vec![];
        for i in 0..25 {
            // Ties in time, and records without any.
            let activity = (i % 5 != 0).then_some(i64::from(i / 3));
            let mut document = document("x", activity);
            document.labels = if i % 2 == 0 { vec!["churned_customer".into()] } else { vec![] };
            documents.push(((tenant(), key(&format!("r{i:02}"))), document));
        }
        let other = RecordKey { module: "lead".into(), id: "r99".into() };
        documents.push(((tenant(), other), document("x", Some(3))));
        documents.push(((Tenant("other".into()), key("r50")), document("x", Some(3))));
        store.commit(Commit { documents, ..Commit::default() }).unwrap();

        let all = store.records(&tenant(), &RecordFilter { limit: 100, ..RecordFilter::default() }).unwrap();
        assert_eq!(all.len(), 26);
        assert!(all.windows(2).all(|w| w[0].1.last_activity_at >= w[1].1.last_activity_at), "newest first");
        assert!(all[0].1.bytes.is_empty());
        let mut paged = vec![];
        let mut after = None;
        loop {
            let filter = RecordFilter { after: after.clone(), limit: 4, ..RecordFilter::default() };
            let rows = store.records(&tenant(), &filter).unwrap();
            let Some((last, document)) = rows.last() else { break };
            after = Some((document.last_activity_at, last.clone()));
            paged.extend(rows);
        }
        assert_eq!(paged, all);
        let count = |filter: RecordFilter| {
            store.records(&tenant(), &RecordFilter { limit: 100, ..filter }).unwrap().len()
        };
        assert_eq!(count(RecordFilter { label: Some("churned_customer".into()), ..Default::default() }), 13);
        assert_eq!(count(RecordFilter { module: Some("lead".into()), ..Default::default() }), 1);
        assert_eq!(count(RecordFilter { search: Some("r1".into()), ..Default::default() }), 10);
        assert_eq!(count(RecordFilter { search: Some("%".into()), ..Default::default() }), 0);
    });
}

#[test]
fn settings_have_versions() {
    on_each_backend(|open, _| {
        let store = open();
        assert_eq!(store.setting(&tenant(), "labels").unwrap(), None);
        assert_eq!(store.put_setting(&tenant(), "labels", "{}").unwrap().version, 1);
        assert_eq!(store.put_setting(&tenant(), "labels", "{\"a\":1}").unwrap().version, 2);
        assert_eq!(store.put_setting(&Tenant("other".into()), "labels", "{}").unwrap().version, 1);
        assert_eq!(store.setting(&tenant(), "labels").unwrap().unwrap().body, "{\"a\":1}");
        assert_eq!(store.settings().unwrap().len(), 2);
    });
}

#[test]
fn an_erasure_takes_what_is_owned_and_leaves_what_is_shared() {
    on_each_backend(|open, _| {
        let store = open();
        // "of-2" is about record 2 and only names 1.
        let batch = store
            .append(vec![event("of-1", &["1", "3"]), event("of-2", &["2", "1"]), event("of-3", &["3"])])
            .unwrap();
        let one = (tenant(), key("1"));
        store.commit(Commit { documents: vec![(one, document("one", None))], ..Commit::default() }).unwrap();
        let erased = store
            .erase(Erasure { rewritten: vec![(2, "{\"name\":\"of-2, anew\"}".into())], ..erasure(&["1"]) })
            .unwrap()
            .unwrap();
        assert_eq!(erased.events, [(1, "voc.interaction.received.v1".to_owned())]);
        assert_eq!(erased.shared, [key("2"), key("3")]);
        assert!(names(&*store, "1").is_empty());
        assert_eq!(names(&*store, "3"), ["of-3"]);
        let left = store.history(&tenant(), &[key("2")]).unwrap();
        assert_eq!(left[0].data, "{\"name\":\"of-2, anew\"}");
        assert_eq!(store.document(&tenant(), &key("1")).unwrap(), None);
        assert_eq!(dirty(&*store), ["2", "3"]);
        assert!(store.dirty_since().unwrap().unwrap() > batch.ticket);
        assert_eq!(store.append(vec![event("of-1", &["1"])]).unwrap().events, [Appended::Duplicate]);
        assert!(!store.known_records(None, 9).unwrap().contains(&(tenant(), key("1"))));
        let again = store.erase(erasure(&["1"])).unwrap().unwrap();
        assert!(again.events.is_empty());
        assert_ne!(again.receipt, erased.receipt);
    });
}

#[test]
fn an_erasure_that_an_event_asks_for_is_done_once() {
    on_each_backend(|open, _| {
        let store = open();
        let wish = || Erasure { because: Some(id("gdpr-1")), ..erasure(&["1"]) };
        assert!(store.erase(wish()).unwrap().is_some());
        store.append(vec![event("later", &["1"])]).unwrap();
        assert_eq!(store.erase(wish()).unwrap(), None);
        assert_eq!(names(&*store, "1"), ["later"]);
    });
}

#[test]
fn what_was_erased_is_in_no_file() {
    on_each_backend(|open, folder| {
        let store = open();
        // Rows of many sizes that grow when their scores come, interleaved, so that pages are split and joined and
        // rows move between them.
        let secret = |i: usize| format!("SECRET-{i}-{}", "x".repeat(i * 37 % 900));
        for batch in 0..40 {
            let events = (0..20).map(|i| {
                let n = batch * 20 + i;
                let record = (n % 7).to_string();
                let long = if n % 50 == 0 { 9000 } else { n * 31 % 700 };
                let data = if record == "3" { secret(n) } else { "y".repeat(long) };
                NewEvent { data, ..event(&format!("e{n}"), &[&record]) }
            });
            store.append(events.collect()).unwrap();
            let mine = ((tenant(), key("3")), document(&secret(batch * 11), Some(1)));
            let theirs = ((tenant(), key("4")), document(&"z".repeat(batch * 300), Some(1)));
            let scores = (1..=20).map(|i| ((batch * 20 + i) as u64, "s".repeat(batch * i % 800)));
            let scores = scores.collect();
            store.commit(Commit { documents: vec![mine, theirs], scores, ..Commit::default() }).unwrap();
        }
        assert!(holds(folder, b"SECRET"), "the test looks in the right place");
        store.erase(erasure(&["3"])).unwrap();
        store.scrub().unwrap();
        assert!(!holds(folder, b"SECRET"));
        assert_eq!(names(&*store, "4").len(), 114);
        assert_eq!(store.document(&tenant(), &key("4")).unwrap().unwrap().bytes.len(), 39 * 300);
        let sound: String = rusqlite::Connection::open(folder.join("hearken.db"))
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(sound, "ok");
        store.append(vec![event("after", &["4"])]).unwrap();
        store.backup(&folder.join("copy.db")).unwrap();
        assert!(!holds(folder, b"SECRET"), "nor does it come back");
    });
}

/// Whether any file of a folder has these bytes.
fn holds(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[test]
fn readers_go_on_while_somebody_writes() {
    on_each_backend(|open, folder| {
        let store = open();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut seen = 0;
                    while !done.load(Ordering::Relaxed) {
                        // A batch of five is seen whole or not at all.
                        let rows = names(&*store, "1").len();
                        assert!(rows.is_multiple_of(5) && rows >= seen, "{rows} after {seen}");
                        seen = rows;
                    }
                });
            }
            let writers: Vec<_> = (0..4)
                .map(|w| {
                    let store = &store;
                    scope.spawn(move || {
                        for b in 0..10 {
                            let batch = (0..5).map(|i| event(&format!("{w}-{b}-{i}"), &["1"]));
                            store.append(batch.collect()).unwrap();
                        }
                    })
                })
                .collect();
            let copy = folder.join("copy.db");
            store.backup(&copy).unwrap();
            writers.into_iter().for_each(|w| w.join().unwrap());
            done.store(true, Ordering::Relaxed);
            assert_eq!(names(&SqliteStore::open(&copy).unwrap(), "1").len() % 5, 0, "the copy is consistent");
        });
        assert_eq!(names(&*store, "1").len(), 200);
    });
}

#[test]
fn a_batch_that_cannot_be_written_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hearken.db");
    let store = SqliteStore::open(&path).unwrap();
    // A trigger stands in for a failing disk.
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON events WHEN NEW.id = 'b' BEGIN SELECT RAISE(ABORT, 'disk full'); END",
        )
        .unwrap();
    let error = store.append(vec![event("a", &["1"]), event("b", &["1"])]).unwrap_err();
    assert!(error.to_string().contains("disk full"), "{error}");
    assert!(names(&store, "1").is_empty());
    store.append(vec![event("a", &["1"])]).unwrap();
    assert_eq!(names(&store, "1"), ["a"]);
}

#[test]
fn files_of_others_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hearken.db");
    drop(SqliteStore::open(&path).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(&path).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer hearken"), "{error}");

    let foreign = folder.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = std::fs::read(&foreign).unwrap();
    assert!(matches!(SqliteStore::open(&foreign).map(drop).unwrap_err(), StoreError::Foreign(_)));
    assert_eq!(std::fs::read(&foreign).unwrap(), before);

    let text = folder.path().join("text.db");
    std::fs::write(&text, "this is no database, and long enough to be seen as such").unwrap();
    assert!(SqliteStore::open(&text).is_err());
    assert!(hearken::store::open("mysql://x").map(drop).unwrap_err().to_string().contains("sqlite:PATH"));
}

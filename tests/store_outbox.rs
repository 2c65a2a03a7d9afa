//! What every backend promises of alerts, webhooks, deliveries and actions, each test run on each backend. What is sent
//! and when is the pipeline's business and not covered here.

use std::{path::Path, sync::Arc};

use hearken::{
    insight::event::RecordKey,
    pipeline::Tenant,
    store::{
        ActionFilter, ActionRow, AlertFilter, Commit, DeliveryState, Erasure, NewAlert, Settled, Store,
        WebhookRow, sqlite::SqliteStore,
    },
};
use jiff::Timestamp;

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

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_770_000_000 + second).unwrap()
}

fn alert(id: &str, record: &str, second: i64) -> NewAlert {
    NewAlert {
        tenant: tenant(),
        id: id.into(),
        record: Some(key(record)),
        type_: "t.one".into(),
        rule: "rule".into(),
        label: "label".into(),
        team: Some("care".into()),
        severity: 2,
        at: at(second),
        body: format!("body of {id}").into(),
        only: None,
    }
}

fn webhook(id: &str, types: &[&str], teams: &[&str]) -> WebhookRow {
    let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    WebhookRow { id: id.into(), enabled: true, types: owned(types), teams: owned(teams), body: "{}".into() }
}

fn pending(store: &dyn Store, webhook: &str) -> Vec<String> {
    store.outbox().pending(&tenant(), webhook, 10).unwrap().into_iter().map(|d| d.alert).collect()
}

fn settled(webhook: &str, alert: &str, state: DeliveryState, next: i64) -> Settled {
    Settled {
        tenant: tenant(),
        webhook: webhook.into(),
        alert: alert.into(),
        state,
        next_at: at(next),
        status: Some(500),
        error: Some("no".into()),
        at: at(next),
    }
}

#[test]
fn an_alert_is_kept_once_and_goes_to_those_who_want_it() {
    on_each_backend(|open, _| {
        let store = open();
        let outbox = store.outbox();
        for hook in [
            webhook("all", &[], &[]),
            webhook("one", &["t.one"], &["care"]),
            webhook("two", &["t.two"], &[]),
            webhook("sales", &[], &["sales"]),
            WebhookRow { enabled: false, ..webhook("off", &[], &[]) },
        ] {
            outbox.put_webhook(&tenant(), &hook).unwrap();
        }
        outbox.put_webhook(&Tenant("other".into()), &webhook("theirs", &[], &[])).unwrap();
        store.commit(Commit { alerts: vec![alert("a", "1", 1)], ..Commit::default() }).unwrap();
        store.commit(Commit { alerts: vec![alert("a", "1", 5)], ..Commit::default() }).unwrap();
        assert_eq!(outbox.put_alerts(vec![alert("a", "1", 9)]).unwrap(), 0);
        for (hook, expected) in [("all", 1), ("one", 1), ("two", 0), ("sales", 0), ("off", 0), ("theirs", 0)]
        {
            assert_eq!(pending(&*store, hook).len(), expected, "{hook}");
        }
        let only = NewAlert { only: Some("off".into()), type_: "t.test".into(), ..alert("test", "1", 2) };
        assert_eq!(outbox.put_alerts(vec![only]).unwrap(), 1);
        assert_eq!(
            (pending(&*store, "off"), pending(&*store, "all")),
            (vec!["test".into()], vec!["a".into()])
        );
        let page = outbox.alerts(&tenant(), &AlertFilter { limit: 1, ..AlertFilter::default() }).unwrap();
        assert_eq!(page[0].id, "test");
        let before = Some(page[0].number);
        let next =
            outbox.alerts(&tenant(), &AlertFilter { before, limit: 5, ..AlertFilter::default() }).unwrap();
        assert_eq!((next.len(), next[0].body.as_str()), (1, "body of a"));
        let counts = outbox.alert_counts(&tenant(), Some("care"), at(0), at(2)).unwrap();
        assert_eq!((counts.len(), counts[0].count), (1, 1));
        assert!(outbox.alert_counts(&tenant(), None, at(0), at(9)).unwrap().is_empty());
        drop(store);
        assert_eq!(pending(&*open(), "all"), ["a"], "also after it was closed");
    });
}

#[test]
fn a_delivery_waits_until_it_is_settled_and_can_be_revived() {
    on_each_backend(|open, _| {
        let store = open();
        let outbox = store.outbox();
        outbox.put_webhook(&tenant(), &webhook("w", &[], &[])).unwrap();
        outbox.put_alerts(vec![alert("a", "1", 1), alert("b", "1", 2), alert("c", "2", 3)]).unwrap();
        outbox
            .settle(vec![
                settled("w", "a", DeliveryState::Pending, 50),
                settled("w", "b", DeliveryState::Delivered, 4),
                settled("w", "nobody", DeliveryState::Dead, 4),
            ])
            .unwrap();
        assert_eq!(pending(&*store, "w"), ["c", "a"]);
        let depth = outbox.depth().unwrap();
        assert_eq!((depth.pending, depth.oldest), (2, Some(at(1))));
        outbox.settle(vec![settled("w", "a", DeliveryState::Dead, 60)]).unwrap();
        let dead = outbox.deliveries(&tenant(), "w", Some(DeliveryState::Dead), None, 10).unwrap();
        assert_eq!((dead.len(), dead[0].attempts, dead[0].status), (1, 2, Some(500)));
        assert!(outbox.resend(&tenant(), "w", "a", at(70)).unwrap());
        assert!(!outbox.resend(&tenant(), "w", "z", at(70)).unwrap());
        assert_eq!(pending(&*store, "w"), ["c", "a"]);
        // What waits is never pruned.
        assert_eq!(outbox.prune(at(100)).unwrap(), 1);
        let left: Vec<String> =
            outbox.deliveries(&tenant(), "w", None, None, 10).unwrap().into_iter().map(|d| d.alert).collect();
        assert_eq!(left, ["c", "a"]);
        outbox.put_webhook(&tenant(), &WebhookRow { enabled: false, ..webhook("w", &[], &[]) }).unwrap();
        assert_eq!(outbox.prune(at(3)).unwrap(), 1, "unless nobody is to get it");
        assert!(outbox.delete_webhook(&tenant(), "w").unwrap());
        assert!(!outbox.delete_webhook(&tenant(), "w").unwrap());
        assert_eq!(outbox.depth().unwrap().pending, 0);
    });
}

fn action(id: &str, team: &str, due: Option<i64>) -> ActionRow {
    ActionRow {
        record: key(""),
        id: id.into(),
        label: "label".into(),
        state: "open".into(),
        team: Some(team.into()),
        due_at: due.map(at),
        told: false,
        body: format!("SECRET {id}"),
    }
}

#[test]
fn actions_are_those_of_the_last_commit_and_are_listed_by_their_due_time() {
    on_each_backend(|open, _| {
        let store = open();
        let put = |record: &str, rows: Vec<ActionRow>| ((tenant(), key(record)), rows);
        let first = put("1", vec![action("x", "care", Some(30)), action("y", "sales", None)]);
        store
            .commit(Commit {
                actions: vec![first, put("2", vec![action("z", "care", Some(10))])],
                ..Commit::default()
            })
            .unwrap();
        // A case moves from one record to another in one step.
        let moved = put("2", vec![action("z", "care", Some(10)), action("x", "care", Some(30))]);
        store
            .commit(Commit {
                actions: vec![moved, put("1", vec![action("y", "sales", None)])],
                ..Commit::default()
            })
            .unwrap();
        let list = |filter: ActionFilter| {
            let rows = store.outbox().actions(&tenant(), &ActionFilter { limit: 2, ..filter }).unwrap();
            rows.into_iter().map(|row| (row.id, row.record.id)).collect::<Vec<_>>()
        };
        let named = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        assert_eq!(list(ActionFilter::default()), named(&[("z", "2"), ("x", "2")]));
        let after = Some((Some(at(30)), "x".to_owned()));
        assert_eq!(list(ActionFilter { after, ..ActionFilter::default() }), named(&[("y", "1")]));
        assert!(list(ActionFilter { after: Some((None, "y".into())), ..ActionFilter::default() }).is_empty());
        let due_before = Some(at(20));
        assert_eq!(list(ActionFilter { due_before, ..ActionFilter::default() }), named(&[("z", "2")]));
        let team = Some("sales".to_owned());
        assert_eq!(list(ActionFilter { team, ..ActionFilter::default() }), named(&[("y", "1")]));
        let counts = store.outbox().action_counts(&tenant(), Some("care"), at(20)).unwrap();
        assert_eq!((counts[0].count, counts[0].overdue, counts[0].untold), (2, 1, 2));
        assert!(store.outbox().action(&Tenant("other".into()), "x").unwrap().is_none());
    });
}

#[test]
fn an_erasure_takes_alerts_deliveries_and_actions_from_every_file() {
    on_each_backend(|open, folder| {
        let store = open();
        store.outbox().put_webhook(&tenant(), &webhook("w", &[], &[])).unwrap();
        let alerts = (0..50).map(|i| NewAlert {
            body: format!("SECRET {i} {}", "x".repeat(i * 11)).into(),
            ..alert(&format!("a{i}"), "1", 1)
        });
        let actions =
            vec![((tenant(), key("1")), (0..50).map(|i| action(&i.to_string(), "t", None)).collect())];
        store.commit(Commit { alerts: alerts.collect(), actions, ..Commit::default() }).unwrap();
        store.outbox().put_alerts(vec![alert("other", "2", 2)]).unwrap();
        let holds = || {
            std::fs::read_dir(folder).unwrap().any(|file| {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                bytes.windows(6).any(|window| window == b"SECRET")
            })
        };
        assert!(holds(), "the test looks in the right place");
        let records = vec![key("1")];
        store
            .erase(Erasure { tenant: tenant(), records, rewritten: vec![], because: None, at: at(9) })
            .unwrap();
        store.scrub().unwrap();
        assert!(!holds());
        assert_eq!(pending(&*store, "w"), ["other"]);
        assert!(
            store
                .outbox()
                .actions(&tenant(), &ActionFilter { limit: 9, ..Default::default() })
                .unwrap()
                .is_empty()
        );
    });
}

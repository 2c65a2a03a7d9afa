//! `kill -9` in the middle of ingest: nothing is lost, nothing counts twice, and every document ends up as that of a run
//! that nobody disturbed. What a machine that loses power does to its disk is not covered here.

mod common;

use std::{collections::BTreeMap, path::Path, time::Duration};

use common::{
    Program, command,
    engine_pack::{Random, words},
};
use serde_json::{Value, json};

const EVENTS: usize = 400;
const RECORDS: usize = 12;
const BATCH: usize = 20;
const KILLS: usize = 4;

/// Mails, tickets and survey answers, a conversion, retractions and replacements, in an order of their own.
fn history() -> Vec<Value> {
    let mut random = Random::new(11);
    let now = jiff::Timestamp::now();
    let mut events: Vec<Value> = (0..EVENTS)
        .map(|i| {
            let record = json!({"module": "contact", "id": format!("{}", random.below(RECORDS))});
            let (channel, count) = (["email", "ticket", "chat"][random.below(3)], 3 + random.below(12));
            let mut data = json!({
                "record": record, "channel": channel,
                "thread_id": format!("t{}", random.below(60)), "text": words(&mut random, count),
            });
            let mut id = i;
            if i > 40 && random.below(10) == 0 {
                id = random.below(40);
                data["revision"] = json!(i);
            }
            let minutes = random.below(60 * 24 * 60) as i64;
            event(
                &format!("m{id}"),
                "voc.interaction.received.v1",
                now - jiff::SignedDuration::from_mins(minutes),
                data,
            )
        })
        .collect();
    for i in 0..10 {
        let data = json!({"interaction": {"source": "test", "id": format!("m{}", 50 + 7 * i)}});
        events.insert(30 * (i + 1), event(&format!("r{i}"), "voc.interaction.retracted.v1", now, data));
    }
    let data = json!({"from": {"module": "lead", "id": "L"}, "to": [{"module": "contact", "id": "3"}]});
    events.insert(200, event("c", "voc.record.converted.v1", now, data));
    events
}

fn event(id: &str, type_: &str, time: jiff::Timestamp, data: Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "test", "type": type_, "time": time.to_string(), "data": data})
}

/// Sends batches from `from` on until one is not answered; returns how many were.
async fn feed(base: &str, batches: &[Vec<Value>], from: usize, wait: bool) -> usize {
    let client = reqwest::Client::new();
    let url = format!("{base}/v1/events{}", if wait { "?wait=applied" } else { "" });
    for (i, batch) in batches.iter().enumerate().skip(from) {
        let body = Value::from(batch.as_slice()).to_string();
        let request =
            client.post(&url).header("content-type", "application/cloudevents-batch+json").body(body);
        match request.send().await {
            Ok(response) => assert_eq!(response.status(), 202),
            Err(_) => return i,
        }
    }
    batches.len()
}

async fn wait_until_applied(base: &str) {
    loop {
        let info: Value = reqwest::get(format!("{base}/info")).await.unwrap().json().await.unwrap();
        if info["pipeline"]["applied"] == info["pipeline"]["logged"] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every document, without the two members that say when it was made.
async fn documents(base: &str) -> BTreeMap<String, Value> {
    let mut documents = BTreeMap::new();
    for id in 0..RECORDS {
        let url = format!("{base}/v1/records/contact/{id}/insights?window=all");
        let mut document: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let meta = document["meta"].as_object_mut().unwrap();
        meta.remove("as_of").unwrap();
        meta.remove("lag_ms").unwrap();
        documents.insert(id.to_string(), document);
    }
    documents
}

fn verify(data_dir: &Path) {
    let output = command(&["verify", "--data-dir", data_dir.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn killed_in_the_middle_it_ends_like_a_run_that_nobody_disturbed() {
    let batches: Vec<Vec<Value>> = history().chunks(BATCH).map(<[Value]>::to_vec).collect();

    let calm = tempfile::tempdir().unwrap();
    let program = Program::serve(calm.path(), &[]);
    assert_eq!(feed(&program.base, &batches, 0, true).await, batches.len());
    let expected = documents(&program.base).await;
    assert_eq!(program.terminate(), Some(0));

    let rough = tempfile::tempdir().unwrap();
    let mut answered = 0;
    for kill in 0..KILLS {
        let program = Program::serve(rough.path(), &[]);
        let (base, from, part) = (program.base.clone(), answered, batches.clone());
        let feeding = tokio::spawn(async move { feed(&base, &part, from, false).await });
        tokio::time::sleep(Duration::from_millis(15 + 25 * kill as u64)).await;
        program.kill();
        // What was answered is on disk; the batch without an answer is sent again, whatever became of it.
        answered = feeding.await.unwrap();
    }
    let program = Program::serve(rough.path(), &[]);
    feed(&program.base, &batches, answered, true).await;
    wait_until_applied(&program.base).await;
    let found = documents(&program.base).await;
    for (id, document) in &expected {
        assert_eq!(&found[id], document, "record {id}");
    }
    assert_eq!(program.terminate(), Some(0));
    verify(rough.path());
}

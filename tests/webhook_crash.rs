//! `kill -9` between an alert and its delivery: every alert reaches its receiver, however often the program dies and
//! the receiver fails. More than once is allowed; the id tells a receiver that it has it already.

mod common;

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use common::{Program, mail, receiver::Receiver};
use serde_json::{Value, json};

const MAILS: usize = 90;
const BATCH: usize = 6;
const KILLS: usize = 5;
const ARGUMENTS: &[&str] = &["--webhook-http", "--webhook-private", "--limit", "webhook_retry_ms_min=30"];

async fn get(base: &str, path: &str) -> Value {
    reqwest::get(format!("{base}{path}")).await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_arrives_whenever_the_program_dies() {
    let (receiver, folder, client) =
        (Receiver::start().await, tempfile::tempdir().unwrap(), reqwest::Client::new());
    let program = Program::serve(folder.path(), ARGUMENTS);
    let competitors = json!({"competitors": [{"name": "Airo"}]});
    let put = client.put(format!("{}/v1/settings/competitors", program.base)).json(&competitors).send().await;
    assert_eq!(put.unwrap().status(), 200);
    let hook =
        json!({"url": receiver.url("rough"), "event_types": ["hearken.alert.competitor_mentioned.v1"]});
    let made = client.post(format!("{}/v1/webhooks", program.base)).json(&hook).send().await.unwrap();
    let hook: Value = made.json().await.unwrap();
    let secret = hook["secret"].as_str().unwrap();

    let mails: Vec<Value> =
        (0..MAILS).map(|i| mail(&format!("m{i}"), &format!("{}", i % 7), "Airo is cheaper.")).collect();
    let mut batches = mails.chunks(BATCH);
    let mut program = Some(program);
    for kill in 0..=KILLS {
        let running = program.take().unwrap_or_else(|| Program::serve(folder.path(), ARGUMENTS));
        for batch in batches.by_ref().take(MAILS / BATCH / (KILLS + 1) + 1) {
            let request = client
                .post(format!("{}/v1/events", running.base))
                .header("content-type", "application/cloudevents-batch+json")
                .body(Value::from(batch).to_string());
            assert_eq!(request.send().await.unwrap().status(), 202);
        }
        if kill < KILLS {
            tokio::time::sleep(Duration::from_millis(3 * kill as u64)).await;
            running.kill();
        } else {
            program = Some(running);
        }
    }
    let program = program.unwrap();
    let delivered =
        format!("/v1/webhooks/{}/deliveries?state=delivered&limit=200", hook["id"].as_str().unwrap());
    for _ in 0..3000 {
        if get(&program.base, &delivered).await["items"].as_array().unwrap().len() == MAILS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let alerts = get(&program.base, "/v1/alerts?rule=competitor_mentioned&limit=200").await;
    let raised: BTreeMap<&str, &Value> =
        alerts["items"].as_array().unwrap().iter().map(|a| (a["id"].as_str().unwrap(), a)).collect();
    assert_eq!(raised.len(), MAILS, "one alert for each mention, none twice");
    let causes: BTreeSet<&str> =
        raised.values().map(|a| a["data"]["cause"]["id"].as_str().unwrap()).collect();
    assert_eq!(causes.len(), MAILS);
    let hits = receiver.hits("rough");
    let arrived: BTreeSet<&str> = hits.iter().map(|hit| hit.id()).collect();
    assert_eq!(arrived, raised.keys().copied().collect());
    for hit in &hits {
        assert_eq!(hit.json(), *raised[hit.id()], "an alert says the same each time");
        assert!(hit.is_signed_by(secret));
    }
    println!("{} alerts in {} requests, {KILLS} kills", raised.len(), hits.len());
    assert_eq!(program.terminate(), Some(0));
    let verify =
        common::command(&["verify", "--data-dir", folder.path().to_str().unwrap()]).output().unwrap();
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
}

//! `POST /v1/events`: every form of body, good events beside bad ones, duplicates, and what a caller is told.

mod common;

use common::{Server, check_problem, mail, problem};
use serde_json::{Value, json};

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const LINES: &str = "application/x-ndjson";

#[tokio::test]
async fn events_are_taken_in_every_form_and_only_once() {
    let server = Server::start().await;
    let a = mail("a", "1", "the connection is bad");
    let batch = json!([mail("b", "1", "thanks!"), mail("a", "1", "the connection is bad")]).to_string();
    let lines = format!("\n{}\r\n  \n{}", mail("c", "1", "refund"), mail("d", "2", "again?"));
    for (content_type, body, accepted, duplicates) in [
        (ONE, a.to_string(), 1, 0),
        (BATCH, batch.clone(), 1, 1),
        (LINES, lines, 2, 0),
        ("application/json", format!(" {a}"), 0, 1),
        ("application/json; charset=utf-8", format!("\n{batch}"), 0, 2),
    ] {
        let response = server.post("/v1/events", content_type, body).await;
        assert_eq!(response.status(), 202);
        let answer: Value = response.json().await.unwrap();
        assert_eq!(
            (answer["accepted"].as_u64(), answer["duplicates"].as_u64()),
            (Some(accepted), Some(duplicates))
        );
        assert_eq!(answer["rejected"], json!([]));
        assert!(answer["position"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    }
}

#[tokio::test]
async fn good_lines_are_taken_beside_bad_ones() {
    let server = Server::start().await;
    let mut no_record = mail("x", "1", "text");
    no_record["data"].as_object_mut().unwrap().remove("record");
    let mut number = mail("y", "1", "text");
    number["data"]["text"] = json!(5);
    let mut body =
        format!("{}\n{no_record}\n{{\"broken\n{number}\n", mail("good", "1", "thanks!")).into_bytes();
    body.extend_from_slice(b"\"\xff\"\n");
    let response = server.post("/v1/events?wait=applied", LINES, body).await;
    assert_eq!(response.status(), 202);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["accepted"], 1);
    let rejected = answer["rejected"].as_array().unwrap();
    let indexes: Vec<_> = rejected.iter().map(|r| r["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, [1, 2, 3, 4]);
    check_problem(&rejected[0]["problem"], 422, "invalid-event");
    assert!(rejected[0]["problem"]["detail"].as_str().unwrap().contains("record"));
    check_problem(&rejected[1]["problem"], 400, "malformed-json");
    assert_eq!(rejected[2]["problem"]["errors"][0]["pointer"], "/data/text");
    check_problem(&rejected[3]["problem"], 400, "malformed-json");
    let document = server.json("/v1/records/contact/1/insights").await;
    assert_eq!(document["highlights"]["total"], 1);
}

#[tokio::test]
async fn a_request_without_a_good_event_is_a_problem() {
    let server = Server::start_with("[limits]\nevents_batch_max = 2\nevent_bytes_max = 2000").await;
    let mut unknown = mail("u", "1", "text");
    unknown["type"] = json!("voc.weather.changed.v1");
    let single =
        problem(server.post("/v1/events", ONE, unknown.to_string()).await, 422, "invalid-event").await;
    assert!(
        single["detail"].as_str().unwrap().contains("voc.interaction.received.v1"),
        "known types are named"
    );
    assert_eq!((&single["accepted"], &single["rejected"][0]["index"]), (&json!(0), &json!(0)));
    let batch = json!([unknown, 7]).to_string();
    let all = problem(server.post("/v1/events", BATCH, batch).await, 422, "events-rejected").await;
    assert_eq!(all["rejected"].as_array().unwrap().len(), 2);

    let three = json!([mail("1", "1", "a"), mail("2", "1", "a"), mail("3", "1", "a")]).to_string();
    let many = problem(server.post("/v1/events", BATCH, three).await, 413, "too-large").await;
    assert!(many["detail"].as_str().unwrap().contains("events_batch_max"));
    let long = mail("l", "1", &"x".repeat(3000)).to_string();
    let long = problem(server.post("/v1/events", ONE, long).await, 413, "too-large").await;
    assert!(long["detail"].as_str().unwrap().contains("event_bytes_max"));

    problem(server.post("/v1/events", BATCH, "[]").await, 422, "invalid-body").await;
    problem(server.post("/v1/events", LINES, "\n\n").await, 422, "invalid-body").await;
    problem(server.post("/v1/events", BATCH, "[{").await, 400, "malformed-json").await;
    problem(server.post("/v1/events", ONE, "").await, 400, "malformed-json").await;
    problem(server.post("/v1/events", "text/csv", "a").await, 415, "unsupported-media-type").await;
    problem(server.post("/v1/events?wait=forever", ONE, "{}").await, 422, "invalid-query").await;
    assert_eq!(server.state.pipeline.health().logged, 0);
}

//! `hearken verify`, `backup` and `restore`, also beside a running server.

mod common;

use std::process::Output;

use common::{Program, command, mail};
use serde_json::{Value, json};

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

async fn send(program: &Program, events: &[Value]) {
    let request = reqwest::Client::new()
        .post(format!("{}/v1/events?wait=applied", program.base))
        .header("content-type", "application/cloudevents-batch+json");
    let response = request.body(Value::from(events).to_string()).send().await.unwrap();
    assert_eq!(response.status(), 202);
}

#[tokio::test]
async fn a_backup_of_a_running_server_restores_to_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let backup = folder.path().join("backup.db");
    let (data, backup) = (data.to_str().unwrap(), backup.to_str().unwrap());
    let program = Program::serve(data.as_ref(), &[]);
    send(&program, &[mail("a", "1", "the connection is bad"), mail("b", "2", "thanks!")]).await;

    let verified = run(&["verify", "--data-dir", data, "--json"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(verified, json!({"records": 2, "different": []}));

    assert!(run(&["backup", "--data-dir", data, backup]).status.success());
    assert!(!run(&["backup", "--data-dir", data, backup]).status.success(), "never over a backup");
    send(&program, &[mail("c", "3", "again?")]).await;
    let busy = run(&["restore", "--force", "--data-dir", data, backup]);
    assert!(String::from_utf8_lossy(&busy.stderr).contains("another hearken"));
    assert_eq!(program.terminate(), Some(0));

    assert!(
        String::from_utf8_lossy(&run(&["restore", "--data-dir", data, backup]).stderr).contains("--force")
    );
    assert!(run(&["restore", "--force", "--data-dir", data, backup]).status.success());
    let program = Program::serve(data.as_ref(), &[]);
    let list = reqwest::get(format!("{}/v1/records", program.base)).await.unwrap();
    assert_eq!(list.json::<Value>().await.unwrap()["items"].as_array().unwrap().len(), 2);
    assert_eq!(program.terminate(), Some(0));
}

#[test]
fn a_store_that_is_not_there_or_no_store_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for arguments in
        [&["verify", "--data-dir", data][..], &["backup", "--data-dir", data, "/tmp/never-written"]]
    {
        let output = run(arguments);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("there is no store"));
    }
    assert!(!folder.path().join("hearken.db").exists());
    let junk = folder.path().join("junk");
    std::fs::write(&junk, "not a store, only words, and enough of them to be longer than a header".repeat(9))
        .unwrap();
    let output = run(&["restore", "--data-dir", data, junk.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(!folder.path().join("hearken.db").exists());
}

//! `hearken serve` as a process: settings from file, variables and flags, what it refuses, and how it stops.

mod common;

use std::process::{Output, Stdio};

use common::{Program, command};

fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = command(arguments);
    let Output { status, stderr, .. } = command.envs(environment.iter().copied()).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "{stderr}");
    stderr
}

#[test]
fn unknown_settings_are_named_wherever_they_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hearken.toml");
    let with = |toml: &str| {
        std::fs::write(&file, toml).unwrap();
        refused(&["serve", "--config", file.to_str().unwrap()], &[])
    };
    assert!(with("lisen = \"127.0.0.1:1\"").contains("unknown field `lisen`"));
    assert!(with("[limits]\ntext_max = 1").contains("unknown field `text_max`"));
    assert!(with("listen = ").contains("hearken.toml"));
    assert!(refused(&["serve", "--config", "/does/not/exist"], &[]).contains("/does/not/exist"));
    assert!(refused(&["serve", "--lisen", "127.0.0.1:1"], &[]).contains("--lisen"));
    assert!(refused(&["serve", "--limit", "text_max=1"], &[]).contains("text_max"));
    assert!(refused(&["serve"], &[("HEARKEN_LISTEN", "nowhere")]).contains("nowhere"));
    assert!(refused(&["serve"], &[("HEARKEN_PRECISION", "int3")]).contains("int3"));
}

#[test]
fn an_open_server_does_not_listen_where_others_can_reach_it() {
    let said = refused(&["serve", "--listen", "0.0.0.0:0"], &[]);
    assert!(said.contains("--insecure-open") && said.contains("[[keys]]"), "{said}");
}

#[test]
fn flags_override_variables_and_variables_override_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hearken.toml");
    // Every device here is refused by name, so the message tells which one was taken.
    std::fs::write(&file, "device = \"file\"").unwrap();
    let file = file.to_str().unwrap();
    let variable = [("HEARKEN_DEVICE", "variable")];
    assert!(refused(&["serve", "--config", file], &[]).contains("\"file\""));
    assert!(refused(&["serve", "--config", file], &variable).contains("\"variable\""));
    assert!(refused(&["serve", "--config", file, "--device", "flag"], &variable).contains("\"flag\""));
}

#[tokio::test]
async fn it_serves_keeps_what_it_took_and_stops_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::serve(folder.path(), &[]);
    let client = reqwest::Client::new();
    let event = common::mail("a", "1", "the connection is bad");
    let sent = client.post(format!("{}/v1/events", program.base)).json(&event).send().await.unwrap();
    assert_eq!(sent.status(), 202);

    let port = program.base.rsplit(':').next().unwrap();
    let taken = refused(&["serve", "--listen", &format!("127.0.0.1:{port}")], &[]);
    assert!(taken.contains(port) && taken.contains("--listen"), "{taken}");
    let data_dir = folder.path().to_str().unwrap();
    let second = refused(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir], &[]);
    assert!(second.contains("another hearken"), "{second}");

    let stream = client.get(format!("{}/v1/records/contact/1/insights/stream", program.base));
    let _open = stream.send().await.unwrap();
    assert_eq!(program.terminate(), Some(0));

    let program = Program::serve(folder.path(), &[]);
    let insights = format!("{}/v1/records/contact/1/insights", program.base);
    let document: serde_json::Value = client.get(insights).send().await.unwrap().json().await.unwrap();
    assert_eq!(document["meta"]["revision"], 1);
    assert_eq!(program.terminate(), Some(0));
}

#[test]
fn help_teaches_with_examples() {
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["demo", "--help"],
        &["score", "--help"],
        &["verify", "--help"],
    ] {
        let output = command(arguments).stdout(Stdio::piped()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("Example"), "{arguments:?}: {text}");
    }
}

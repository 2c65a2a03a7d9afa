//! `hearken score`: every kind of file, rows that cannot be scored, and going on after an interruption.

mod common;

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use common::{command, engine_pack};
use serde_json::Value;

fn score(pack: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = command(&["score"]);
    command.args(arguments).arg("--models").arg(pack);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses its arguments closes its input early.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn lines(text: &[u8]) -> Vec<Value> {
    std::str::from_utf8(text).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn every_kind_of_file_gives_a_line_per_text_in_order() {
    let pack = engine_pack::pack(7);
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("mails.csv");
    std::fs::write(&csv, b"id,channel,text\n1,email,the connection is bad\n2,chat,\xff\n3,call,thanks!\n")
        .unwrap();
    let output = score(pack.path(), &[csv.to_str().unwrap()], b"");
    let found = lines(&output.stdout);
    assert_eq!(found.len(), 3);
    assert_eq!((&found[0]["id"], &found[0]["channel"]), (&"1".into(), &"email".into()));
    assert!(found[0]["sentiment"]["scores"]["negative"].is_number() && found[0]["keyphrases"].is_array());
    assert!(found[1]["error"]["detail"].as_str().unwrap().contains("UTF-8"));
    assert!(found[2]["intent"]["label"].is_string());

    let jsonl = "{\"text\": \"the connection is bad\", \"n\": 1}\nnot json\n{\"text\": 3}\n";
    let found = lines(&score(pack.path(), &["-", "--tasks", "sentiment"], jsonl.as_bytes()).stdout);
    assert_eq!((found.len(), &found[0]["n"]), (3, &1.into()));
    assert!(found[0]["intent"].is_null() && found[0]["sentiment"]["label"].is_string());
    assert!(found[1]["error"]["status"] == 422 && found[2]["error"]["status"] == 422);

    let found = lines(&score(pack.path(), &[], "thanks!\n\n网络又断了\n".as_bytes()).stdout);
    assert_eq!(found.len(), 3);
    assert!(found[1]["error"]["detail"].as_str().unwrap().contains("empty"));
}

#[test]
fn an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been() {
    let pack = engine_pack::pack(7);
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("texts.txt");
    let texts: Vec<String> = (0..600).map(|i| format!("refund {i}, the connection is bad")).collect();
    std::fs::write(&input, texts.join("\n")).unwrap();
    let out = folder.path().join("scores.jsonl");
    let (input, out) = (input.to_str().unwrap(), out.to_str().unwrap());
    assert!(score(pack.path(), &[input, "--out", out], b"").status.success());
    let whole = std::fs::read(out).unwrap();
    assert_eq!(lines(&whole).len(), 600);

    let refused = score(pack.path(), &[input, "--out", out], b"");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--resume"));
    assert_eq!(std::fs::read(out).unwrap(), whole);

    std::fs::write(out, &whole[..whole.len() / 3]).unwrap();
    assert!(score(pack.path(), &[input, "--out", out, "--resume"], b"").status.success());
    assert!(std::fs::read(out).unwrap() == whole, "the same bytes");
}

//! Every family and task against `transformers`: logits within 1e-4, a ragged batch equal to one text at a time, and what
//! its pipelines answer (labels, scores, entity groups, offsets, embeddings). The models and the answers are made by
//! `tests/clients/make_models.py`. The table in `docs/models.md` is written by
//! `UPDATE_DOCS=1 cargo test --test models_parity`.

mod engine_pack;

use std::path::{Path, PathBuf};

use engine_pack::{options, pack};
use hearken::engine::{
    Aggregation, Engine, Lane, RawInput, RawOutput, RawReply, RawTask, ZeroShot,
    check::{CheckOptions, CheckReport, check},
    source::ModelRequest,
    swap::SwapState,
};
use serde_json::Value;

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn names() -> Vec<String> {
    let folders = std::fs::read_dir(clients().join("models")).unwrap();
    let mut names: Vec<String> = folders.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn report(dir: &Path, precision: &str) -> CheckReport {
    let lengths = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&lengths, "[3, 5]").unwrap();
    let options = CheckOptions {
        device: "cpu".into(),
        precision: precision.into(),
        threads: 1,
        lengths: Some(lengths.path().into()),
    };
    check(dir, &options).unwrap()
}

/// `model_type`, task and type of the weights, as the folder's configuration has them.
fn description(dir: &Path) -> (String, String, String) {
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let word = |key: &str| config[key].as_str().unwrap_or("").to_owned();
    let architecture = config["architectures"][0].as_str().unwrap();
    let task = match architecture.split_once("For") {
        Some((_, task)) => task.to_owned(),
        None => "encoder".into(),
    };
    (word("model_type"), task, word("dtype"))
}

#[test]
fn logits_are_those_of_transformers_in_every_family_and_the_table_says_so() {
    let mut rows = Vec::new();
    for name in names() {
        let dir = clients().join("models").join(&name);
        if !dir.join("expected.json").is_file() {
            continue;
        }
        let (family, task, stored) = description(&dir);
        let f32 = report(&dir, "f32");
        let difference = f32.max_logit_diff.unwrap();
        assert!(difference < 1e-4, "{name}: {difference}");
        assert_eq!(f32.labels_agree, Some(1.0), "{name}");
        let int8 = report(&dir, "int8");
        // Random weights are the hardest case for 8 bits: nothing in them is redundant.
        assert!(int8.labels_agree.unwrap() >= 0.6, "{name}: {int8:?}");
        rows.push(format!(
            "| {family} | {task} | {stored} | {difference:.1e} | {:.2} | {:.1} % |",
            int8.max_logit_diff.unwrap(),
            100.0 * int8.labels_agree.unwrap()
        ));
    }
    assert!(rows.len() >= 6);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md");
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        std::fs::write(&path, format!("{before}{BEGIN}\n{}\n{END}{after}", rows.join("\n"))).unwrap();
    }
}

/// Where the rows of the table stand.
const BEGIN: &str = "|---|---|---|---|---|---|";
const END: &str = "<!-- end of the table -->";

/// An engine with every model of the folder in a slot of its name.
fn engine() -> Engine {
    let pack = pack(1);
    let engine = Engine::open(&options(pack.path())).unwrap();
    for name in names() {
        let id = engine.put_model(&name, ModelRequest::path(clients().join("models").join(&name))).unwrap();
        let swap = engine.wait_for_swap(id).unwrap();
        assert_eq!(swap.state, SwapState::Serving, "{name}: {:?}", swap.reason);
    }
    engine
}

async fn ask(engine: &Engine, name: &str, texts: &[RawInput], task: RawTask) -> RawReply {
    engine.ask(name, texts.to_vec(), task, Lane::Interactive, None).await.unwrap()
}

fn near(got: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((got - expected).abs() < 1e-4, "{what}: {got} instead of {expected}");
}

/// Scores by label, as a pipeline lists them.
fn labels_agree(reply: &RawReply, at: usize, expected: &Value, what: &str) {
    let RawOutput::Labels { probabilities, .. } = &reply.results[at].as_ref().unwrap().output else {
        panic!()
    };
    assert_eq!(expected.as_array().unwrap().len(), probabilities.len(), "{what}");
    for row in expected.as_array().unwrap() {
        let place = reply.model.labels.iter().position(|l| row["label"] == l.as_str()).unwrap();
        near(probabilities[place], &row["score"], what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_pipelines() {
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(clients().join("pipelines.json")).unwrap()).unwrap();
    let texts: Vec<String> = serde_json::from_value(golden["texts"].clone()).unwrap();
    let inputs: Vec<RawInput> = texts.iter().cloned().map(Into::into).collect();
    let engine = tokio::task::spawn_blocking(engine).await.unwrap();
    let mut compared = 0;
    for (name, answers) in golden["models"].as_object().unwrap() {
        for (kind, expected) in answers.as_object().unwrap() {
            let what = format!("{name} {kind}");
            match kind.as_str() {
                "labels" => {
                    let reply = ask(&engine, name, &inputs, RawTask::Labels).await;
                    for i in 0..texts.len() {
                        labels_agree(&reply, i, &expected[i], &what);
                    }
                }
                "pair" => {
                    let pair = RawInput { text: texts[0].clone(), pair: Some(texts[1].clone()) };
                    labels_agree(&ask(&engine, name, &[pair], RawTask::Labels).await, 0, expected, &what);
                }
                "zero_shot" | "zero_shot_multi" => {
                    let labels: Vec<String> = serde_json::from_value(golden["labels"].clone()).unwrap();
                    let question = ZeroShot::new(labels.clone(), None, kind == "zero_shot_multi").unwrap();
                    let reply =
                        engine.zero_shot(name, texts.clone(), &question, Lane::Bulk, None).await.unwrap();
                    for (i, result) in reply.results.iter().enumerate() {
                        let scores = &result.as_ref().unwrap().scores;
                        for (label, score) in expected[i]["labels"]
                            .as_array()
                            .unwrap()
                            .iter()
                            .zip(expected[i]["scores"].as_array().unwrap())
                        {
                            near(
                                scores[labels.iter().position(|l| label == l.as_str()).unwrap()],
                                score,
                                &what,
                            );
                        }
                    }
                }
                "features" => {
                    let reply = ask(&engine, name, &inputs, RawTask::TokenEmbeddings).await;
                    for (i, result) in reply.results.iter().enumerate() {
                        let RawOutput::TokenEmbeddings(rows) = &result.as_ref().unwrap().output else {
                            panic!()
                        };
                        let expected = expected[i][0].as_array().unwrap();
                        assert_eq!(rows.len(), expected.len(), "{what}");
                        for (row, expected) in rows.iter().zip(expected) {
                            row.iter()
                                .zip(expected.as_array().unwrap())
                                .for_each(|(x, e)| near(f64::from(*x), e, &what));
                        }
                    }
                }
                strategy => {
                    let aggregation = match strategy {
                        "none" => Aggregation::None,
                        "simple" => Aggregation::Simple,
                        "first" => Aggregation::First,
                        "average" => Aggregation::Average,
                        "max" => Aggregation::Max,
                        other => panic!("{other}"),
                    };
                    let reply = ask(&engine, name, &inputs, RawTask::Entities(aggregation)).await;
                    for (i, result) in reply.results.iter().enumerate() {
                        let RawOutput::Entities(found) = &result.as_ref().unwrap().output else { panic!() };
                        let expected = expected[i].as_array().unwrap();
                        let key = if strategy == "none" { "entity" } else { "entity_group" };
                        let ours: Vec<_> = found
                            .iter()
                            .map(|e| (e.label.as_str(), e.word.as_str(), e.start as u64, e.end as u64))
                            .collect();
                        let theirs: Vec<_> = expected
                            .iter()
                            .map(|e| {
                                (
                                    e[key].as_str().unwrap(),
                                    e["word"].as_str().unwrap(),
                                    e["start"].as_u64().unwrap(),
                                    e["end"].as_u64().unwrap(),
                                )
                            })
                            .collect();
                        assert_eq!(ours, theirs, "{what} {:?}", texts[i]);
                        for (e, expected) in found.iter().zip(expected) {
                            near(e.score, &expected["score"], &what);
                            assert_eq!(e.index.map(|i| i as u64), expected["index"].as_u64());
                        }
                    }
                }
            }
            compared += 1;
        }
    }
    assert!(compared >= 15, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ragged_batch_is_one_text_after_the_other() {
    let engine = tokio::task::spawn_blocking(engine).await.unwrap();
    let text = "Maria from Berlin ordered two routers. 网络又断了。 ";
    let inputs: Vec<RawInput> = (1..6).map(|n| text.repeat(n * n).into()).collect();
    for name in names() {
        let model = engine.model(&name).unwrap();
        let task = match model.task.name() {
            "text-classification" => RawTask::Labels,
            "token-classification" => RawTask::Entities(Aggregation::Average),
            _ => RawTask::Embedding { pooling: None, normalize: true },
        };
        let together = ask(&engine, &name, &inputs, task).await;
        for (input, expected) in inputs.iter().zip(together.results) {
            let alone = ask(&engine, &name, std::slice::from_ref(input), task).await;
            assert_eq!(alone.results[0].as_ref().unwrap(), &expected.unwrap(), "{name}");
        }
    }
}

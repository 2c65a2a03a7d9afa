//! Models that take each other's place while texts are scored: nothing is lost, nothing is mixed, memory stays flat, and
//! models with one trunk share a forward pass. Not covered here: the routes that ask for it (`http_models.rs`).

mod engine_pack;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use engine_pack::{
    Random, Shape, add_affine, encoder, encoder_config, engine, interactive, options, pack_of, plain, small,
    words,
};
use hearken::{
    engine::{
        Engine, Lane, RawOutput, RawTask, ScoreOptions, Tasks,
        source::{LabelMap, ModelRequest},
        swap::{Swap, SwapState},
    },
    scores::Scores,
};
use serde_json::json;
use tempfile::TempDir;

fn put(engine: &Engine, slot: &str, dir: &Path) -> Swap {
    put_as(engine, slot, dir, &[])
}

fn put_as(engine: &Engine, slot: &str, dir: &Path, labels: &[(&str, &str)]) -> Swap {
    let labels: LabelMap = labels.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let id = engine.put_model(slot, ModelRequest { labels, ..ModelRequest::path(dir) }).unwrap();
    engine.wait_for_swap(id).unwrap()
}

async fn scores(engine: &Engine, text: &str) -> Scores {
    engine.score(vec![text.into()], interactive()).await.unwrap().results.remove(0).unwrap()
}

fn classifier(trunk: u64, labels: &[&str], seed: u64) -> TempDir {
    plain(trunk, "BertForSequenceClassification", labels, seed)
}

/// A pack so small that two hundred of them load in seconds.
fn tiny(seed: u64) -> TempDir {
    let shape = Shape { layers: 1, hidden: 16, heads: 2, intermediate: 32, ..small() };
    let mut random = Random::new(seed);
    let mut tensors = encoder(&mut random, "", shape);
    add_affine(&mut tensors, &mut random, "heads.sentiment.out_proj", 3, shape.hidden);
    let mut config = encoder_config("bert", shape);
    config["hearken"] = json!({"name": "tiny", "heads": {
        "sentiment": {"task": "text-classification", "labels": ["negative", "neutral", "positive"]},
    }});
    pack_of(&config, &tensors)
}

/// Resident memory in KiB and threads of this process, where the system tells.
fn footprint() -> Option<(usize, usize)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let number = |key: &str| {
        let line = status.lines().find(|l| l.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    };
    Some((number("VmRSS:")?, number("Threads:")?))
}

/// Good and failed swaps of each kind.
const SWAPS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_good_and_a_hundred_failed_swaps_under_load_lose_and_mix_nothing() {
    let packs = [tiny(1), tiny(2)];
    let (wrong_labels, cut) = (tiny(3), tiny(3));
    let path = wrong_labels.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("[\"negative\",\"neutral\",\"positive\"]", "[\"x\",\"y\",\"z\"]"))
        .unwrap();
    let weights = cut.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();

    // What each of the two says, asked alone.
    let text = "the connection is bad. Thanks!";
    let mut alone = Vec::new();
    for pack in &packs {
        let engine = Engine::open(&options(pack.path())).unwrap();
        let reply = engine.score(vec![text.into()], interactive()).await.unwrap();
        alone.push((reply.models["sentiment"].revision.clone(), reply.results[0].clone().unwrap()));
    }
    assert_ne!(alone[0].1.sentiment, alone[1].1.sentiment);

    let engine = Engine::open(&options(packs[0].path())).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let load: Vec<_> = (0..3)
        .map(|i| {
            let (engine, stop, answered, alone) =
                (engine.clone(), stop.clone(), answered.clone(), alone.clone());
            let options =
                ScoreOptions { lane: if i == 0 { Lane::Bulk } else { Lane::Interactive }, ..interactive() };
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let tasks = Tasks { intent: false, keyphrases: false, ..Tasks::ALL };
                    let options = ScoreOptions { tasks, ..options.clone() };
                    let reply = engine.score(vec![text.into(); 2], options).await.unwrap();
                    let revision = &reply.models["sentiment"].revision;
                    let model = alone.iter().position(|(known, _)| known == revision).unwrap();
                    for result in &reply.results {
                        assert_eq!(result.as_ref().unwrap().sentiment, alone[model].1.sentiment);
                    }
                    answered[model].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    let swapping = engine.clone();
    let footprints = tokio::task::spawn_blocking(move || {
        let mut after_warm_up = None;
        for i in 1..=SWAPS {
            let swap = put(&swapping, "sentiment", packs[i % 2].path());
            assert_eq!(swap.state, SwapState::Serving, "{:?}", swap.reason);
            let failed =
                put(&swapping, "sentiment", if i % 2 == 0 { cut.path() } else { wrong_labels.path() });
            assert_eq!(failed.state, SwapState::Failed);
            let reason = failed.reason.unwrap();
            assert!(
                reason.contains("not a whole safetensors file") || reason.contains("has the labels x, y, z")
            );
            if i == SWAPS / 5 {
                after_warm_up = footprint();
            }
        }
        after_warm_up.zip(footprint())
    })
    .await
    .unwrap();
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    assert!(answered.iter().all(|n| n.load(Ordering::Relaxed) > 10), "{answered:?}");
    if let Some(((kib_before, threads_before), (kib, threads))) = footprints {
        // Each model that stayed would keep its threads, its buffers and its tokenizer.
        assert!(threads <= threads_before + 8, "{threads_before} threads became {threads}");
        assert!(kib <= kib_before + 12 * 1024, "{kib_before} KiB became {kib}");
    }
}

#[tokio::test]
async fn models_with_one_trunk_share_it_and_others_do_not() {
    let engine = engine(1);
    let text = "the connection is bad. the support is bad";
    let before = scores(&engine, text).await;
    let trunk = |slot: &str| engine.models().into_iter().find(|m| m.slot == slot).unwrap().trunk;

    // A fine-tune with a frozen trunk, loaded by itself: one pass answers for it and the pack's other heads.
    let same = classifier(1, &["POSITIVE", "NEGATIVE"], 40);
    let swap = put(&engine, "sentiment", same.path());
    assert_eq!(swap.state, SwapState::Serving, "{:?}", swap.reason);
    assert_eq!(trunk("sentiment"), trunk("intent"));
    let shared = scores(&engine, text).await;
    assert_eq!(shared.intent, before.intent);
    let sentiment = shared.sentiment.clone().unwrap();
    assert_ne!(Some(&sentiment), before.sentiment.as_ref());
    // Two classes leave nothing for the third of ours.
    assert_eq!(sentiment.probabilities[1], 0.0);
    let phrases =
        |s: &Scores| s.keyphrases.as_ref().unwrap().iter().map(|k| (k.start, k.end)).collect::<Vec<_>>();
    assert_eq!(phrases(&shared), phrases(&before));

    // Another trunk: a pass of its own, the same answers from the slots that stayed.
    let other = classifier(2, &["POSITIVE", "NEGATIVE"], 41);
    assert_eq!(put(&engine, "sentiment", other.path()).state, SwapState::Serving);
    assert_ne!(trunk("sentiment"), trunk("intent"));
    let reply = engine.score(vec![text.into(), " ".into()], interactive()).await.unwrap();
    assert_ne!(reply.models["sentiment"].revision, reply.models["intent"].revision);
    assert!(reply.results[1].is_err());
    let apart = reply.results[0].as_ref().unwrap();
    assert_eq!((apart.intent.as_ref(), phrases(apart)), (before.intent.as_ref(), phrases(&before)));
    // The new sentiment model judges whole texts only, so a phrase has the sentiment of its text.
    let label = apart.sentiment.as_ref().unwrap().label;
    assert!(apart.keyphrases.as_ref().unwrap().iter().all(|k| k.sentiment == Some(label)));
    let only = ScoreOptions { tasks: Tasks { sentiment: false, ..Tasks::ALL }, ..interactive() };
    let reply = engine.score(vec![text.into()], only).await.unwrap();
    assert!(reply.results[0].as_ref().unwrap().sentiment.is_none());
    assert_eq!(reply.results[0].as_ref().unwrap().keyphrases, apart.keyphrases);
}

#[tokio::test]
async fn labels_are_mapped_by_the_request_and_refused_with_a_hint() {
    let engine = engine(1);
    let stars = classifier(4, &["1 star", "2 stars", "3 stars", "4 stars", "5 stars"], 42);
    assert_eq!(put(&engine, "sentiment", stars.path()).state, SwapState::Serving);
    let own =
        engine.ask("sentiment", vec!["I".to_string().into()], RawTask::Labels, Lane::Interactive, None).await;
    let own = own.unwrap();
    assert_eq!(own.model.labels[0], "1 star");
    let RawOutput::Labels { probabilities, .. } = &own.results[0].as_ref().unwrap().output else { panic!() };
    let ours = scores(&engine, "I").await.sentiment.unwrap().probabilities;
    assert!((f64::from(ours[0]) - probabilities[0] - probabilities[1]).abs() < 1e-4);
    assert!((f64::from(ours[1]) - probabilities[2]).abs() < 1e-4);

    let unnamed = classifier(4, &["LABEL_0", "LABEL_1"], 43);
    let refused = put(&engine, "sentiment", unnamed.path());
    assert_eq!(refused.state, SwapState::Failed);
    assert!(refused.reason.unwrap().contains("Say what LABEL_0, LABEL_1 mean with \"labels\": {\"LABEL_0\""));
    assert_eq!(engine.model("sentiment").unwrap().labels.len(), 5);
    let mapped =
        put_as(&engine, "sentiment", unnamed.path(), &[("LABEL_0", "negative"), ("LABEL_1", "positive")]);
    assert_eq!(mapped.state, SwapState::Serving);

    // In a slot of one's own the names are new names.
    assert_eq!(put_as(&engine, "spam", unnamed.path(), &[("LABEL_1", "spam")]).state, SwapState::Serving);
    assert_eq!(engine.model("spam").unwrap().labels, ["LABEL_0", "spam"]);
    assert!(
        put_as(&engine, "spam", unnamed.path(), &[("no", "spam")]).reason.unwrap().contains("does not have")
    );
    assert!(put(&engine, "keyphrases", unnamed.path()).reason.unwrap().contains("not a token classifier"));
    assert!(
        put(&engine, "zero-shot", unnamed.path()).reason.unwrap().contains("needs a classifier of pairs")
    );
    let nowhere = put(&engine, "spam", Path::new("/nowhere")).reason.unwrap();
    assert_eq!(nowhere, "/nowhere: is no folder with a config.json");

    assert!(engine.remove_model("sentiment").unwrap_err().to_string().contains("documents need a model"));
    engine.remove_model("spam").unwrap();
    let gone = engine
        .ask("spam", vec![words(&mut Random::new(1), 3).into()], RawTask::Labels, Lane::Bulk, None)
        .await;
    assert_eq!(gone.err().unwrap().to_string(), "no model is named \"spam\"");
}

//! What callers of the engine see: answers in order, one bad text beside good ones, long texts, offsets, overload,
//! deadlines, lanes and shutdown. Not covered here: the numbers themselves (`engine_parity.rs`).

mod engine_pack;

use std::time::{Duration, Instant};

use engine_pack::{Random, engine, interactive, options, pack, words};
use hearken::{
    engine::{Engine, EngineError, Lane, ScoreOptions, Tasks, TextError},
    text::offsets::slice,
};

#[tokio::test]
async fn scores_every_task_and_keeps_one_bad_text_to_itself() {
    let engine = engine(1);
    let texts = vec!["the connection is bad. Thanks!".into(), "  \n".into(), "网络又断了".into()];
    let reply = engine.score(texts, interactive()).await.unwrap();
    assert!(matches!(reply.results[1], Err(TextError::Empty)));
    for i in [0, 2] {
        let scores = reply.results[i].as_ref().unwrap();
        let sentiment = scores.sentiment.as_ref().unwrap();
        assert!((sentiment.probabilities.iter().sum::<f32>() - 1.0).abs() < 2e-3);
        assert_eq!(scores.intent.as_ref().unwrap().probabilities.len(), 4);
        assert!(scores.keyphrases.is_some() && !scores.truncated && scores.tokens > 0);
    }
    assert_eq!(reply.results[0].as_ref().unwrap().sentences.len(), 2);
    assert_eq!(reply.models["sentiment"].name, "random");
    assert!(reply.models["intent"].revision.starts_with("sha256:"));
    assert!(reply.timing.total_ms >= reply.timing.forward_ms && reply.tokens > 10);
}

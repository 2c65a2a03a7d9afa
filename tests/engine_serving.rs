//! What callers of the engine see: answers in order, one bad text beside good ones, long texts, offsets, overload,
//! deadlines, lanes and shutdown. Not covered here: the numbers themselves (`engine_parity.rs`).

mod engine_pack;

use std::time::{Duration, Instant};

use engine_pack::{
    MAX_TOKENS, Random, config, engine, interactive, options, pack, pack_of, tensors, tokenizer, words,
};
use hearken::{
    engine::{Engine, EngineError, Lane, ScoreOptions, Tasks, TextError},
    scores::Scores,
    text::offsets::slice,
};
use serde_json::json;

fn bulk() -> ScoreOptions {
    ScoreOptions { lane: Lane::Bulk, ..interactive() }
}

async fn score(engine: &Engine, text: &str) -> Scores {
    engine.score(vec![text.into()], interactive()).await.unwrap().results.remove(0).unwrap()
}

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
        assert!(scores.emotion.is_some());
    }
    assert_eq!(reply.results[0].as_ref().unwrap().sentences.len(), 2);
    assert_eq!(reply.results[2].as_ref().unwrap().language.as_deref(), Some("zh"));
    assert_eq!(reply.models["sentiment"].name, "random");
    assert!(reply.models["intent"].revision.starts_with("sha256:"));
    assert!(reply.timing.total_ms >= reply.timing.forward_ms && reply.tokens > 10);
}

#[tokio::test]
async fn only_what_is_asked_for_is_answered() {
    let engine = engine(1);
    let tasks = Tasks { sentiment: false, intent: true, keyphrases: false, emotion: false };
    let reply = engine.score(vec!["I".into()], ScoreOptions { tasks, ..interactive() }).await.unwrap();
    let scores = reply.results[0].as_ref().unwrap();
    assert!(scores.intent.is_some() && scores.sentiment.is_none() && scores.keyphrases.is_none());
    assert!(scores.emotion.is_none());
    assert!(scores.sentences.is_empty());
    assert_eq!(reply.models.keys().copied().collect::<Vec<_>>(), ["intent"]);
    assert!(engine.score(Vec::new(), interactive()).await.unwrap().results.is_empty());
}

#[tokio::test]
async fn offsets_cut_out_exactly_the_keyphrase_in_every_script() {
    let engine = engine(2);
    let mut random = Random::new(3);
    for alphabet in ["网络断退款客服态度", "خدمة العملاء سيئ", "😭 👍🏽 ❤️ 😭👍🏽", "café ñ quality. (again)"]
    {
        let mut found = 0;
        for _ in 0..12 {
            let characters: Vec<char> = alphabet.chars().collect();
            let text: String = (0..150).map(|_| characters[random.below(characters.len())]).collect();
            if text.trim().is_empty() {
                continue;
            }
            let scores = score(&engine, &text).await;
            let mut end = 0;
            for phrase in scores.keyphrases.unwrap() {
                assert_eq!(slice(&text, phrase.start, phrase.end), phrase.text);
                assert!(phrase.start >= end && phrase.end > phrase.start, "{phrase:?} overlaps");
                assert_eq!(phrase.text.trim(), phrase.text);
                assert!((0.0..=1.0).contains(&phrase.score) && phrase.sentiment.is_some());
                end = phrase.end;
                found += 1;
            }
            for sentence in scores.sentences {
                let cut = slice(&text, sentence.start, sentence.end);
                assert!(!cut.is_empty() && cut.trim() == cut);
            }
        }
        assert!(found > 5, "{alphabet}: {found} phrases");
    }
}

#[tokio::test]
async fn long_texts_are_read_to_the_end_at_linear_cost() {
    let engine = engine(2);
    let mut random = Random::new(4);
    let text = words(&mut random, 5_000);
    let scores = score(&engine, &text).await;
    let expected = tokenizer().encode(text.as_str(), false).unwrap().len();
    assert!(expected > 200 * MAX_TOKENS / 3);
    assert_eq!((scores.tokens as usize, scores.truncated), (expected, false));
    let characters = text.chars().count() as u32;
    let phrases = scores.keyphrases.unwrap();
    assert!(phrases.last().unwrap().end > characters - 200);
    assert!(phrases.windows(2).all(|p| p[0].end <= p[1].start));
    assert!(scores.sentences.last().unwrap().end > characters - 400);
    assert!(phrases.iter().all(|p| slice(&text, p.start, p.end) == p.text));

    // What lies beyond the limit is not read, and the answer says so.
    let longer = words(&mut random, 10_000);
    let scores = score(&engine, &longer).await;
    assert_eq!((scores.tokens, scores.truncated), (32_768, true));
    assert!(scores.sentiment.is_some());
}

#[tokio::test]
async fn a_repeated_text_keeps_its_label_over_windows() {
    // Windows of one repeated sentence differ only at their edges, so their mean must be close to a window's own.
    let engine = engine(2);
    let sentence = "the support is bad. ";
    let one = score(&engine, &sentence.repeat(2)).await.sentiment.unwrap();
    let many = score(&engine, &sentence.repeat(60)).await.sentiment.unwrap();
    for (a, b) in one.probabilities.iter().zip(&many.probabilities) {
        assert!((a - b).abs() < 0.2, "{one:?} {many:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_get_their_own_answers_in_order() {
    let engine = engine(5);
    let mut random = Random::new(6);
    let requests: Vec<Vec<String>> = (0..40)
        .map(|i| {
            (0..1 + i % 4)
                .map(|_| {
                    let n = 1 + random.below(30);
                    words(&mut random, n)
                })
                .collect()
        })
        .collect();
    let mut alone = Vec::new();
    for text in requests.iter().flatten() {
        alone.push(score(&engine, text).await);
    }
    let waiting: Vec<_> = requests
        .iter()
        .enumerate()
        .map(|(i, texts)| {
            let (engine, texts) = (engine.clone(), texts.clone());
            let options = if i % 3 == 0 { bulk() } else { interactive() };
            tokio::spawn(async move { engine.score(texts, options).await.unwrap() })
        })
        .collect();
    let mut expected = alone.into_iter();
    for (request, texts) in waiting.into_iter().zip(&requests) {
        let reply = request.await.unwrap();
        assert_eq!(reply.results.len(), texts.len());
        for result in reply.results {
            assert_eq!(result.unwrap(), expected.next().unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_loses_nothing() {
    let dir = pack(1);
    let engine =
        Engine::open(&hearken::engine::EngineOptions { queue_tokens_max: 600, ..options(dir.path()) })
            .unwrap();
    let text = words(&mut Random::new(7), 50);
    let waiting: Vec<_> = (0..60)
        .map(|_| {
            let (engine, text) = (engine.clone(), text.clone());
            tokio::spawn(async move { engine.score(vec![text; 2], bulk()).await })
        })
        .collect();
    let (mut answered, mut refused) = (0, 0);
    for request in waiting {
        match request.await.unwrap() {
            Ok(reply) => {
                assert!(reply.results.iter().all(Result::is_ok));
                answered += 1;
            }
            Err(EngineError::Overloaded { queue_tokens_max: 600, retry_after }) => {
                assert!(retry_after >= Duration::from_millis(100));
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(answered + refused, 60);
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    assert!(engine.score(vec![text], bulk()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_would_be_answered_too_late_is_refused_at_once() {
    let engine = engine(1);
    let text = words(&mut Random::new(9), 50);
    // As long as twenty such requests take on this machine now: most of four hundred cannot be in time.
    let begun = Instant::now();
    engine.score(vec![text.clone(); 4], interactive()).await.unwrap();
    let deadline = 20 * begun.elapsed().max(Duration::from_millis(5));
    let options = ScoreOptions { deadline: Some(deadline), ..interactive() };
    let waiting: Vec<_> = (0..400)
        .map(|_| {
            let (engine, text, options) = (engine.clone(), text.clone(), options.clone());
            tokio::spawn(async move { engine.score(vec![text; 4], options).await })
        })
        .collect();
    let (mut answered, mut refused) = (0, 0);
    for request in waiting {
        match request.await.unwrap() {
            Ok(reply) => {
                assert!(reply.results.iter().all(Result::is_ok));
                answered += 1;
            }
            Err(EngineError::TooLate { wait_ms, wait_ms_max, retry_after }) => {
                assert_eq!(u128::from(wait_ms_max), deadline.as_millis());
                assert!(u128::from(wait_ms) >= deadline.as_millis() * 9 / 10, "{wait_ms} {wait_ms_max}");
                assert!(retry_after >= Duration::from_millis(100));
                refused += 1;
            }
            // Admitted, and then other work took longer than it had so far.
            Err(EngineError::DeadlineExceeded) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    // Nothing goes first any more.
    assert!(engine.score(vec!["thanks!".into()], interactive()).await.is_ok());
}

#[tokio::test]
async fn work_past_its_deadline_is_not_begun() {
    let engine = engine(1);
    let late = ScoreOptions { deadline: Some(Duration::ZERO), ..interactive() };
    let error = engine.score(vec!["thanks!".into()], late).await.err().unwrap();
    assert_eq!(error.to_string(), "the deadline passed before the work began");
    let in_time = ScoreOptions { deadline: Some(Duration::from_secs(60)), ..interactive() };
    assert!(engine.score(vec!["thanks!".into()], in_time).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_overtakes_bulk_and_bulk_still_ends() {
    let engine = engine(1);
    let mut random = Random::new(9);
    let texts: Vec<String> = (0..400).map(|_| words(&mut random, 40)).collect();
    let count = texts.len();
    let large = tokio::spawn({
        let engine = engine.clone();
        async move { engine.score(texts, bulk()).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut chats = 0;
    let begun = Instant::now();
    while !large.is_finished() {
        score(&engine, "is the support bad?").await;
        chats += 1;
        assert!(begun.elapsed() < Duration::from_secs(60), "bulk work was starved");
    }
    assert!(chats > 3, "{chats} chats were answered while the bulk request ran");
    assert_eq!(large.await.unwrap().results.iter().flatten().count(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_answers_what_was_admitted_and_refuses_the_rest() {
    let engine = engine(1);
    let text = words(&mut Random::new(10), 40);
    let mut waiting: Vec<_> =
        (0..10).map(|_| Box::pin(engine.score(vec![text.clone(); 20], bulk()))).collect();
    // Polled once, a request is admitted.
    for request in &mut waiting {
        assert!(futures::poll!(request.as_mut()).is_pending());
    }
    let shutdown = engine.shutdown();
    let (replies, ()) = tokio::join!(futures::future::join_all(waiting), shutdown);
    assert!(replies.iter().all(Result::is_ok));
    let refused = engine.score(vec![text], interactive()).await.err().unwrap();
    assert!(matches!(refused, EngineError::ShuttingDown));
}

#[tokio::test]
async fn numbers_that_are_not_finite_never_become_a_label() {
    let damaged = tokenizer().token_to_id("9").unwrap() as usize;
    let mut weights = tensors(1);
    let hidden = engine_pack::small().hidden;
    weights.get_mut("embeddings.word_embeddings.weight").unwrap().1[damaged * hidden + 3] = f32::NAN;
    let dir = pack_of(&config(), &weights);
    for precision in ["f32", "int8"] {
        let engine = Engine::open(&hearken::engine::EngineOptions {
            precision: precision.into(),
            ..options(dir.path())
        })
        .unwrap();
        let texts = vec!["the 9".into(), "the".into()];
        let reply = engine.score(texts, interactive()).await.unwrap();
        assert!(matches!(reply.results[0], Err(TextError::NotFinite)), "{precision}");
        assert!(reply.results[1].is_ok(), "{precision}");
    }
}

#[test]
fn packs_that_do_not_fit_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut config = config();
        change(&mut config);
        let dir = pack_of(&config, &tensors(1));
        Engine::open(&options(dir.path())).err().unwrap().to_string()
    };
    assert_eq!(
        refused(&|c| c["hearken"]["heads"]["sentiment"]["labels"] = json!(["x", "neutral", "positive"])),
        "head sentiment: has the labels x, neutral, positive; it must have negative, neutral, positive. Say what x means \
         with \"labels\": {\"x\": \"negative\", ...}"
    );
    assert_eq!(
        refused(&|c| c["hearken"]["heads"]["keyphrases"]["labels"] = json!(["O", "B-KEY", "X"])),
        "head keyphrases: has the labels O, B-KEY, X; it must have O and B-... or I-...; \"labels\" can rename them"
    );
    assert_eq!(
        refused(&|c| c["num_hidden_layers"] = json!(3)),
        "tensor encoder.layer.2.attention.self.query.weight: missing"
    );
    assert!(refused(&|c| c["model_type"] = json!("t5")).contains("model type \"t5\" is not supported"));
    assert!(refused(&|c| c["vocab_size"] = json!(100)).contains("tokenizer.json: has the token id"));
    assert!(
        refused(&|c| c["vocab_size"] = json!(10_000))
            .contains("embeddings.word_embeddings.weight: has shape")
    );

    let dir = pack(1);
    let unknown = hearken::engine::EngineOptions { precision: "int4".into(), ..options(dir.path()) };
    let error = Engine::open(&unknown).err().unwrap().to_string();
    assert_eq!(error, "precision \"int4\" is not one of auto, f32, bf16, int8, f16");
    let cuda = hearken::engine::EngineOptions { device: "cuda:99".into(), ..options(dir.path()) };
    let info = Engine::open(&cuda).unwrap().info();
    assert_eq!(info.device, "cpu");
    let reason = info.device_reason.unwrap();
    assert!(reason.starts_with("cuda:99 was asked for, but "), "{reason}");
}

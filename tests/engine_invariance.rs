//! A text's logits are the same, bit for bit, whatever shares its batch and however many threads there are: documents
//! that are scored again must come out byte for byte the same. Holds for every arithmetic of the CPU executor.

mod engine_pack;

use engine_pack::{Bare, POOLED, Random, Shape, TOKENS, interactive, packed, sequences, words};
use hearken::{
    engine::{
        cpu::{CpuExecutor, Precision},
        executor::Executor,
    },
    scores::Scores,
};

/// Wide enough that the matrix kernels cut in every direction, and with widths that are no multiple of their tiles.
const SHAPE: Shape = Shape {
    layers: 2,
    hidden: 276,
    heads: 6,
    intermediate: 610,
    vocabulary: 300,
    positions: 320,
    token_types: 2,
};

/// Bits of the pooled and the token logits of each text.
fn logits(executor: &CpuExecutor, texts: &[&Vec<u32>]) -> Vec<Vec<u32>> {
    let (batch, rows) = packed(texts);
    let encoded = executor.encode(&batch).unwrap();
    let pooled = encoded.pooled_logits(POOLED, &rows).unwrap();
    let tokens = encoded.token_logits(TOKENS, &rows).unwrap();
    let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    rows.iter()
        .enumerate()
        .map(|(i, row)| {
            let mut all = bits(&pooled[3 * i..3 * i + 3]);
            all.extend(bits(&tokens[3 * row.start..3 * row.end]));
            all
        })
        .collect()
}

#[test]
fn logits_do_not_depend_on_the_batch_or_the_threads() {
    let model = Bare::new(8, SHAPE);
    let mut random = Random::new(21);
    let lengths = [1, 1, 2, 3, 5, 6, 7, 11, 23, 24, 25, 48, 71, 72, 73, 96, 97, 130, 193, 257, 300];
    let texts = sequences(&mut random, &lengths, SHAPE.vocabulary);
    for arithmetic in [Precision::F32, Precision::Int8] {
        let one_thread = model.executor(arithmetic, 1);
        let alone: Vec<Vec<u32>> = texts.iter().map(|t| logits(&one_thread, &[t]).remove(0)).collect();
        for threads in [1, 2, 3, 5] {
            let executor = model.executor(arithmetic, threads);
            for round in 0..4 {
                let chosen: Vec<usize> =
                    (0..1 + random.below(24)).map(|_| random.below(texts.len())).collect();
                let together = logits(&executor, &chosen.iter().map(|i| &texts[*i]).collect::<Vec<_>>());
                for (i, got) in chosen.iter().zip(&together) {
                    assert!(
                        got == &alone[*i],
                        "{arithmetic:?}, {threads} threads, round {round}: text of {} tokens in {chosen:?}",
                        texts[*i].len()
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn scores_do_not_depend_on_who_else_asks() {
    let engine = engine_pack::engine(4);
    let mut random = Random::new(2);
    // Some are longer than one window.
    let texts: Vec<String> = (0..30).map(|i| words(&mut random, 1 + i * 2)).collect();
    let mut alone: Vec<Scores> = Vec::new();
    for text in &texts {
        let mut reply = engine.score(vec![text.clone()], interactive()).await.unwrap();
        alone.push(reply.results.remove(0).unwrap());
    }
    let together = engine.score(texts.clone(), interactive()).await.unwrap();
    let reversed = engine.score(texts.iter().rev().cloned().collect(), interactive());
    let (reversed, again) = tokio::join!(reversed, engine.score(texts.clone(), interactive()));
    let (reversed, again) = (reversed.unwrap(), again.unwrap());
    for (i, expected) in alone.iter().enumerate() {
        assert_eq!(together.results[i].as_ref().unwrap(), expected);
        assert_eq!(reversed.results[texts.len() - 1 - i].as_ref().unwrap(), expected);
        assert_eq!(again.results[i].as_ref().unwrap(), expected);
    }
}

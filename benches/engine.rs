//! Forward passes of three shapes of encoder, in tokens per second: ragged customer messages, texts of one length, a
//! lone short text and a long one.
//!
//! Bound by: matrix products for xlmr-base; for mini and minilm about as much by what lies between them (attention,
//! norms, activations); the lone short text by reading every weight once for few rows, and by waking threads.
//!
//! `cargo bench --bench engine`, or one shape: `cargo bench --bench engine -- mini`. Weights are random: speed does not
//! depend on them. Every arithmetic is built from the same checkpoint.

#[path = "../tests/engine_pack/mod.rs"]
mod engine_pack;

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine_pack::{Bare, POOLED, Random, Shape, packed, sequences};
use hearken::engine::{check::usual_lengths, cpu::Precision, executor::Executor};

const fn shape(layers: usize, hidden: usize, heads: usize, intermediate: usize) -> Shape {
    // The vocabulary costs memory and no arithmetic.
    Shape { layers, hidden, heads, intermediate, vocabulary: 10_000, positions: 512, token_types: 2 }
}

const SHAPES: [(&str, Shape); 3] = [
    ("mini", shape(6, 256, 4, 1024)),
    ("minilm", shape(6, 384, 12, 1536)),
    ("xlmr-base", shape(12, 768, 12, 3072)),
];

const ARITHMETICS: [(&str, Precision); 2] = [("f32", Precision::F32), ("int8", Precision::Int8)];

fn forward(c: &mut Criterion) {
    let workloads = [
        ("64 ragged texts", usual_lengths()),
        ("16 texts of 128 tokens", vec![128; 16]),
        ("one text of 24", vec![24]),
        ("one of 512", vec![512]),
    ];
    for (name, shape) in SHAPES {
        // Random weights of a large shape take seconds to make: only for what the command line asks for.
        if std::env::args().skip(1).any(|a| SHAPES.iter().any(|(n, _)| *n == a) && a != name) {
            continue;
        }
        let model = Bare::new(1, shape);
        for (precision, arithmetic) in ARITHMETICS {
            let executor = model.executor(arithmetic, 0);
            let mut group = c.benchmark_group(format!("{name} {precision}"));
            for (workload, lengths) in &workloads {
                let texts = sequences(&mut Random::new(2), lengths, shape.vocabulary);
                let (batch, rows) = packed(&texts.iter().collect::<Vec<_>>());
                group.throughput(Throughput::Elements(batch.tokens() as u64));
                group.bench_function(*workload, |b| {
                    b.iter(|| executor.encode(&batch).unwrap().pooled_logits(POOLED, &rows).unwrap());
                });
            }
            group.finish();
        }
    }
}

criterion_group! {
    name = engine;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3));
    targets = forward
}
criterion_main!(engine);

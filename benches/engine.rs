//! Forward passes of the shape of the default pack (6 layers of 384, vocabulary of 40,000) on ragged customer messages,
//! in tokens per second. The products alone are in the benches of `kernels/cpu`.
//!
//! `cargo bench --bench engine`. Weights are random: speed does not depend on them.

#[path = "../tests/engine_pack/mod.rs"]
mod engine_pack;

use std::{ops::Range, path::Path, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use engine_pack::{Random, Shape, add_affine, encoder, encoder_config, save_tensors};
use hearken::engine::{
    batch::PackedBatch,
    check::usual_lengths,
    cpu::{CpuExecutor, Precision},
    executor::{Executor, HeadId},
    heads,
    spec::EncoderSpec,
    weights::Checkpoint,
};
use serde_json::json;

const SHAPE: Shape = Shape {
    layers: 6,
    hidden: 384,
    heads: 12,
    intermediate: 1536,
    vocabulary: 40_000,
    positions: 512,
    token_types: 2,
};

fn write_model(dir: &Path) {
    let mut random = Random::new(1);
    let mut tensors = encoder(&mut random, "", SHAPE);
    add_affine(&mut tensors, &mut random, "heads.sentiment.dense", SHAPE.hidden, SHAPE.hidden);
    add_affine(&mut tensors, &mut random, "heads.sentiment.out_proj", 3, SHAPE.hidden);
    save_tensors(&tensors, &dir.join("model.safetensors"));
}

fn executor(dir: &Path, precision: Precision) -> CpuExecutor {
    let mut config = encoder_config("bert", SHAPE);
    config["hearken"] = json!({"heads": {
        "sentiment": {"task": "text-classification", "labels": ["negative", "neutral", "positive"]},
    }});
    let spec = EncoderSpec::from_config(&config).unwrap();
    let checkpoint = Checkpoint::open(&dir.join("model.safetensors"), "bert.").unwrap();
    let weights: Vec<_> = heads::heads(&config, &spec, &checkpoint)
        .unwrap()
        .iter()
        .map(|head| head.weights(&checkpoint, spec.hidden).unwrap())
        .collect();
    CpuExecutor::new(&spec, &checkpoint, &weights, precision, 0).unwrap()
}

fn packed(lengths: &[usize]) -> (PackedBatch, Vec<Range<usize>>) {
    let (mut batch, mut random) = (PackedBatch::new(), Random::new(2));
    let rows = lengths
        .iter()
        .map(|n| {
            let first = batch.push((0..*n).map(|_| 5 + random.below(SHAPE.vocabulary - 5) as u32));
            first..first + n
        })
        .collect();
    (batch, rows)
}

fn forward(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let workloads = [
        ("64 ragged texts", usual_lengths()),
        ("one text of 24 tokens", vec![24]),
        ("one of 512", vec![512]),
    ];
    for (precision, name) in [(Precision::F32, "f32"), (Precision::Bf16, "bf16"), (Precision::Int8, "int8")] {
        if precision == Precision::Bf16 && !CpuExecutor::has_bf16() {
            continue;
        }
        let executor = executor(dir.path(), precision);
        let mut group = c.benchmark_group(format!("forward {name}"));
        for (workload, lengths) in &workloads {
            let (batch, rows) = packed(lengths);
            group.throughput(Throughput::Elements(batch.tokens() as u64));
            group.bench_function(*workload, |b| {
                b.iter(|| executor.encode(&batch).unwrap().pooled_logits(HeadId(0), &rows).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = engine;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = forward
}
criterion_main!(engine);

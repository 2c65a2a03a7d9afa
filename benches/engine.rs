//! Forward passes of the shape of the default pack (6 layers of 384, vocabulary of 40,000) on ragged customer messages,
//! in tokens per second; and the matrix products of the same pass alone, which shows what everything else costs.
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
    cpu::{Arithmetic, CpuExecutor},
    executor::{Executor, HeadId},
    heads,
    spec::EncoderSpec,
    weights::Checkpoint,
};
use rten_gemm::{GemmExecutor, GemmInT, GemmInputA, GemmInputB, GemmOptions, GemmOutT};
use rten_tensor::NdTensorView;
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

fn executor(dir: &Path, arithmetic: Arithmetic) -> CpuExecutor {
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
    CpuExecutor::new(&spec, &checkpoint, &weights, arithmetic, 0).unwrap()
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
    for (arithmetic, name) in [(Arithmetic::F32, "f32"), (Arithmetic::Int8, "int8")] {
        let executor = executor(dir.path(), arithmetic);
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

/// The products of the encoder's layers and nothing else, in the same blocks of rows, on one thread.
fn products(c: &mut Criterion) {
    products_of(c, "f32", &GemmExecutor::<f32>::new(), 0.5, 0.01);
    products_of(c, "int8", &GemmExecutor::<u8, i8, i32>::new(), 7, 3);
}

fn products_of<A: GemmInT, B: GemmInT, O: GemmOutT>(
    c: &mut Criterion,
    name: &str,
    gemm: &GemmExecutor<A, B, O>,
    a: A,
    b: B,
) {
    const BLOCK_ROWS: usize = 72;
    let tokens: usize = usual_lengths().iter().sum();
    let (hidden, intermediate) = (SHAPE.hidden, SHAPE.intermediate);
    let shapes = [(hidden, 3 * hidden), (hidden, hidden), (hidden, intermediate), (intermediate, hidden)];
    let weights =
        shapes.map(|(k, n)| gemm.prepack_b(NdTensorView::from_data([k, n], vec![b; k * n].as_slice())));
    let x = vec![a; BLOCK_ROWS * intermediate];
    let mut out = vec![O::default(); BLOCK_ROWS * intermediate];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut group = c.benchmark_group("products alone, one thread");
    group.throughput(Throughput::Elements(tokens as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            pool.install(|| {
                for _ in 0..SHAPE.layers * tokens.div_ceil(BLOCK_ROWS) {
                    for ((k, n), weights) in shapes.iter().zip(&weights) {
                        let a = NdTensorView::from_data([BLOCK_ROWS, *k], &x[..BLOCK_ROWS * k]);
                        let out = &mut out[..BLOCK_ROWS * n];
                        gemm.gemm(
                            out,
                            GemmInputA::Unpacked(a),
                            GemmInputB::Packed(weights),
                            GemmOptions::default(),
                        )
                        .unwrap();
                    }
                }
            });
        });
    });
    group.finish();
}

criterion_group! {
    name = engine;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = forward, products
}
criterion_main!(engine);

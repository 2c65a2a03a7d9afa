//! Products and element-wise work on one core, in the shapes of XLM-R base and of a small encoder.
//!
//! `cargo bench -p hearken-kernels`. A product is bound by multiplications, whose peak the first group measures in loops
//! that touch nothing but registers; everything else by reading and writing the first- and second-level caches.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hearken_kernels::{
    cpu::{Bf16, Int8},
    dense::{Arithmetic, Dense, DenseScratch, Operand, Output},
    memory::Aligned,
    peak::Peak,
    vector::{activation::Activation, norm::NormRows, quantise::QuantiseRows, softmax::Exponentials},
};
use rten_simd::SimdOp;

fn wave(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.7).sin()).collect()
}

fn peaks(c: &mut Criterion) {
    const TURNS: u64 = 10_000;
    let mut group = c.benchmark_group("peak");
    for peak in Peak::available() {
        group.throughput(Throughput::Elements(TURNS * peak.operations));
        group.bench_function(peak.name, |b| b.iter(|| peak.run(TURNS)));
    }
}

fn products(c: &mut Criterion) {
    let arithmetics: Vec<(String, Arithmetic)> = [("f32".to_owned(), Arithmetic::F32)]
        .into_iter()
        .chain(Int8::available().into_iter().map(|k| (k.name().to_owned(), Arithmetic::Int8(k))))
        .chain(Bf16::available().into_iter().map(|k| (k.name().to_owned(), Arithmetic::Bf16(k))))
        .collect();
    for (inputs, outputs, activation) in [
        (768, 2304, None),
        (768, 3072, Some(Activation::Gelu)),
        (3072, 768, None),
        (256, 1024, Some(Activation::Gelu)),
        (1024, 256, None),
    ] {
        let (weight, bias) = (wave(inputs * outputs), wave(outputs));
        for rows in [16, 256] {
            let mut group = c.benchmark_group(format!("dense {rows} x {inputs} x {outputs}"));
            group.throughput(Throughput::Elements(2 * (rows * inputs * outputs) as u64));
            let x = wave(rows * inputs);
            for (name, arithmetic) in &arithmetics {
                let dense = Dense::new(*arithmetic, &weight, &bias);
                let mut out: Aligned<f32> = Aligned::zeroed(rows * outputs);
                let (mut operand, mut scratch) = (Operand::default(), DenseScratch::default());
                group.bench_function(name, |b| {
                    b.iter(|| {
                        let output = Output::Store { values: &mut out, stride: outputs };
                        operand.prepare(*arithmetic, &x, inputs);
                        dense.apply(&operand, output, activation, &mut scratch).unwrap();
                    })
                });
            }
        }
    }
}

fn rows(c: &mut Criterion) {
    let (rows, width) = (96, 768);
    let mut group = c.benchmark_group(format!("rows {rows} x {width}"));
    group.throughput(Throughput::Elements((rows * width) as u64));
    let (gain, bias) = (wave(width), wave(width));
    let mut x = wave(rows * width);
    group.bench_function("norm", |b| {
        b.iter(|| NormRows { rows: &mut x, gain: &gain, bias: &bias, epsilon: 1e-5 }.dispatch())
    });
    let (mut q, mut scales, mut shifts) = (vec![0; rows * width], vec![0.0; rows], vec![0.0; rows]);
    group.bench_function("quantise", |b| {
        b.iter(|| {
            QuantiseRows {
                rows: &x,
                width,
                quantised: &mut q,
                stride: width,
                scales: &mut scales,
                shifts: &mut shifts,
            }
            .dispatch()
        })
    });
    let mut inverse_sums = vec![0.0; rows];
    group.bench_function("exponentials", |b| {
        b.iter(|| Exponentials { rows: &mut x, width, inverse_sums: &mut inverse_sums }.dispatch())
    });
}

criterion_group!(benches, peaks, products, rows);
criterion_main!(benches);

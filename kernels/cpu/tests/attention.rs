//! Attention against a plain computation in f64.

use hearken_kernels::{
    attention::{AttentionScratch, Heads, Part, SPARE_ROWS, attend_bf16, attend_f32},
    cpu::Bf16,
    dense::bf16_bits,
};

fn wave(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin() * 1.5).collect()
}

/// Context of one sequence: rows x hidden.
fn exact(heads: Heads, qkv: &[f32], first: usize, len: usize) -> Vec<f64> {
    let (hidden, stride) = (heads.hidden(), 3 * heads.hidden());
    let at = |row: usize, which: usize, head: usize, d: usize| {
        f64::from(qkv[(first + row) * stride + which * hidden + head * heads.width + d])
    };
    let mut context = vec![0.0; len * hidden];
    for row in 0..len {
        for head in 0..heads.count {
            let scores: Vec<f64> = (0..len)
                .map(|key| {
                    let dot: f64 = (0..heads.width).map(|d| at(row, 0, head, d) * at(key, 1, head, d)).sum();
                    dot / (heads.width as f64).sqrt()
                })
                .collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..heads.width {
                let mixed: f64 = (0..len).map(|key| weights[key] * at(key, 2, head, d)).sum();
                context[row * hidden + head * heads.width + d] = mixed / total;
            }
        }
    }
    context
}

const SHAPES: [(usize, usize); 5] = [(1, 32), (3, 64), (2, 16), (2, 80), (4, 8)];
const LENGTHS: [usize; 8] = [1, 2, 15, 17, 32, 33, 70, 200];

#[test]
fn f32_attention_is_close_to_exact() {
    for (count, width) in SHAPES {
        let heads = Heads { count, width };
        for len in LENGTHS {
            let first = 3;
            let qkv = wave((first + len) * 3 * heads.hidden(), 0.37);
            let mut context = vec![0.0; len * heads.hidden()];
            let part = Part { first, len, rows: 0..len };
            attend_f32(heads, &part, &qkv, &mut context, &mut AttentionScratch::default());
            for (got, want) in context.iter().zip(exact(heads, &qkv, first, len)) {
                assert!((f64::from(*got) - want).abs() < 1e-5, "{heads:?}, {len} rows: {got} for {want}");
            }
        }
    }
}

#[test]
fn bf16_attention_is_close_to_exact_over_rounded_input() {
    for kernel in Bf16::available() {
        for (count, width) in SHAPES {
            let heads = Heads { count, width };
            for len in LENGTHS {
                let first = 3;
                let stride = 3 * heads.hidden();
                let rounded: Vec<u16> =
                    wave((first + len + SPARE_ROWS) * stride, 0.37).into_iter().map(bf16_bits).collect();
                let qkv: Vec<f32> = rounded.iter().map(|x| f32::from_bits(u32::from(*x) << 16)).collect();
                let mut context = vec![0.0; len * heads.hidden()];
                let part = Part { first, len, rows: 0..len };
                attend_bf16(kernel, heads, &part, &rounded, &mut context, &mut AttentionScratch::default());
                for (got, want) in context.iter().zip(exact(heads, &qkv, first, len)) {
                    let error = (f64::from(*got) - want).abs();
                    assert!(error < 0.01, "{kernel:?}, {heads:?}, {len} rows: {got} for {want}");
                }
            }
        }
    }
}

#[test]
fn rows_computed_apart_have_the_same_bits() {
    let heads = Heads { count: 2, width: 32 };
    let (len, stride) = (100, 3 * heads.hidden());
    let qkv = wave((len + SPARE_ROWS) * stride, 0.91);
    let rounded: Vec<u16> = qkv.iter().copied().map(bf16_bits).collect();
    let of = |rows: std::ops::Range<usize>, kernel: Option<Bf16>| {
        let mut context = vec![0.0; rows.len() * heads.hidden()];
        let part = Part { first: 0, len, rows };
        let scratch = &mut AttentionScratch::default();
        match kernel {
            None => attend_f32(heads, &part, &qkv, &mut context, scratch),
            Some(kernel) => attend_bf16(kernel, heads, &part, &rounded, &mut context, scratch),
        }
        context
    };
    for kernel in [None].into_iter().chain(Bf16::available().into_iter().map(Some)) {
        let together = of(0..len, kernel);
        let apart: Vec<f32> =
            [0..1, 1..40, 40..73, 73..len].into_iter().flat_map(|rows| of(rows, kernel)).collect();
        assert_eq!(together, apart, "{kernel:?}");
    }
}

//! Dense layers against products in f64, for every kind of numbers and instructions that this processor has.

use hearken_kernels::{
    cpu::{Bf16, Int8},
    dense::{Arithmetic, Dense, DenseScratch, Operand, Output, bf16_bits},
    vector::activation::Activation,
};

/// Every arithmetic, with the largest error that it may have, as a share of the largest possible sum.
fn arithmetics() -> Vec<(Arithmetic, f64)> {
    let int8 = Int8::available().into_iter().map(|k| (Arithmetic::Int8(k), 1e-2));
    let bf16 = Bf16::available().into_iter().map(|k| (Arithmetic::Bf16(k), 5e-3));
    [(Arithmetic::F32, 1e-6)].into_iter().chain(int8).chain(bf16).collect()
}

struct Numbers(u64);

impl Numbers {
    /// Between -1 and 1 (xorshift64, Marsaglia 2003).
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn many(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

fn operand(dense: &Dense, x: &[f32]) -> Operand {
    let mut operand = Operand::default();
    operand.prepare(dense.arithmetic(), x, dense.inputs());
    operand
}

fn apply(dense: &Dense, x: &[f32], activation: Option<Activation>) -> Vec<f32> {
    let rows = x.len() / dense.inputs();
    let mut out = vec![0.0; rows * dense.outputs()];
    let stride = dense.outputs();
    let output = Output::Store { values: &mut out, stride };
    dense.apply(&operand(dense, x), output, activation, &mut DenseScratch::default()).unwrap();
    out
}

#[test]
fn products_of_any_shape_stay_close_to_exact_ones() {
    let mut numbers = Numbers(1);
    for (inputs, outputs, rows) in [
        (1, 1, 1),
        (3, 5, 2),
        (64, 32, 32),
        (70, 19, 29),
        (128, 96, 33),
        (96, 65, 17),
        (384, 100, 70),
        (1100, 33, 150),
    ] {
        let weight: Vec<f32> = numbers.many(inputs * outputs);
        let bias = numbers.many(outputs);
        // Every row has a range of its own.
        let x: Vec<f32> =
            (0..rows * inputs).map(|i| (numbers.next() + 0.3) * (1 + i / inputs % 7) as f32).collect();
        for (arithmetic, tolerance) in arithmetics() {
            let got = apply(&Dense::new(arithmetic, &weight, &bias), &x, None);
            for (i, got) in got.iter().enumerate() {
                let (row, column) = (i / outputs, i % outputs);
                let (x, w) = (&x[row * inputs..][..inputs], &weight[column * inputs..][..inputs]);
                let exact = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
                let exact = exact + f64::from(bias[column]);
                let largest = |v: &[f32]| v.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let range = f64::from(largest(x) * largest(w)) * (inputs as f64).sqrt() * 3.0;
                let error = (exact - f64::from(*got)).abs();
                assert!(
                    error <= tolerance * range + 1e-6,
                    "{arithmetic:?} {inputs}x{outputs}, row {row} of {rows}, column {column}: {got} for {exact}"
                );
            }
        }
    }
}

#[test]
fn a_row_alone_has_the_same_bits_as_among_others() {
    let (inputs, outputs, rows) = (600, 77, 145);
    let mut numbers = Numbers(2);
    let (weight, bias) = (numbers.many(inputs * outputs), numbers.many(outputs));
    let x = numbers.many(rows * inputs);
    for (arithmetic, _) in arithmetics() {
        let dense = Dense::new(arithmetic, &weight, &bias);
        let together = apply(&dense, &x, Some(Activation::Gelu));
        for row in 0..rows {
            let alone = apply(&dense, &x[row * inputs..][..inputs], Some(Activation::Gelu));
            assert_eq!(together[row * outputs..][..outputs], alone, "{arithmetic:?}, row {row}");
        }
    }
}

#[test]
fn all_int8_kernels_with_the_same_weights_give_the_same_bits() {
    // Integer sums are exact, so the instructions cannot show.
    let (inputs, outputs, rows) = (130, 40, 21);
    let mut numbers = Numbers(3);
    let (weight, bias, x) =
        (numbers.many(inputs * outputs), numbers.many(outputs), numbers.many(rows * inputs));
    let results: Vec<_> = Int8::available()
        .into_iter()
        .filter(|k| *k != Int8::Rten)
        .map(|k| apply(&Dense::new(Arithmetic::Int8(k), &weight, &bias), &x, None))
        .collect();
    assert!(results.windows(2).all(|w| w[0] == w[1]));
}

#[test]
fn results_can_be_added_to_rows_that_lie_apart() {
    let mut numbers = Numbers(4);
    let (inputs, outputs, rows, stride) = (64, 48, 20, 53);
    let (weight, bias, x) =
        (numbers.many(inputs * outputs), numbers.many(outputs), numbers.many(rows * inputs));
    for (arithmetic, _) in arithmetics() {
        let dense = Dense::new(arithmetic, &weight, &bias);
        let product = apply(&dense, &x, None);
        let before = numbers.many((rows - 1) * stride + outputs);
        let mut out = before.clone();
        let output = Output::Add { values: &mut out, stride };
        dense.apply(&operand(&dense, &x), output, None, &mut DenseScratch::default()).unwrap();
        for (i, got) in out.iter().enumerate() {
            let (row, column) = (i / stride, i % stride);
            let want = before[i] + if column < outputs { product[row * outputs + column] } else { 0.0 };
            assert_eq!(*got, want, "{arithmetic:?}, row {row}, column {column}");
        }
    }
}

#[test]
fn results_in_bf16_are_rounded_results() {
    if Bf16::best().is_none() {
        return;
    }
    let mut numbers = Numbers(6);
    let (inputs, outputs, rows, stride) = (64, 50, 35, 60);
    let (weight, bias, x) =
        (numbers.many(inputs * outputs), numbers.many(outputs), numbers.many(rows * inputs));
    for (arithmetic, _) in arithmetics() {
        let dense = Dense::new(arithmetic, &weight, &bias);
        let product = apply(&dense, &x, None);
        let mut out = vec![7u16; rows * stride];
        let output = Output::Bf16 { values: &mut out, stride };
        dense.apply(&operand(&dense, &x), output, None, &mut DenseScratch::default()).unwrap();
        for (i, got) in out.iter().enumerate() {
            let (row, column) = (i / stride, i % stride);
            let want = if column < outputs { bf16_bits(product[row * outputs + column]) } else { 7 };
            assert_eq!(*got, want, "{arithmetic:?}, row {row}, column {column}");
        }
    }
}

#[test]
fn not_a_number_spreads_over_its_row_and_no_further() {
    let mut numbers = Numbers(5);
    let (inputs, outputs, rows) = (96, 33, 19);
    let (weight, bias) = (numbers.many(inputs * outputs), numbers.many(outputs));
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = numbers.many(rows * inputs);
        x[7 * inputs + 95] = bad;
        for (arithmetic, _) in arithmetics() {
            let out = apply(&Dense::new(arithmetic, &weight, &bias), &x, Some(Activation::Gelu));
            for (row, out) in out.chunks_exact(outputs).enumerate() {
                // The GELU of minus infinity is 0 in exact arithmetic.
                let finite = out.iter().all(|y| y.is_finite());
                assert_eq!(finite, row != 7, "{arithmetic:?}, {bad}, row {row}");
            }
        }
    }
}

#[test]
fn rounding_to_bf16_is_to_the_nearest_even() {
    for (x, bits) in
        [(1.0f32, 0x3f80), (1.0 + 1.0 / 256.0, 0x3f80), (1.0 + 3.0 / 256.0, 0x3f82), (-2.0, 0xc000), (0.0, 0)]
    {
        assert_eq!(bf16_bits(x), bits, "{x}");
    }
    assert!(f32::from_bits(u32::from(bf16_bits(f32::from_bits(0x7fff_ffff))) << 16).is_nan());
    assert_eq!(bf16_bits(f32::INFINITY), 0x7f80);
}

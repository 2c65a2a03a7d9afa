//! Element-wise work on rows, written once over portable vectors: GELU, tanh, softmax, layer norm, quantising.
//!
//! Every function reads and writes whole rows, so a row's result depends on nothing but the row. Not a number goes in,
//! not a number comes out: a damaged weight must never end as a label.

pub mod activation;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod exp;
mod lanes;
pub mod norm;
pub mod quantise;
pub mod softmax;

#[cfg(test)]
mod tests {
    use rten_simd::{SimdOp, SimdUnaryOp};

    use super::{
        activation::{Gelu, GeluRough, GeluTanh, Relu, Tanh},
        norm::NormRows,
        quantise::QuantiseRows,
        softmax::Exponentials,
    };

    fn grid() -> Vec<f32> {
        (-120_000..=120_000).map(|i| i as f32 * 1e-4).collect()
    }

    fn largest_error(op: impl SimdUnaryOp<f32>, exact: impl Fn(f64) -> f64) -> f64 {
        let xs = grid();
        let mut ys = xs.clone();
        op.map_mut(&mut ys);
        xs.iter().zip(&ys).map(|(x, y)| (exact(f64::from(*x)) - f64::from(*y)).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn functions_stay_within_their_documented_errors() {
        let phi = |x: f64| 0.5 * statrs::function::erf::erfc(-x / std::f64::consts::SQRT_2);
        let gelu = largest_error(Gelu, |x| x * phi(x));
        assert!(gelu < 5e-7, "gelu {gelu:e}");
        let rough = largest_error(GeluRough, |x| x * phi(x));
        assert!(rough < 1.4e-4, "rough gelu {rough:e}");
        let tanh = largest_error(Tanh, f64::tanh);
        assert!(tanh < 2e-7, "tanh {tanh:e}");
        let c = (2.0 / std::f64::consts::PI).sqrt();
        let form = largest_error(GeluTanh, |x| 0.5 * x * (1.0 + (c * (x + 0.044715 * x * x * x)).tanh()));
        assert!(form < 2e-6, "gelu tanh {form:e}");
    }

    #[test]
    fn not_a_number_stays_one() {
        for bad in [f32::NAN, f32::INFINITY] {
            let poisoned = |op: &dyn Fn(&mut [f32])| {
                let mut values = vec![0.5; 19];
                values[17] = bad;
                op(&mut values);
                assert!(!values[17].is_finite());
            };
            poisoned(&|v| Gelu.map_mut(v));
            poisoned(&|v| GeluRough.map_mut(v));
            poisoned(&|v| GeluTanh.map_mut(v));
            poisoned(&|v| Relu.map_mut(v));
            let mut scales = [0.0];
            let mut values = vec![0.5; 19];
            values[17] = bad;
            QuantiseRows {
                rows: &values,
                width: 19,
                quantised: &mut [0; 19],
                stride: 19,
                scales: &mut scales,
                shifts: &mut [0.0],
            }
            .dispatch();
            assert!(scales[0].is_nan());
        }
    }

    #[test]
    fn rows_of_any_width_are_normalised() {
        for width in [1usize, 3, 8, 19, 33, 64, 100, 384] {
            let mut rows: Vec<f32> = (0..2 * width).map(|i| ((i * 37) % 101) as f32 * 0.1 - 3.0).collect();
            let expected: Vec<f64> = rows
                .chunks_exact(width)
                .flat_map(|row| {
                    let x: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
                    let mean = x.iter().sum::<f64>() / width as f64;
                    let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
                    x.into_iter()
                        .map(move |v| (v - mean) / (var + 1e-5).sqrt() * 2.0 + 0.5)
                        .collect::<Vec<_>>()
                })
                .collect();
            NormRows { rows: &mut rows, gain: &vec![2.0; width], bias: &vec![0.5; width], epsilon: 1e-5 }
                .dispatch();
            for (got, want) in rows.iter().zip(expected) {
                assert!((f64::from(*got) - want).abs() < 2e-5, "width {width}: {got} for {want}");
            }
        }
    }

    #[test]
    fn exponentials_sum_to_one_for_any_width() {
        for width in [2usize, 7, 8, 19, 300] {
            let scores: Vec<f32> = (0..width).map(|i| ((i * 7) % 23) as f32 - 40.0).collect();
            let (mut rows, mut inverse) = (scores.clone(), [0.0]);
            Exponentials { rows: &mut rows, width, inverse_sums: &mut inverse }.dispatch();
            let max = scores.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = scores.iter().map(|s| f64::from(s - max).exp()).sum();
            for (got, score) in rows.iter().zip(&scores) {
                let want = f64::from(score - max).exp() / total;
                assert!((f64::from(got * inverse[0]) - want).abs() < 1e-6, "width {width}");
            }
        }
    }

    #[test]
    fn quantised_rows_come_back_within_half_a_step() {
        for width in [5usize, 64, 131, 320] {
            let rows: Vec<f32> = (0..2 * width).map(|i| ((i * 29) % 53) as f32 * 0.07 - 1.1).collect();
            let stride = width + 3;
            let (mut q, mut scales, mut shifts) = (vec![0u8; 2 * stride], [0.0; 2], [0.0; 2]);
            QuantiseRows {
                rows: &rows,
                width,
                quantised: &mut q,
                stride,
                scales: &mut scales,
                shifts: &mut shifts,
            }
            .dispatch();
            for (i, x) in rows.iter().enumerate() {
                let (row, column) = (i / width, i % width);
                let back = f32::from(q[row * stride + column]) * scales[row] + shifts[row];
                assert!((x - back).abs() <= scales[row] * 0.51 + 1e-6, "{x} came back as {back}");
            }
            assert_eq!(shifts[0] / scales[0], (shifts[0] / scales[0]).round(), "0 is represented exactly");
        }
    }
}

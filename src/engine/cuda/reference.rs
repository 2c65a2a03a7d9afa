//! What every kernel computes, in plain Rust: the definition that the compiled kernels are compared with.
//!
//! Signatures are the kernels'. Stored numbers are bits of 16, rounded where a kernel rounds; sums are f64, so that the
//! order of adding plays no part. `width` is the kernel's `HIDDEN`.

use super::Numbers;

fn read(numbers: Numbers, bits: &[u16]) -> Vec<f64> {
    bits.iter().map(|b| f64::from(numbers.widen(*b))).collect()
}

/// Mean and variance over the row, then weight and bias.
fn norm(row: &[f64], gain: &[f32], bias: &[f32], epsilon: f32) -> Vec<f64> {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
    row.iter()
        .zip(gain)
        .zip(bias)
        .map(|((x, g), b)| (x - mean) * scale * f64::from(*g) + f64::from(*b))
        .collect()
}

fn store(numbers: Numbers, out: &mut [u16], values: &[f64]) {
    out.iter_mut().zip(values).for_each(|(o, v)| *o = numbers.narrow(*v as f32));
}

#[allow(clippy::too_many_arguments)] // the kernel's own
pub fn embed_norm(
    numbers: Numbers,
    ids: &[u32],
    positions: &[u32],
    words: &[u16],
    places: &[f32],
    gain: &[f32],
    bias: &[f32],
    epsilon: f32,
    out: &mut [u16],
) {
    let width = gain.len();
    for ((id, position), out) in ids.iter().zip(positions).zip(out.chunks_exact_mut(width)) {
        let word = read(numbers, &words[*id as usize * width..][..width]);
        let place = &places[*position as usize * width..][..width];
        let row: Vec<f64> = word.iter().zip(place).map(|(w, p)| w + f64::from(*p)).collect();
        store(numbers, out, &norm(&row, gain, bias, epsilon));
    }
}

pub fn residual_norm(
    numbers: Numbers,
    update: &[u16],
    bias: &[f32],
    hidden: &mut [u16],
    gain: &[f32],
    shift: &[f32],
    epsilon: f32,
) {
    let width = gain.len();
    for (update, hidden) in update.chunks_exact(width).zip(hidden.chunks_exact_mut(width)) {
        let (update, kept) = (read(numbers, update), read(numbers, hidden));
        let row: Vec<f64> =
            update.iter().zip(&kept).zip(bias).map(|((u, h), b)| u + h + f64::from(*b)).collect();
        store(numbers, hidden, &norm(&row, gain, shift, epsilon));
    }
}

pub fn bias_gelu(numbers: Numbers, x: &mut [u16], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len()) {
        for (x, b) in row.iter_mut().zip(bias) {
            *x = numbers.narrow(gelu(f64::from(numbers.widen(*x)) + f64::from(*b)) as f32);
        }
    }
}

/// `x Phi(x)`.
pub fn gelu(x: f64) -> f64 {
    use statrs::distribution::ContinuousCDF;
    x * statrs::distribution::Normal::standard().cdf(x)
}

/// The tanh form of GELU (Hendrycks and Gimpel 2016).
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

/// `tiles` are first row, length and first query of up to [`QUERIES`](super::plan::QUERIES) queries each.
pub fn attention(
    numbers: Numbers,
    qkv: &[u16],
    tiles: &[[u32; 4]],
    out: &mut [u16],
    scale: f32,
    (heads, head_width): (usize, usize),
) {
    let hidden = heads * head_width;
    // The kernel's scale is for powers of two.
    let scale = f64::from(scale) * std::f64::consts::LN_2;
    let qkv = read(numbers, qkv);
    for [first, length, query, _] in tiles.iter().map(|t| t.map(|n| n as usize)) {
        for row in query..length.min(query + super::plan::QUERIES) {
            for head in 0..heads {
                let part = |row: usize, which: usize| {
                    &qkv[(first + row) * 3 * hidden + which * hidden + head * head_width..][..head_width]
                };
                let q = part(row, 0);
                let scores: Vec<f64> = (0..length)
                    .map(|k| scale * q.iter().zip(part(k, 1)).map(|(a, b)| a * b).sum::<f64>())
                    .collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let sum: f64 = weights.iter().sum();
                let mut mixed = vec![0.0; head_width];
                for (k, weight) in weights.iter().enumerate() {
                    mixed.iter_mut().zip(part(k, 2)).for_each(|(m, v)| *m += weight / sum * v);
                }
                let at = (first + row) * hidden + head * head_width;
                store(numbers, &mut out[at..at + head_width], &mixed);
            }
        }
    }
}

fn mean(numbers: Numbers, hidden: &[u16], first: u32, count: u32, width: usize) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    for row in hidden[first as usize * width..][..count as usize * width].chunks_exact(width) {
        mean.iter_mut().zip(read(numbers, row)).for_each(|(m, x)| *m += x / f64::from(count));
    }
    mean
}

/// A span of no rows leaves its row of `out` alone.
pub fn pool(numbers: Numbers, hidden: &[u16], spans: &[[u32; 2]], out: &mut [u16], width: usize) {
    for ([first, count], out) in spans.iter().zip(out.chunks_exact_mut(width)) {
        if *count > 0 {
            store(numbers, out, &mean(numbers, hidden, *first, *count, width));
        }
    }
}

fn dot(x: &[f64], weight: &[f32]) -> f64 {
    x.iter().zip(weight).map(|(x, w)| x * f64::from(*w)).sum()
}

#[allow(clippy::too_many_arguments)] // the kernel's own
pub fn pool_heads(
    numbers: Numbers,
    hidden: &[u16],
    asks: &[[u32; 4]],
    heads: &[[u32; 2]],
    weights: &[f32],
    bias: &[f32],
    out: &mut [f32],
    width: usize,
) {
    for [first, count, head, at] in asks {
        if *count == 0 {
            continue;
        }
        let mean = mean(numbers, hidden, *first, *count, width);
        let [row, labels] = heads[*head as usize].map(|n| n as usize);
        for label in 0..labels {
            let weight = &weights[(row + label) * width..][..width];
            out[*at as usize + label] = (dot(&mean, weight) + f64::from(bias[row + label])) as f32;
        }
    }
}

/// `rows` and `dense_bias` as the kernel takes them: `None` is null.
pub fn head_rows(
    numbers: Numbers,
    x: &[u16],
    rows: Option<&[u32]>,
    dense_bias: Option<&[f32]>,
    weights: &[f32],
    bias: &[f32],
    out: &mut [f32],
) {
    let labels = bias.len();
    let width = weights.len() / labels;
    for (i, out) in out.chunks_exact_mut(labels).enumerate() {
        let row = rows.map_or(i, |rows| rows[i] as usize);
        let mut values = read(numbers, &x[row * width..][..width]);
        if let Some(dense_bias) = dense_bias {
            values.iter_mut().zip(dense_bias).for_each(|(v, b)| *v = (*v + f64::from(*b)).tanh());
        }
        for (label, out) in out.iter_mut().enumerate() {
            *out = (dot(&values, &weights[label * width..][..width]) + f64::from(bias[label])) as f32;
        }
    }
}

pub fn convert(numbers: Numbers, from: &[f32], to: &mut [u16]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t = numbers.narrow(*f));
}

/// `out = epilogue(x weight^T)`, as [`Product`](super::driver::Product) lays it out.
pub fn product(
    numbers: Numbers,
    x: &[u16],
    weight: &[u16],
    bias: &[u16],
    out: &mut [u16],
    epilogue: super::driver::Epilogue,
) {
    use super::driver::Epilogue;
    let outputs = bias.len();
    let inputs = weight.len() / outputs;
    let (x, weight, bias) = (read(numbers, x), read(numbers, weight), read(numbers, bias));
    for (x, out) in x.chunks_exact(inputs).zip(out.chunks_exact_mut(outputs)) {
        for ((weight, bias), out) in weight.chunks_exact(inputs).zip(&bias).zip(out) {
            let sum: f64 = x.iter().zip(weight).map(|(x, w)| x * w).sum();
            *out = numbers.narrow(match epilogue {
                Epilogue::Nothing => sum,
                Epilogue::Bias => sum + bias,
                Epilogue::BiasGeluTanh => gelu_tanh(sum + bias),
                Epilogue::BiasRelu => (sum + bias).max(0.0),
            } as f32);
        }
    }
}

//! Every kernel, and the matrix product, against its plain reference on the same random inputs.
//!
//! Runs on whatever stands behind the driver: on a GPU in `hearken gpu-check`, on emulated kernels in the tests.

use std::sync::Arc;

use serde::Serialize;

use super::{
    Numbers,
    driver::{Address, Driver, DriverError, Epilogue, HostAddress, Product, ProductShape, Stream, Work},
    kernels::{self, HeadTable, KernelShape, NormAddress},
    memory::{Buffer, Memory, Pinned},
    plan::{self, InputLayout},
    random::Random,
    reference,
};
use crate::engine::batch::PackedBatch;

/// What one comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Parity {
    pub kernel: &'static str,
    pub numbers: &'static str,
    /// Values that were compared.
    pub values: usize,
    /// Largest difference, in units of what rounding alone may cause: above 1 is a fault.
    pub largest: f64,
    pub passed: bool,
}

/// Bytes of one transfer.
const STAGED_BYTES: usize = 16 << 20;
/// What is written beyond the end of an output, and must still be there.
const GUARD: u8 = 0xA5;
const GUARD_BYTES: usize = 512;

/// A device on which launches are tried one at a time.
pub struct Bench<D: Driver> {
    pub memory: Arc<Memory<D>>,
    pub stream: Stream,
    staged: Pinned<D>,
}

/// Plain numbers that may be copied as bytes.
pub trait Plain: Copy {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for f32 {}
impl Plain for [u32; 2] {}
impl Plain for [u32; 4] {}

impl<D: Driver> Bench<D> {
    pub fn new(driver: Arc<D>) -> Result<Self, DriverError> {
        let memory = Memory::new(driver)?;
        let (stream, staged) = (memory.driver.stream()?, memory.pinned(STAGED_BYTES)?);
        Ok(Self { memory, stream, staged })
    }

    pub fn run(&self, work: Work) -> Result<(), DriverError> {
        // SAFETY: what is run here uses buffers of this bench, which outlive the next line.
        unsafe { self.memory.driver.enqueue(self.stream, &work) }?;
        self.memory.driver.synchronize(self.stream)
    }

    /// Values on the device, with a guard behind them.
    pub fn put<T: Plain>(&mut self, values: &[T]) -> Result<Buffer<D>, DriverError> {
        let bytes = size_of_val(values);
        // SAFETY: plain numbers have no padding.
        let values = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), bytes) };
        let guarded = [values, &[GUARD; GUARD_BYTES]].concat();
        let buffer = self.memory.buffer(guarded.len())?;
        for (i, piece) in guarded.chunks(STAGED_BYTES).enumerate() {
            self.staged.bytes_mut()[..piece.len()].copy_from_slice(piece);
            let (to, from) = (buffer.address.plus(i * STAGED_BYTES), self.staged.address);
            self.run(Work::Upload { to, from, bytes: piece.len() })?;
        }
        Ok(buffer)
    }

    /// The first `count` values of a buffer whose guard must be whole.
    pub fn get<T: Plain + Default>(&self, buffer: &Buffer<D>, count: usize) -> Result<Vec<T>, DriverError> {
        let bytes = count * size_of::<T>() + GUARD_BYTES;
        let mut read = Vec::with_capacity(bytes);
        while read.len() < bytes {
            let piece = (bytes - read.len()).min(STAGED_BYTES);
            let (to, from): (HostAddress, Address) = (self.staged.address, buffer.address.plus(read.len()));
            self.run(Work::Download { to, from, bytes: piece })?;
            read.extend_from_slice(&self.staged.bytes()[..piece]);
        }
        let (values, guard) = read.split_at(count * size_of::<T>());
        if guard.iter().any(|b| *b != GUARD) {
            return Err(DriverError::Failed("a kernel wrote beyond the end of its output".into()));
        }
        let mut out = vec![T::default(); count];
        // SAFETY: plain numbers, as many bytes as they take.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), out.as_mut_ptr().cast::<u8>(), values.len())
        };
        Ok(out)
    }
}

/// Largest difference of stored numbers, in units of `steps` steps of the last place plus as much around zero.
fn numbers_apart(numbers: Numbers, got: &[u16], wanted: &[u16], steps: f64) -> f64 {
    let unit = f64::from(numbers.epsilon()) * steps;
    let widened = |bits: &u16| f64::from(numbers.widen(*bits));
    largest(
        got.iter()
            .map(widened)
            .zip(wanted.iter().map(widened))
            .map(|(g, w)| (g - w).abs() / (unit * (w.abs() + 0.25))),
    )
}

fn floats_apart(got: &[f32], wanted: &[f32]) -> f64 {
    let pairs = got.iter().zip(wanted).map(|(g, w)| (f64::from(*g), f64::from(*w)));
    largest(pairs.map(|(g, w)| (g - w).abs() / (2e-4 * (w.abs() + 1.0))))
}

/// Not a number is larger than anything.
fn largest(differences: impl Iterator<Item = f64>) -> f64 {
    differences.fold(0.0, |m, d| if d.is_nan() { f64::MAX } else { m.max(d) })
}

/// Compares everything once. `rows` is about how many rows the larger kernels get.
pub fn compare<D: Driver>(
    driver: Arc<D>,
    shape: &KernelShape,
    rows: usize,
    seed: u64,
) -> Result<Vec<Parity>, DriverError> {
    let mut case =
        Case { bench: Bench::new(driver)?, shape: *shape, random: Random::new(seed), found: Vec::new() };
    case.embed_norm(rows)?;
    case.residual_norm(rows)?;
    case.bias_gelu(rows)?;
    case.attention(rows)?;
    case.pool(rows)?;
    case.pool_heads(rows)?;
    case.head_rows(rows)?;
    case.convert(rows)?;
    for epilogue in [Epilogue::Nothing, Epilogue::Bias, Epilogue::BiasGeluTanh, Epilogue::BiasRelu] {
        case.product(rows, epilogue)?;
    }
    Ok(case.found)
}

/// Weight and bias of a norm, here and on the device.
type NormValues<D> = (Vec<f32>, Vec<f32>, Buffer<D>, Buffer<D>);

struct Case<D: Driver> {
    bench: Bench<D>,
    shape: KernelShape,
    random: Random,
    found: Vec<Parity>,
}

/// A stored number that no kernel may leave where it should write.
const UNWRITTEN: u16 = 0x7FFF;

impl<D: Driver> Case<D> {
    fn found(&mut self, kernel: &'static str, values: usize, largest: f64) {
        let numbers = self.shape.numbers.name();
        self.found.push(Parity { kernel, numbers, values, largest, passed: largest <= 1.0 && values > 0 });
    }

    fn numbers(&mut self, count: usize, scale: f32) -> Vec<u16> {
        let numbers = self.shape.numbers;
        self.random.normals(count, scale).into_iter().map(|x| numbers.narrow(x)).collect()
    }

    fn norm(&mut self) -> Result<NormValues<D>, DriverError> {
        let gain: Vec<f32> = self.random.normals(self.shape.hidden, 0.2).iter().map(|x| x + 1.0).collect();
        let bias = self.random.normals(self.shape.hidden, 0.2);
        let (g, b) = (self.bench.put(&gain)?, self.bench.put(&bias)?);
        Ok((gain, bias, g, b))
    }

    fn embed_norm(&mut self, rows: usize) -> Result<(), DriverError> {
        let (hidden, numbers) = (self.shape.hidden, self.shape.numbers);
        let (vocabulary, places) = (97, 41);
        let words = self.numbers(vocabulary * hidden, 1.0);
        let table = self.random.normals(places * hidden, 0.5);
        let ids: Vec<u32> = (0..rows).map(|_| self.random.below(vocabulary) as u32).collect();
        let positions: Vec<u32> = (0..rows).map(|_| self.random.below(places) as u32).collect();
        let (gain, bias, g, b) = self.norm()?;
        let bench = &mut self.bench;
        let (i, p) = (bench.put(&ids)?, bench.put(&positions)?);
        let (w, t) = (bench.put(&words)?, bench.put(&table)?);
        let out = bench.put(&vec![UNWRITTEN; rows * hidden])?;
        let norm = NormAddress { gain: g.address, bias: b.address, epsilon: 1e-5 };
        bench.run(Work::Launch(kernels::embed_norm(
            i.address,
            p.address,
            w.address,
            t.address,
            norm,
            out.address,
            rows as u32,
        )))?;
        let got = bench.get::<u16>(&out, rows * hidden)?;
        let mut wanted = vec![UNWRITTEN; rows * hidden];
        reference::embed_norm(numbers, &ids, &positions, &words, &table, &gain, &bias, 1e-5, &mut wanted);
        self.found("embed_norm", got.len(), numbers_apart(numbers, &got, &wanted, 1.0));
        Ok(())
    }

    fn residual_norm(&mut self, rows: usize) -> Result<(), DriverError> {
        let (hidden, numbers) = (self.shape.hidden, self.shape.numbers);
        let (update, mut kept) = (self.numbers(rows * hidden, 1.0), self.numbers(rows * hidden, 2.0));
        let added = self.random.normals(hidden, 0.5);
        let (gain, shift, g, s) = self.norm()?;
        let bench = &mut self.bench;
        let (u, a, k) = (bench.put(&update)?, bench.put(&added)?, bench.put(&kept)?);
        let norm = NormAddress { gain: g.address, bias: s.address, epsilon: 1e-12 };
        bench.run(Work::Launch(kernels::residual_norm(
            u.address,
            a.address,
            k.address,
            norm,
            rows as u32,
        )))?;
        let got = bench.get::<u16>(&k, rows * hidden)?;
        reference::residual_norm(numbers, &update, &added, &mut kept, &gain, &shift, 1e-12);
        self.found("residual_norm", got.len(), numbers_apart(numbers, &got, &kept, 1.0));
        Ok(())
    }

    fn bias_gelu(&mut self, rows: usize) -> Result<(), DriverError> {
        let (width, numbers) = (self.shape.intermediate, self.shape.numbers);
        let mut x = self.numbers(rows * width, 2.5);
        let bias = self.random.normals(width, 0.5);
        let bench = &mut self.bench;
        let (on_device, b) = (bench.put(&x)?, bench.put(&bias)?);
        let launch = kernels::bias_gelu(on_device.address, b.address, rows as u32, &self.shape);
        bench.run(Work::Launch(launch))?;
        let got = bench.get::<u16>(&on_device, rows * width)?;
        reference::bias_gelu(numbers, &mut x, &bias);
        self.found("bias_gelu", got.len(), numbers_apart(numbers, &got, &x, 1.0));
        Ok(())
    }

    fn attention(&mut self, rows: usize) -> Result<(), DriverError> {
        let (hidden, numbers) = (self.shape.hidden, self.shape.numbers);
        let mut batch = PackedBatch::new();
        // Lengths on both sides of every tile's edge, then any.
        let mut lengths = [129, 1, 17, 64, 2, 65, 15, 16, 63].into_iter();
        while batch.tokens() < rows {
            let length = lengths.next().unwrap_or_else(|| 1 + self.random.below(rows.min(300)));
            batch.push(std::iter::repeat_n(0, length.min(rows)));
        }
        let part = &plan::parts(&batch, usize::MAX)[0];
        let mut tiles = part.tiles.clone();
        tiles.resize(InputLayout::of(part).tiles, [0; 4]);
        let tokens = batch.tokens();
        let qkv = self.numbers(tokens * 3 * hidden, 1.0);
        let bench = &mut self.bench;
        let (q, t) = (bench.put(&qkv)?, bench.put(&tiles)?);
        let out = bench.put(&vec![UNWRITTEN; tokens * hidden])?;
        let launch = kernels::attention(q.address, t.address, tiles.len() as u32, out.address, &self.shape);
        let kernels::Argument::F32(scale) = launch.arguments[3] else {
            return Err(DriverError::Failed("attention has lost its scale".into()));
        };
        bench.run(Work::Launch(launch))?;
        let got = bench.get::<u16>(&out, tokens * hidden)?;
        let mut wanted = vec![UNWRITTEN; tokens * hidden];
        let heads = (self.shape.heads, self.shape.head_width);
        reference::attention(numbers, &qkv, &tiles, &mut wanted, scale, heads);
        // Weights are rounded before they multiply values, which the reference does not do.
        self.found("attention", got.len(), numbers_apart(numbers, &got, &wanted, 3.0));
        Ok(())
    }

    fn spans(&mut self, rows: usize, count: usize) -> Vec<[u32; 2]> {
        let mut spans: Vec<[u32; 2]> = (0..count)
            .map(|_| {
                let first = self.random.below(rows);
                [first as u32, 1 + self.random.below((rows - first).min(70)) as u32]
            })
            .collect();
        spans.push([0, rows as u32]);
        spans
    }

    fn pool(&mut self, rows: usize) -> Result<(), DriverError> {
        let (width, numbers) = (self.shape.hidden, self.shape.numbers);
        let hidden = self.numbers(rows * width, 1.0);
        let spans = self.spans(rows, 6);
        let bench = &mut self.bench;
        let (h, s) = (bench.put(&hidden)?, bench.put(&spans)?);
        let out = bench.put(&vec![UNWRITTEN; spans.len() * width])?;
        let launch = kernels::pool(h.address, s.address, spans.len() as u32, out.address, &self.shape);
        bench.run(Work::Launch(launch))?;
        let got = bench.get::<u16>(&out, spans.len() * width)?;
        let mut wanted = vec![UNWRITTEN; spans.len() * width];
        reference::pool(numbers, &hidden, &spans, &mut wanted, width);
        self.found("pool", got.len(), numbers_apart(numbers, &got, &wanted, 1.0));
        Ok(())
    }

    fn pool_heads(&mut self, rows: usize) -> Result<(), DriverError> {
        let (width, numbers) = (self.shape.hidden, self.shape.numbers);
        let hidden = self.numbers(rows * width, 1.0);
        let labels = [3usize, 11, 1];
        let all = labels.iter().sum::<usize>();
        let table = [[0, 3], [3, 11], [14, 1]];
        let (weights, bias) = (self.random.normals(all * width, 0.1), self.random.normals(all, 1.0));
        let mut asks = Vec::new();
        let mut logits = 0;
        for (i, [first, count]) in self.spans(rows, 5).into_iter().enumerate() {
            asks.push([first, count, (i % 3) as u32, logits]);
            logits += labels[i % 3] as u32;
        }
        let bench = &mut self.bench;
        let (h, a, t) = (bench.put(&hidden)?, bench.put(&asks)?, bench.put(&table)?);
        let (w, b) = (bench.put(&weights)?, bench.put(&bias)?);
        let mut wanted = vec![f32::NAN; logits as usize];
        let out = bench.put(&wanted)?;
        let on_device = HeadTable { heads: t.address, weights: w.address, bias: b.address };
        let launch =
            kernels::pool_heads(h.address, a.address, asks.len() as u32, on_device, out.address, &self.shape);
        bench.run(Work::Launch(launch))?;
        let got = bench.get::<f32>(&out, logits as usize)?;
        reference::pool_heads(numbers, &hidden, &asks, &table, &weights, &bias, &mut wanted, width);
        self.found("pool_heads", got.len(), floats_apart(&got, &wanted));
        Ok(())
    }

    fn head_rows(&mut self, rows: usize) -> Result<(), DriverError> {
        let (width, numbers, labels) = (self.shape.hidden, self.shape.numbers, 7usize);
        let x = self.numbers(rows * width, 1.0);
        let (weights, bias) = (self.random.normals(labels * width, 0.1), self.random.normals(labels, 1.0));
        let dense_bias = self.random.normals(width, 0.5);
        let chosen: Vec<u32> = (0..rows / 2 + 1).map(|_| self.random.below(rows) as u32).collect();
        let bench = &mut self.bench;
        let (on_device, w, b) = (bench.put(&x)?, bench.put(&weights)?, bench.put(&bias)?);
        let (d, c) = (bench.put(&dense_bias)?, bench.put(&chosen)?);
        for of_rows in [true, false] {
            let count = if of_rows { chosen.len() } else { rows };
            let mut wanted = vec![f32::NAN; count * labels];
            let out = self.bench.put(&wanted)?;
            self.bench.run(Work::Launch(kernels::head_rows(kernels::HeadRows {
                x: on_device.address,
                rows: if of_rows { c.address } else { Address::NULL },
                dense_bias: if of_rows { Address::NULL } else { d.address },
                weights: w.address,
                bias: b.address,
                out: out.address,
                count: count as u32,
                labels: labels as u32,
            })))?;
            let got = self.bench.get::<f32>(&out, count * labels)?;
            let (rows, dense) = (of_rows.then_some(&chosen[..]), (!of_rows).then_some(&dense_bias[..]));
            reference::head_rows(numbers, &x, rows, dense, &weights, &bias, &mut wanted);
            self.found("head_rows", got.len(), floats_apart(&got, &wanted));
        }
        Ok(())
    }

    fn convert(&mut self, rows: usize) -> Result<(), DriverError> {
        let numbers = self.shape.numbers;
        let mut from = self.random.normals(rows * 8, 100.0);
        // Halfway between two numbers, on both sides of even; tiny; zero of either sign.
        from[..6].copy_from_slice(&[
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
            1.0 + 1.0 / 2048.0,
            3e-6,
            0.0,
            -0.0,
        ]);
        let bench = &mut self.bench;
        let (f, to) = (bench.put(&from)?, bench.put(&vec![UNWRITTEN; from.len()])?);
        bench.run(Work::Launch(kernels::convert(f.address, to.address, from.len())))?;
        let got = bench.get::<u16>(&to, from.len())?;
        let mut wanted = vec![UNWRITTEN; from.len()];
        reference::convert(numbers, &from, &mut wanted);
        let same = got == wanted;
        self.found("convert", got.len(), if same { 0.0 } else { f64::MAX });
        Ok(())
    }

    fn product(&mut self, rows: usize, epilogue: Epilogue) -> Result<(), DriverError> {
        let (inputs, outputs, numbers) = (self.shape.hidden, self.shape.intermediate, self.shape.numbers);
        let rows = plan::bucket(rows / 4);
        let (x, weight) =
            (self.numbers(rows * inputs, 1.0), self.numbers(outputs * inputs, 1.0 / (inputs as f32).sqrt()));
        let bias = self.numbers(outputs, 0.5);
        let bench = &mut self.bench;
        let (on_device, w, b) = (bench.put(&x)?, bench.put(&weight)?, bench.put(&bias)?);
        let out = bench.put(&vec![UNWRITTEN; rows * outputs])?;
        bench.run(Work::Product(Product {
            x: on_device.address,
            weight: w.address,
            bias: if epilogue == Epilogue::Nothing { Address::NULL } else { b.address },
            out: out.address,
            rows,
            shape: ProductShape { inputs, outputs, epilogue },
        }))?;
        let got = bench.get::<u16>(&out, rows * outputs)?;
        let mut wanted = vec![UNWRITTEN; rows * outputs];
        reference::product(numbers, &x, &weight, &bias, &mut wanted, epilogue);
        let name = match epilogue {
            Epilogue::Nothing => "product",
            Epilogue::Bias => "product + bias",
            Epilogue::BiasGeluTanh => "product + bias, gelu_tanh",
            Epilogue::BiasRelu => "product + bias, relu",
        };
        // The library's tanh is an approximation.
        let steps = if epilogue == Epilogue::BiasGeluTanh { 2.0 } else { 1.0 };
        self.found(name, got.len(), numbers_apart(numbers, &got, &wanted, steps));
        Ok(())
    }
}

//! What the chip can do, and which share of it the kernels and products reach on their own.

use std::sync::Arc;

use serde::Serialize;

use super::Plans;
use crate::engine::cuda::{
    driver::{Address, Driver, DriverError, Epilogue, Product, ProductShape, Work},
    forward::product_shapes,
    kernels::{self, KernelShape, NormAddress},
    memory::Buffer,
    parity::Bench,
    plan::InputLayout,
    random::Random,
};
use crate::engine::{batch::PackedBatch, spec::Activation};

/// Measured here, on this chip, at this hour: shares are of these and not of a data sheet.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// A copy inside the device, bytes read plus bytes written.
    pub copy_gb_per_s: f64,
    /// A square product of 8,192 on random numbers.
    pub product_tflops: f64,
}

#[derive(Debug, Serialize)]
pub struct KernelSpeed {
    pub kernel: &'static str,
    pub rows: usize,
    pub microseconds: f64,
    /// Of the least bytes that it must move.
    pub gb_per_s: f64,
    pub share_of_copy: f64,
}

#[derive(Debug, Serialize)]
pub struct ProductSpeed {
    pub plans: &'static str,
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub microseconds: f64,
    pub tflops: f64,
    pub share_of_peak: f64,
}

const COPY_BYTES: usize = 2 << 30;
const SQUARE: usize = 8_192;
/// Rows of a full part, where kernels should be near their limits.
const ROWS: usize = 16_384;
/// Medians are of this many laps, each of several launches.
const LAPS: usize = 7;

impl<D: Driver> Bench<D> {
    /// Median seconds of one piece of work, each lap running it `times` times.
    fn seconds(&self, work: &Work, times: usize) -> Result<f64, DriverError> {
        let driver = &self.memory.driver;
        self.run(work.clone())?;
        let mut laps = Vec::with_capacity(LAPS);
        for _ in 0..LAPS {
            driver.lap(self.stream)?;
            for _ in 0..times {
                // SAFETY: the work's buffers are the caller's, who keeps them until this returns; `lap` waits.
                unsafe { driver.enqueue(self.stream, work) }?;
            }
            laps.push(driver.lap(self.stream)? / times as f64);
        }
        laps.sort_by(f64::total_cmp);
        Ok(laps[LAPS / 2])
    }

    /// Random numbers in the model's format, repeating after a million.
    fn random(&mut self, count: usize, scale: f32) -> Result<Buffer<D>, DriverError> {
        let numbers = self.memory.driver.numbers();
        let pool: Vec<u16> = Random::new(count as u64)
            .normals(count.min(1 << 20), scale)
            .iter()
            .map(|x| numbers.narrow(*x))
            .collect();
        let values: Vec<u16> = pool.iter().copied().cycle().take(count).collect();
        self.put(&values)
    }
}

pub fn limits<D: Driver>(driver: Arc<D>) -> Result<Limits, DriverError> {
    let mut bench = Bench::new(driver)?;
    let copy = {
        let (from, to) = (bench.memory.buffer(COPY_BYTES)?, bench.memory.buffer(COPY_BYTES)?);
        bench.run(Work::Zero { to: from.address, bytes: COPY_BYTES })?;
        let work = Work::Copy { to: to.address, from: from.address, bytes: COPY_BYTES };
        bench.seconds(&work, 3)?
    };
    let (x, weight) = (bench.random(SQUARE * SQUARE, 1.0)?, bench.random(SQUARE * SQUARE, 0.01)?);
    let out = bench.memory.buffer(2 * SQUARE * SQUARE)?;
    let square = Work::Product(Product {
        x: x.address,
        weight: weight.address,
        bias: Address::NULL,
        out: out.address,
        rows: SQUARE,
        shape: ProductShape { inputs: SQUARE, outputs: SQUARE, epilogue: Epilogue::Nothing },
    });
    let product = bench.seconds(&square, 10)?;
    Ok(Limits {
        copy_gb_per_s: 2.0 * COPY_BYTES as f64 / copy / 1e9,
        product_tflops: 2.0 * (SQUARE as f64).powi(3) / product / 1e12,
    })
}

pub fn kernel_speed<D: Driver>(
    driver: Arc<D>,
    shape: &KernelShape,
    limits: &Limits,
) -> Result<Vec<KernelSpeed>, DriverError> {
    let mut bench = Bench::new(driver)?;
    let (hidden, wide) = (shape.hidden, shape.intermediate);
    let mut random = Random::new(1);
    let vocabulary = 100_000;
    let ids: Vec<u32> = (0..ROWS).map(|_| random.below(vocabulary) as u32).collect();
    let mut batch = PackedBatch::new();
    // Lengths of messages: their mean is 47.
    while batch.tokens() + 94 <= ROWS {
        batch.push(std::iter::repeat_n(0, 1 + random.below(93)));
    }
    let part = &crate::engine::cuda::plan::parts(&batch, usize::MAX)[0];
    let mut tiles = part.tiles.clone();
    tiles.resize(InputLayout::of(part).tiles, [0; 4]);

    let (ids, places) = (bench.put(&ids)?, bench.put(&random.normals(512 * hidden, 1.0))?);
    let positions = bench.put(&(0..ROWS as u32).map(|i| i % 512).collect::<Vec<_>>())?;
    let words = bench.random(vocabulary * hidden, 1.0)?;
    let (gain, bias) = (bench.put(&random.normals(hidden, 1.0))?, bench.put(&random.normals(wide, 1.0))?);
    let (update, rows) = (bench.random(ROWS * hidden, 1.0)?, bench.random(ROWS * hidden, 1.0)?);
    let (x, qkv) = (bench.random(ROWS * wide, 1.0)?, bench.random(ROWS * 3 * hidden, 1.0)?);
    let tiles_on_device = bench.put(&tiles)?;
    let norm = NormAddress { gain: gain.address, bias: gain.address, epsilon: 1e-5 };
    let count = ROWS as u32;
    let launches = [
        (
            kernels::embed_norm(
                ids.address,
                positions.address,
                words.address,
                places.address,
                norm,
                rows.address,
                count,
            ),
            ROWS * (4 * hidden + 8),
        ),
        (kernels::residual_norm(update.address, gain.address, rows.address, norm, count), ROWS * 6 * hidden),
        (kernels::bias_gelu(x.address, bias.address, count, shape), ROWS * 4 * wide),
        (
            kernels::attention(
                qkv.address,
                tiles_on_device.address,
                tiles.len() as u32,
                update.address,
                shape,
            ),
            batch.tokens() * 8 * hidden,
        ),
    ];
    launches
        .into_iter()
        .map(|(launch, bytes)| {
            let kernel = launch.kernel.name();
            let seconds = bench.seconds(&Work::Launch(launch), 20)?;
            let gb_per_s = bytes as f64 / seconds / 1e9;
            Ok(KernelSpeed {
                kernel,
                rows: ROWS,
                microseconds: seconds * 1e6,
                gb_per_s,
                share_of_copy: gb_per_s / limits.copy_gb_per_s,
            })
        })
        .collect()
}

pub fn product_speed<D: Driver>(
    driver: Arc<D>,
    shape: &KernelShape,
    plans: Plans,
    limits: &Limits,
) -> Result<Vec<ProductSpeed>, DriverError> {
    let mut bench = Bench::new(driver)?;
    let mut found = Vec::new();
    for of in product_shapes(shape, Activation::Gelu) {
        let weight = bench.random(of.inputs * of.outputs, 0.02)?;
        let bias = bench.random(of.outputs, 0.1)?;
        let x = bench.random(ROWS * of.inputs, 1.0)?;
        let out = bench.memory.buffer(2 * ROWS * of.outputs)?;
        for rows in [16, 128, 1_024, ROWS] {
            let product = Product {
                x: x.address,
                weight: weight.address,
                bias: if of.epilogue == Epilogue::Nothing { Address::NULL } else { bias.address },
                out: out.address,
                rows,
                shape: of,
            };
            let seconds = bench.seconds(&Work::Product(product), 20)?;
            let tflops = 2.0 * (rows * of.inputs * of.outputs) as f64 / seconds / 1e12;
            found.push(ProductSpeed {
                plans: match plans {
                    Plans::ByRows => "by rows",
                    Plans::Fixed => "fixed",
                },
                rows,
                inputs: of.inputs,
                outputs: of.outputs,
                microseconds: seconds * 1e6,
                tflops,
                share_of_peak: tflops / limits.product_tflops,
            });
        }
    }
    Ok(found)
}

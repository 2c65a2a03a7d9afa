//! The executor for NVIDIA GPUs: packed tokens, 16-bit numbers, kernels compiled when a model is loaded.
//!
//! Read in this order: [`driver`] (what a device must be able to do), [`kernels`] (what runs on it; the sources are in
//! `kernels/cuda/`), [`plan`] and [`forward`] (how a batch becomes launches), [`slot`] and [`executor`] (who owns what while
//! it runs). [`nvidia`], [`products`], [`compile`] and [`library`] are the only files that know CUDA; [`host`] and
//! [`reference`](mod@reference) take their place where there is no GPU.
//!
//! An executor serves only after its labels on the calibration texts agreed with the processor's f32, so a fault that no
//! test foresaw costs speed and not answers. What was and was not run on a GPU is in `docs/cuda.md`.

pub mod driver;

pub mod kernels;

pub mod reference;

pub mod plan;

mod forward;

mod memory;

mod weights;

mod slot;

mod executor;

pub mod host;

mod random;

pub mod parity;

mod library;

pub mod compile;

mod products;

mod nvidia;

pub mod gpu_check;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use half::{bf16, f16};

pub use self::executor::CudaExecutor;
use self::{
    kernels::KernelShape,
    nvidia::{Gpu, NvidiaDriver},
};
use super::{
    batch::PackedBatch,
    error::ModelError,
    executor::{Executor, ExecutorError, HeadId},
    heads::HeadWeights,
    select::{AGREEMENT_MIN, Agreement},
    spec::EncoderSpec,
    standby::WithStandby,
    weights::Checkpoint,
};

/// How a model's numbers are stored on the device. Sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numbers {
    Bf16,
    F16,
}

impl Numbers {
    pub fn widen(self, bits: u16) -> f32 {
        match self {
            Numbers::Bf16 => bf16::from_bits(bits).to_f32(),
            Numbers::F16 => f16::from_bits(bits).to_f32(),
        }
    }

    /// Rounds to the nearest, to even.
    pub fn narrow(self, value: f32) -> u16 {
        match self {
            Numbers::Bf16 => bf16::from_f32(value).to_bits(),
            Numbers::F16 => f16::from_f32(value).to_bits(),
        }
    }

    /// Distance from 1 to the next number.
    pub fn epsilon(self) -> f32 {
        match self {
            Numbers::Bf16 => 1.0 / 128.0,
            Numbers::F16 => 1.0 / 1024.0,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Numbers::Bf16 => "bf16",
            Numbers::F16 => "f16",
        }
    }
}

/// Whether the number of rows may choose how a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plans {
    /// The fastest plan for each number of rows.
    ByRows,
    /// One plan for all, so that a row's bits cannot depend on what shares its batch.
    Fixed,
}

/// How an executor uses its device.
#[derive(Clone, Copy, Debug)]
pub struct CudaOptions {
    /// Most tokens that go through the layers together; a larger batch goes in parts. Halved while memory does not suffice.
    pub part_tokens_max: usize,
    /// Batches that are under way at once.
    pub slots: usize,
    /// Parts up to this many rows are recorded as graphs, because starting their launches takes longer than running them.
    pub recorded_rows_max: usize,
    /// Whether the largest part is run once before the first batch comes.
    pub warm: bool,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self { part_tokens_max: 16_384, slots: 2, recorded_rows_max: 1_024, warm: true }
    }
}

/// Said with every executor on a GPU until its checks have been run on one; see `docs/cuda.md`.
pub const UNSEEN: &str = "its kernels were checked without a GPU only";

/// What came of looking for a GPU.
pub enum Outcome {
    /// With the reason why it was trusted.
    Serves(Box<dyn Executor>, String),
    /// Why the processor serves.
    Unusable(String),
}

/// A model, for which an executor is looked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub spec: &'a EncoderSpec,
    pub checkpoint: &'a Checkpoint,
    pub heads: &'a [HeadWeights],
    /// Which GPU, counted from 0.
    pub ordinal: u32,
    /// As configured: `auto`, `bf16`, ...
    pub precision: &'a str,
}

/// Looks for a GPU and builds an executor on it. It is chosen only if its labels agree with those of `reference`, the
/// processor's f32, which then stands by for the case that the device is lost. Nothing in here panics or prevents a start.
pub fn attempt(
    wanted: Wanted,
    reference: impl FnOnce() -> Result<Box<dyn Executor>, ModelError>,
    agreement: Option<&Agreement>,
) -> Outcome {
    // The bindings to CUDA panic where a library lacks a function.
    catch_unwind(AssertUnwindSafe(|| try_attempt(wanted, reference, agreement)))
        .unwrap_or_else(|_| Err("CUDA's libraries are of another version than this program's".into()))
        .unwrap_or_else(Outcome::Unusable)
}

fn try_attempt(
    wanted: Wanted,
    reference: impl FnOnce() -> Result<Box<dyn Executor>, ModelError>,
    agreement: Option<&Agreement>,
) -> Result<Outcome, String> {
    let candidates = candidates(wanted.precision)?;
    let shape = KernelShape::new(wanted.spec, candidates[0])?;
    let gpu = Gpu::open(wanted.ordinal)?;
    let agreement = agreement.ok_or("it could not be compared with the processor's f32")?;
    let reference = reference().map_err(|e| e.to_string())?;
    let device = gpu.info.name.clone();
    let mut refused = Vec::new();
    for numbers in candidates {
        let shape = KernelShape { numbers: *numbers, ..shape };
        let executor = build(&gpu, shape, wanted)?;
        let share = agreement(&*reference, &executor).map_err(|e| e.to_string())?;
        let said = format!(
            "{} agrees with f32 on {:.1} % of the labels of the calibration texts",
            numbers.name(),
            100.0 * share
        );
        if share >= AGREEMENT_MIN {
            let reason = format!("{said}; {UNSEEN}");
            let executor = WithStandby::new(Box::new(executor), reference, &device);
            return Ok(Outcome::Serves(Box::new(executor), reason));
        }
        refused.push(said);
    }
    Err(format!("{device} was not trusted: {}", refused.join(", ")))
}

/// Numbers to try, the first one first.
fn candidates(precision: &str) -> Result<&'static [Numbers], String> {
    match precision {
        "auto" => Ok(&[Numbers::Bf16, Numbers::F16]),
        "bf16" => Ok(&[Numbers::Bf16]),
        "f16" => Ok(&[Numbers::F16]),
        other => Err(format!("GPUs compute in bf16 and f16 here, and {other} was asked for")),
    }
}

/// An executor whose rows do not depend on what shares their batch: with the fastest plan for each number of rows where
/// that holds on this chip, else with one for all.
fn build(gpu: &Arc<Gpu>, shape: KernelShape, wanted: Wanted) -> Result<CudaExecutor<NvidiaDriver>, String> {
    let with = |plans| {
        let driver = NvidiaDriver::new(gpu.clone(), &shape, plans)?;
        let options = CudaOptions::default();
        CudaExecutor::new(Arc::new(driver), shape, wanted.spec, wanted.checkpoint, wanted.heads, options)
            .map_err(|e| e.to_string())
    };
    let by_rows = with(Plans::ByRows)?;
    if same_bits(&by_rows, wanted.spec, wanted.heads.len(), &NEIGHBOURS).map_err(|e| e.to_string())? {
        return Ok(by_rows);
    }
    drop(by_rows);
    with(Plans::Fixed)
}

/// How many other sequences share the batch of the one that [`same_bits`] watches: up to some ten thousand tokens.
pub const NEIGHBOURS: [u32; 6] = [0, 2, 9, 30, 120, 400];

/// Whether a sequence's logits have the same bits whatever number of `neighbours` shares its batch.
pub fn same_bits(
    executor: &dyn Executor,
    spec: &EncoderSpec,
    heads: usize,
    neighbours: &[u32],
) -> Result<bool, ExecutorError> {
    let vocabulary = spec.vocabulary as u32;
    let sequence =
        |seed: u32, length: usize| (0..length as u32).map(move |i| (seed * 31 + i * 7) % vocabulary);
    let length = spec.tokens_max().min(23);
    let mut alone: Option<Vec<u32>> = None;
    for others in neighbours {
        let mut batch = PackedBatch::new();
        for other in 0..*others {
            batch.push(sequence(other + 2, (5 + other as usize * 11 % 40).min(spec.tokens_max())));
        }
        let first = batch.push(sequence(1, length));
        let own = first..first + length;
        let encoded = executor.encode(&batch)?;
        let mut bits = Vec::new();
        for head in 0..heads {
            let rows = encoded.token_logits(HeadId(head), std::slice::from_ref(&own))?;
            bits.extend(rows.iter().map(|x| x.to_bits()));
        }
        if *alone.get_or_insert_with(|| bits.clone()) != bits {
            return Ok(false);
        }
    }
    Ok(true)
}

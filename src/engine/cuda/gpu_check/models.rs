//! Whole models: the processor's f32 as the judge, then speed, latency, memory and a soak.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{GpuCheckOptions, Limits, MakeDriver, cuda_options, name};
use crate::engine::{
    batch::PackedBatch,
    check::{self, Tally},
    cpu::{CpuExecutor, Precision},
    cuda::{CudaExecutor, NEIGHBOURS, Numbers, Plans, driver::Driver, kernels::KernelShape, same_bits},
    executor::{Executor, HeadId},
    heads::{HeadSpec, HeadTask},
    model::Parts,
    select::AGREEMENT_MIN,
};

#[derive(Debug, Serialize)]
pub struct ModelReport {
    pub model: String,
    pub numbers: &'static str,
    pub plans: &'static str,
    pub passed: bool,
    /// Share of labels, from 0 to 1, that are the same as the processor's f32 gives.
    pub labels_agree: f64,
    pub largest_logit_difference: f64,
    /// Whether a text's bits are the same alone and with others.
    pub same_bits: bool,
    pub load_s: f64,
    pub kernel: String,
    pub speed: Vec<Speed>,
    pub latency: Vec<Latency>,
    pub soak: Option<Soak>,
}

/// Batches one after another, as many at once as the executor has slots.
#[derive(Debug, Serialize)]
pub struct Speed {
    /// Token counts of the texts: `ragged` are those of usual messages.
    pub lengths: String,
    pub batch_tokens: usize,
    pub tokens_per_s: f64,
    pub tflops: f64,
    /// Of the products' rate that was measured on this chip.
    pub share_of_peak: Option<f64>,
}

/// One batch at a time, from its ids on the host to logits on the host.
#[derive(Debug, Serialize)]
pub struct Latency {
    pub texts: usize,
    pub tokens: usize,
    pub median_ms: f64,
    pub p99_ms: f64,
}

#[derive(Debug, Serialize)]
pub struct Soak {
    pub seconds: f64,
    pub batches: usize,
    /// Free memory at the start less that at the end.
    pub grown_mib: f64,
    pub results_changed: usize,
}

/// Time that one figure of speed takes.
const SPEED_TIME: Duration = Duration::from_millis(500);
const HOST_SPEED_TIME: Duration = Duration::from_millis(10);
const LATENCY_RUNS: usize = 300;
const HOST_LATENCY_RUNS: usize = 3;

/// Checks a model in both kinds of numbers and with both ways of planning products.
pub fn check<D: Driver>(
    dir: &Path,
    options: &GpuCheckOptions,
    make: MakeDriver<D>,
    limits: Option<&Limits>,
) -> Result<Vec<ModelReport>, String> {
    let parts = Parts::read(dir).map_err(|e| e.to_string())?;
    let said = |e: crate::engine::error::ModelError| e.to_string();
    let cpu =
        CpuExecutor::new(&parts.spec, &parts.checkpoint, &parts.weights, Precision::F32, 0).map_err(said)?;
    let lengths: Vec<usize> =
        check::usual_lengths().into_iter().map(|n| n.min(parts.spec.tokens_max())).collect();
    let lengths = if options.host { &lengths[..4] } else { &lengths[..] };
    let inputs = check::random_inputs(lengths, parts.spec.vocabulary as u32);
    let wanted = check::all_logits(&cpu, &parts.heads, &inputs, (1, 1)).map_err(said)?;
    let mut reports: Vec<ModelReport> = Vec::new();
    for (numbers, plans) in
        [(Numbers::Bf16, Plans::ByRows), (Numbers::Bf16, Plans::Fixed), (Numbers::F16, Plans::ByRows)]
    {
        let shape = KernelShape::new(&parts.spec, numbers)?;
        let begun = Instant::now();
        let driver = make(&shape, plans)?;
        let cuda = cuda_options(options.host);
        let executor =
            CudaExecutor::new(driver.clone(), shape, &parts.spec, &parts.checkpoint, &parts.weights, cuda)
                .map_err(said)?;
        let load_s = begun.elapsed().as_secs_f64();
        let got = check::all_logits(&executor, &parts.heads, &inputs, (1, 1)).map_err(said)?;
        let mut tally = Tally::default();
        for (a, b) in wanted.iter().flatten().zip(got.iter().flatten()) {
            tally.compare(&check::widened(a), b);
        }
        let labels_agree = tally.agreement().unwrap_or(0.0);
        let neighbours = if options.host { &NEIGHBOURS[..3] } else { &NEIGHBOURS[..] };
        let bits =
            same_bits(&executor, &parts.spec, parts.heads.len(), neighbours).map_err(|e| e.to_string())?;
        let mut measured = Measured { parts: &parts, executor: &executor, options, limits };
        let report = ModelReport {
            model: name(dir),
            numbers: numbers.name(),
            plans: match plans {
                Plans::ByRows => "by rows",
                Plans::Fixed => "fixed",
            },
            // Bits are promised where one plan serves all; by rows they are a finding.
            passed: labels_agree >= AGREEMENT_MIN && (bits || plans == Plans::ByRows),
            labels_agree,
            largest_logit_difference: tally.largest_difference.unwrap_or(f64::MAX),
            same_bits: bits,
            load_s,
            kernel: executor.info().kernel,
            speed: measured.speed()?,
            latency: measured.latency()?,
            // Once for a model: the kinds differ in nothing that a soak would show.
            soak: match options.soak_s {
                seconds if seconds > 0 && reports.is_empty() => {
                    Some(measured.soak(&driver, Duration::from_secs(seconds))?)
                }
                _ => None,
            },
        };
        reports.push(report);
    }
    Ok(reports)
}

struct Measured<'a> {
    parts: &'a Parts,
    executor: &'a dyn Executor,
    options: &'a GpuCheckOptions,
    limits: Option<&'a Limits>,
}

/// A batch, and the spans of its texts.
struct Inputs {
    batch: PackedBatch,
    spans: Vec<std::ops::Range<usize>>,
}

impl Measured<'_> {
    fn inputs(&self, lengths: impl Iterator<Item = usize>) -> Inputs {
        let lengths: Vec<usize> = lengths.map(|n| n.clamp(1, self.parts.spec.tokens_max())).collect();
        let mut batch = PackedBatch::new();
        let spans = check::random_inputs(&lengths, self.parts.spec.vocabulary as u32)
            .into_iter()
            .map(|ids| {
                let first = batch.push(ids);
                first..batch.tokens()
            })
            .collect();
        Inputs { batch, spans }
    }

    /// Texts of the given lengths, over and over, up to `tokens`.
    fn filled(&self, lengths: &[usize], tokens: usize) -> Inputs {
        let mut left = tokens;
        self.inputs(lengths.iter().copied().cycle().take_while(move |n| {
            let fits = *n <= left;
            left = left.saturating_sub(*n);
            fits
        }))
    }

    /// One batch to its logits.
    fn once(&self, inputs: &Inputs) -> Result<Vec<f32>, String> {
        let failed = |e: crate::engine::executor::ExecutorError| e.to_string();
        let encoded = self.executor.encode(&inputs.batch).map_err(failed)?;
        let mut all = Vec::new();
        for (i, HeadSpec { task, .. }) in self.parts.heads.iter().enumerate() {
            all.extend(
                match task {
                    HeadTask::TextClassification | HeadTask::Embedding => {
                        encoded.pooled_logits(HeadId(i), &inputs.spans)
                    }
                    HeadTask::TokenClassification => encoded.token_logits(HeadId(i), &inputs.spans),
                }
                .map_err(failed)?,
            );
        }
        Ok(all)
    }

    fn speed(&mut self) -> Result<Vec<Speed>, String> {
        let usual = check::usual_lengths();
        let cases: Vec<(String, Vec<usize>, usize)> = match self.options.host {
            true => vec![("ragged".into(), usual, 200)],
            false => [2_048, 8_192, 16_384]
                .into_iter()
                .flat_map(|tokens| {
                    let fixed = [16usize, 64, 256, 512].map(|n| (n.to_string(), vec![n], tokens));
                    [("ragged".to_string(), usual.clone(), tokens)].into_iter().chain(fixed)
                })
                .collect(),
        };
        let time = if self.options.host { HOST_SPEED_TIME } else { SPEED_TIME };
        cases.into_iter().map(|(lengths, of, tokens)| self.speed_of(lengths, &of, tokens, time)).collect()
    }

    fn speed_of(
        &self,
        lengths: String,
        of: &[usize],
        tokens: usize,
        time: Duration,
    ) -> Result<Speed, String> {
        let inputs = self.filled(of, tokens);
        self.once(&inputs)?;
        let begun = Instant::now();
        let outcomes: Vec<Result<usize, String>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.executor.batches_at_once())
                .map(|_| {
                    scope.spawn(|| {
                        let mut batches = 0;
                        while begun.elapsed() < time || batches == 0 {
                            self.once(&inputs)?;
                            batches += 1;
                        }
                        Ok(batches)
                    })
                })
                .collect();
            let lost = || Err("a measuring thread failed".to_string());
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| lost())).collect()
        });
        let seconds = begun.elapsed().as_secs_f64();
        let batches: usize = outcomes.into_iter().sum::<Result<usize, String>>()?;
        let tokens_per_s = (batches * inputs.batch.tokens()) as f64 / seconds;
        let tflops = tokens_per_s * self.parts.spec.flops_per_token() as f64 / 1e12;
        Ok(Speed {
            lengths,
            batch_tokens: inputs.batch.tokens(),
            tokens_per_s,
            tflops,
            share_of_peak: self.limits.map(|l| tflops / l.product_tflops),
        })
    }

    fn latency(&mut self) -> Result<Vec<Latency>, String> {
        let runs = if self.options.host { HOST_LATENCY_RUNS } else { LATENCY_RUNS };
        [(1, 12), (1, 47), (1, 256), (8, 47)]
            .into_iter()
            .map(|(texts, tokens)| {
                let inputs = self.inputs(std::iter::repeat_n(tokens, texts));
                // The first is launched, the second recorded; from the third on it is as it will be.
                (0..3).try_for_each(|_| self.once(&inputs).map(|_| ()))?;
                let mut times = Vec::with_capacity(runs);
                for _ in 0..runs {
                    let begun = Instant::now();
                    self.once(&inputs)?;
                    times.push(begun.elapsed().as_secs_f64() * 1e3);
                }
                times.sort_by(f64::total_cmp);
                Ok(Latency { texts, tokens, median_ms: times[runs / 2], p99_ms: times[runs * 99 / 100] })
            })
            .collect()
    }

    fn soak<D: Driver>(&mut self, driver: &Arc<D>, time: Duration) -> Result<Soak, String> {
        let usual = check::usual_lengths();
        let kept = self.filled(&usual, 700);
        let wanted = self.once(&kept)?;
        let sizes = if self.options.host { [100, 160, 60] } else { [16_384, 900, 40_000] };
        let others: Vec<Inputs> = sizes.into_iter().map(|tokens| self.filled(&usual, tokens)).collect();
        for inputs in &others {
            self.once(inputs)?;
        }
        let free = |driver: &Arc<D>| driver.memory_free().map_err(|e| e.to_string());
        let (before, begun) = (free(driver)?, Instant::now());
        let (mut batches, mut results_changed) = (0, 0);
        while begun.elapsed() < time {
            self.once(&others[batches % others.len()])?;
            results_changed += usize::from(self.once(&kept)? != wanted);
            batches += 2;
        }
        let grown = before as f64 - free(driver)? as f64;
        Ok(Soak {
            seconds: begun.elapsed().as_secs_f64(),
            batches,
            grown_mib: grown / f64::from(1 << 20),
            results_changed,
        })
    }
}

//! `hearken gpu-check`: everything that only a GPU can show, in one run of some minutes.
//!
//! Parity of every kernel with its plain reference; whole models against the processor's f32; whether a text's bits depend on
//! its batch; memory; what the chip can do (copy, matrix product) and which share of it kernels and models reach. On
//! `--host` the processor takes the GPU's place, which tests the program and measures nothing.

mod kernels;
mod made;
mod models;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use self::{
    kernels::{KernelSpeed, Limits, ProductSpeed},
    models::ModelReport,
};
use super::{
    CudaOptions, Numbers, Plans,
    driver::Driver,
    host::HostDriver,
    kernels::KernelShape,
    nvidia::{Gpu, NvidiaDriver},
    parity::{self, Parity},
};
pub use made::{MADE, write_made};

#[derive(Clone, Debug)]
pub struct GpuCheckOptions {
    /// Which GPU, counted from 0.
    pub ordinal: u32,
    /// The processor in place of a GPU.
    pub host: bool,
    /// Compare kernels and nothing else: short enough for a memory checker.
    pub kernels_only: bool,
    /// Model folders to compare and measure.
    pub models: Vec<PathBuf>,
    /// Seconds of running batches at the end, watching memory and results.
    pub soak_s: u64,
}

#[derive(Debug, Serialize)]
pub struct GpuCheckReport {
    pub device: String,
    pub model: String,
    pub capability: String,
    pub memory_mib: usize,
    pub software: String,
    /// Whether everything that has a right answer gave it.
    pub passed: bool,
    pub kernels: Vec<ShapeParity>,
    pub limits: Option<Limits>,
    pub kernel_speed: Vec<KernelSpeed>,
    pub product_speed: Vec<ProductSpeed>,
    pub models: Vec<ModelReport>,
}

#[derive(Debug, Serialize)]
pub struct ShapeParity {
    pub hidden: usize,
    pub head_width: usize,
    pub comparisons: Vec<Parity>,
}

/// Hidden, intermediate and head width: the default pack, XLM-R base, and a wide head.
const SHAPES: [(usize, usize, usize); 3] = [(384, 1536, 32), (768, 3072, 64), (512, 1024, 128)];
/// On the processor, where a plain reference of the larger ones takes minutes.
const HOST_SHAPES: [(usize, usize, usize); 1] = [(64, 96, 32)];
const ROWS: usize = 700;
const HOST_ROWS: usize = 40;
const HOST_MEMORY_BYTES: usize = 2 << 30;

/// Makes a driver whose kernels are compiled for a shape.
type MakeDriver<'a, D> = &'a dyn Fn(&KernelShape, Plans) -> Result<Arc<D>, String>;

/// Runs the checks, or says why they cannot run.
pub fn gpu_check(options: &GpuCheckOptions) -> Result<GpuCheckReport, String> {
    if options.host {
        let make = |shape: &KernelShape, _| Ok(Arc::new(HostDriver::new(*shape, HOST_MEMORY_BYTES)));
        return run(options, &make);
    }
    let gpu = Gpu::open(options.ordinal)?;
    let make = |shape: &KernelShape, plans| NvidiaDriver::new(gpu.clone(), shape, plans).map(Arc::new);
    run(options, &make)
}

fn run<D: Driver>(options: &GpuCheckOptions, make: MakeDriver<D>) -> Result<GpuCheckReport, String> {
    let failed = |e: super::driver::DriverError| e.to_string();
    let (shapes, rows) = if options.host { (&HOST_SHAPES[..], HOST_ROWS) } else { (&SHAPES[..], ROWS) };
    let shape_of = |(hidden, intermediate, head_width): (usize, usize, usize), numbers| KernelShape {
        numbers,
        hidden,
        intermediate,
        heads: hidden / head_width,
        head_width,
    };
    let first = make(&shape_of(shapes[0], Numbers::Bf16), Plans::ByRows)?;
    let info = first.info().clone();
    drop(first);
    let mut report = GpuCheckReport {
        device: info.name,
        model: info.model,
        capability: format!("{}.{}", info.capability.0, info.capability.1),
        memory_mib: info.memory_bytes >> 20,
        software: info.software,
        passed: true,
        kernels: Vec::new(),
        limits: None,
        kernel_speed: Vec::new(),
        product_speed: Vec::new(),
        models: Vec::new(),
    };
    for shape in shapes {
        for numbers in [Numbers::Bf16, Numbers::F16] {
            let of = shape_of(*shape, numbers);
            eprintln!("kernels: hidden {}, heads of {}, {}", of.hidden, of.head_width, numbers.name());
            let comparisons = parity::compare(make(&of, Plans::ByRows)?, &of, rows, 9).map_err(failed)?;
            report.passed &= comparisons.iter().all(|p| p.passed);
            report.kernels.push(ShapeParity { hidden: of.hidden, head_width: of.head_width, comparisons });
        }
    }
    if options.kernels_only {
        return Ok(report);
    }
    if !options.host {
        eprintln!("limits of the chip");
        let of = shape_of(SHAPES[1], Numbers::Bf16);
        let driver = make(&of, Plans::ByRows)?;
        let limits = kernels::limits(driver.clone()).map_err(failed)?;
        report.kernel_speed = kernels::kernel_speed(driver, &of, &limits).map_err(failed)?;
        for plans in [Plans::ByRows, Plans::Fixed] {
            report
                .product_speed
                .extend(kernels::product_speed(make(&of, plans)?, &of, plans, &limits).map_err(failed)?);
        }
        report.limits = Some(limits);
    }
    for model in &options.models {
        eprintln!("model {}", model.display());
        let checked = models::check(model, options, make, report.limits.as_ref())?;
        report.passed &= checked.iter().all(|m| m.passed);
        report.models.extend(checked);
    }
    Ok(report)
}

/// How the executor under check uses its device.
fn cuda_options(host: bool) -> CudaOptions {
    match host {
        false => CudaOptions::default(),
        true => CudaOptions { part_tokens_max: 512, warm: false, ..CudaOptions::default() },
    }
}

/// The name of a model's folder.
fn name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned())
}

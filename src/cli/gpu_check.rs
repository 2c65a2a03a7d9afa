//! `hearken gpu-check`: what only a GPU can show, as a table and as JSON. `scripts/gpu-check` runs it with all that
//! belongs around it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, anyhow};
use clap::Args;

use crate::engine::cuda::gpu_check::{GpuCheckOptions, GpuCheckReport, gpu_check, write_made};

/// Compare every CUDA kernel and whole models with the processor, and measure them
#[derive(Args)]
pub struct Arguments {
    /// Which GPU, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    gpu: u32,
    /// Model folders to check
    #[arg(long = "model", value_name = "DIR")]
    models: Vec<PathBuf>,
    /// Make a model with random weights first and check it too: xlm-r-base, xlm-r-large or tiny
    #[arg(long, value_name = "NAME", requires = "scratch")]
    made: Vec<String>,
    /// Folder for made models
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Compare kernels only: short enough for a memory checker
    #[arg(long)]
    kernels_only: bool,
    /// Seconds of batches at the end of each model, watching memory and results
    #[arg(long, value_name = "S", default_value_t = 0)]
    soak: u64,
    /// Let the processor take the GPU's place: tests this command, measures nothing
    #[arg(long)]
    host: bool,
    /// Write the whole report here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    super::logs::start("text", "warn");
    let mut models = arguments.models;
    for name in arguments.made {
        let scratch = arguments.scratch.as_ref().context("--made needs --scratch")?;
        let dir = scratch.join(&name);
        write_made(&name, &dir).map_err(|e| anyhow!("cannot make {name}: {e}"))?;
        models.push(dir);
    }
    let options = GpuCheckOptions {
        ordinal: arguments.gpu,
        host: arguments.host,
        kernels_only: arguments.kernels_only,
        models,
        soak_s: arguments.soak,
    };
    let report = gpu_check(&options).map_err(|reason| anyhow!("the check cannot run: {reason}"))?;
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    print(&report);
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(passed: bool) -> &'static str {
    if passed { "ok" } else { "WRONG" }
}

fn print(report: &GpuCheckReport) {
    println!(
        "{} {} (compute capability {}, {} MiB), {}",
        report.device, report.model, report.capability, report.memory_mib, report.software
    );
    println!("\nkernels against their plain references (difference in units of rounding; above 1 is wrong)");
    for shape in &report.kernels {
        for p in &shape.comparisons {
            let of = format!("{} hidden {} heads of {}", p.numbers, shape.hidden, shape.head_width);
            println!("  {:<34} {:<26} {:>8.3}  {}", of, p.kernel, p.largest, verdict(p.passed));
        }
    }
    if let Some(limits) = &report.limits {
        println!(
            "\nthis chip: copy {:.0} GB/s, product {:.0} TFLOP/s",
            limits.copy_gb_per_s, limits.product_tflops
        );
    }
    for k in &report.kernel_speed {
        println!(
            "  {:<16} {:>6} rows {:>9.1} us {:>7.0} GB/s, {:>4.0} % of the copy",
            k.kernel,
            k.rows,
            k.microseconds,
            k.gb_per_s,
            100.0 * k.share_of_copy
        );
    }
    for p in &report.product_speed {
        println!(
            "  {:<8} {:>6} x {:>4} x {:>4} {:>9.1} us {:>6.0} TFLOP/s, {:>4.0} % of the product",
            p.plans,
            p.rows,
            p.inputs,
            p.outputs,
            p.microseconds,
            p.tflops,
            100.0 * p.share_of_peak
        );
    }
    for m in &report.models {
        println!(
            "\n{} {} plans {}: {}; labels agree {:.2} %, largest difference {:.4}, same bits {}, loaded in {:.1} s",
            m.model,
            m.numbers,
            m.plans,
            verdict(m.passed),
            100.0 * m.labels_agree,
            m.largest_logit_difference,
            m.same_bits,
            m.load_s
        );
        println!("  {}", m.kernel);
        for s in &m.speed {
            let share =
                s.share_of_peak.map_or(String::new(), |p| format!(", {:.0} % of the product", 100.0 * p));
            println!(
                "  lengths {:<7} {:>6} tokens a batch: {:>10.0} tokens/s{share}",
                s.lengths, s.batch_tokens, s.tokens_per_s
            );
        }
        for l in &m.latency {
            println!(
                "  {} x {:<4} tokens: median {:.3} ms, p99 {:.3} ms",
                l.texts, l.tokens, l.median_ms, l.p99_ms
            );
        }
        if let Some(s) = &m.soak {
            println!(
                "  soak {:.0} s, {} batches: memory grown by {:.1} MiB, results changed {} times",
                s.seconds, s.batches, s.grown_mib, s.results_changed
            );
        }
    }
    println!("\n{}", if report.passed { "everything agrees" } else { "something is WRONG: see above" });
}

//! `hearken models`: what is installed, and whether a model says what it should and how fast.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::model_flags::{ModelFlags, RunFlags};
use crate::engine::{
    Engine,
    check::{CheckOptions, check},
};

#[derive(Subcommand)]
pub enum Command {
    /// List the models of the pack, by the task that they answer
    List(List),
    /// Show one model: name, content hash, device and precision with their reasons
    Show(Show),
    /// Load one model folder, compare it with its expected.json, and measure its speed
    Check(Check),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    model: ModelFlags,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Show {
    /// The task: sentiment, intent or keyphrases
    slot: String,
    #[command(flatten)]
    model: ModelFlags,
}

#[derive(Args)]
#[command(after_help = "Examples:
  hearken models check models/default
  hearken models check ./xlm-r --precision int8 --lengths lengths.json --json")]
pub struct Check {
    /// Folder with config.json and model.safetensors; tokenizer.json and expected.json are used where they are there
    dir: PathBuf,
    #[command(flatten)]
    run: RunFlags,
    /// Token counts of the workload, a JSON list; without it those of usual customer messages
    #[arg(long, value_name = "FILE")]
    lengths: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    super::logs::start("text", "warn");
    match command {
        Command::List(arguments) => list(arguments),
        Command::Show(arguments) => show(arguments),
        Command::Check(arguments) => measure(arguments),
    }
}

fn open(flags: ModelFlags) -> anyhow::Result<Engine> {
    Engine::open(&flags.options()?.0).context("cannot load the models")
}

fn list(arguments: List) -> anyhow::Result<ExitCode> {
    let info = open(arguments.model)?.info();
    if arguments.json {
        let rows =
            info.models.iter().map(|(slot, m)| json!({"slot": slot, "name": m.name, "revision": m.revision}));
        println!("{}", serde_json::Value::Array(rows.collect()));
    } else {
        for (slot, model) in &info.models {
            println!("{slot:<12} {:<20} {}", model.name, model.revision);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(arguments: Show) -> anyhow::Result<ExitCode> {
    let info = open(arguments.model)?.info();
    let Some(model) = info.models.get(arguments.slot.as_str()) else {
        let known: Vec<_> = info.models.keys().copied().collect();
        bail!("there is no model for {:?}; there are models for {}", arguments.slot, known.join(", "));
    };
    let shown = json!({
        "slot": arguments.slot, "name": model.name, "revision": model.revision,
        "device": info.device, "device_reason": info.device_reason,
        "precision": info.precision, "precision_reason": info.precision_reason, "threads": info.threads,
    });
    println!("{shown:#}");
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: Check) -> anyhow::Result<ExitCode> {
    let options = CheckOptions {
        device: arguments.run.device.unwrap_or_else(|| "auto".into()),
        precision: arguments.run.precision.unwrap_or_else(|| "auto".into()),
        threads: arguments.run.threads.unwrap_or(0),
        lengths: arguments.lengths,
    };
    let report = check(&arguments.dir, &options)?;
    let report = serde_json::to_value(report)?;
    if arguments.json {
        println!("{report}");
    } else if let serde_json::Value::Object(rows) = report {
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_null()) {
            println!("{name:<18} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    Ok(ExitCode::SUCCESS)
}

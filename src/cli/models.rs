//! `hearken models`: what is installed, fetching more, and whether a model says what it should and how fast.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, builder::BoolishValueParser};
use serde_json::json;

use super::{
    model_flags::{ModelFlags, RunFlags},
    running::hub_options,
};
use crate::engine::{
    Engine,
    check::{CheckOptions, check},
    hub::Hub,
};

#[derive(Subcommand)]
pub enum Command {
    /// List the models of the pack, by the task that they answer, and what was fetched from the hub
    List(List),
    /// Show one model: name, content hash, device and precision with their reasons
    Show(Show),
    /// Download a model of the hub, pinned to a commit and checked
    Fetch(Fetch),
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
  hearken models fetch cardiffnlp/twitter-xlm-roberta-base-sentiment
  hearken models fetch nlptown/bert-base-multilingual-uncased-sentiment@main --json

HF_ENDPOINT, HF_TOKEN and HF_HOME mean what they mean to Hugging Face's own programs. A server takes a fetched model with
  curl -X PUT localhost:8080/v1/models/sentiment -H 'Content-Type: application/json' -d '{\"repo\": \"REPO\"}'")]
pub struct Fetch {
    /// Repository, with a commit, branch or tag after an @ where it is not the main branch
    #[arg(value_name = "REPO[@REVISION]")]
    repo: String,
    /// Look into the cache only
    #[arg(long, env = "HEARKEN_OFFLINE", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    offline: Option<bool>,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
        Command::Fetch(arguments) => fetch(arguments),
        Command::Check(arguments) => measure(arguments),
    }
}

fn open(flags: ModelFlags) -> anyhow::Result<Engine> {
    Engine::open(&flags.options()?.0).context("cannot load the models")
}

fn list(arguments: List) -> anyhow::Result<ExitCode> {
    let info = open(arguments.model)?.info();
    // Without a cache nothing was fetched.
    let fetched = Hub::new(&hub_options(true)).map(|hub| hub.snapshots()).unwrap_or_default();
    if arguments.json {
        let rows =
            info.models.iter().map(|(slot, m)| json!({"slot": slot, "name": m.name, "revision": m.revision}));
        let fetched = fetched.iter().map(|s| json!({"slot": null, "name": s.repo, "revision": s.commit}));
        println!("{}", serde_json::Value::Array(rows.chain(fetched).collect()));
    } else {
        for (slot, model) in &info.models {
            println!("{slot:<12} {:<20} {}", model.name, model.revision);
        }
        for snapshot in &fetched {
            println!("{:<12} {:<20} {}", "(fetched)", snapshot.repo, snapshot.commit);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch(arguments: Fetch) -> anyhow::Result<ExitCode> {
    let (repo, revision) = match arguments.repo.split_once('@') {
        Some((repo, revision)) => (repo, Some(revision)),
        None => (arguments.repo.as_str(), None),
    };
    let mut options = hub_options(arguments.offline.unwrap_or(false));
    options.progress = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let snapshot = Hub::new(&options)?.fetch(repo, revision)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&snapshot)?);
    } else {
        println!("{}@{}\n{}", snapshot.repo, snapshot.commit, snapshot.dir.display());
        for (name, file) in &snapshot.files {
            println!("  {name:<28} {:>12} bytes  sha256:{}", file.bytes, file.sha256);
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

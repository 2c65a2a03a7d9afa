//! The command line: one file per command. No logic of its own: a command reads its arguments, calls the rooms and
//! prints.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod logs;
mod running;
mod stores;

mod demo;
mod serve;

mod model_flags;
mod models;
mod score;

mod load;

mod backup;
mod replay;
mod restore;
mod verify;

mod openapi;

mod gpu_check;

#[derive(Parser)]
#[command(name = "hearken", version, about, long_about = LONG_ABOUT, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "Scores customer messages with multilingual transformers and keeps a ready-made insight \
                          document for every CRM record.";

const EXAMPLES: &str = "Examples:
  hearken demo                            a server with a bundled history, on 127.0.0.1:8080
  hearken serve --data-dir /srv/hearken   a server of your own
  hearken score mails.csv --out scores.jsonl
  hearken load http://127.0.0.1:8080 --rate 100
  hearken verify --data-dir /srv/hearken  recompute every document and compare

Each command explains itself with --help.";

#[derive(Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Serve(serve::Arguments),
    Score(score::Arguments),
    /// See and check models
    #[command(subcommand)]
    Models(models::Command),
    Load(load::Arguments),
    Verify(verify::Arguments),
    Replay(replay::Arguments),
    Backup(backup::Arguments),
    Restore(restore::Arguments),
    /// Print the schema of the HTTP API
    Openapi,
    GpuCheck(gpu_check::Arguments),
}

/// Runs the program named by the arguments.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::Score(arguments) => score::run(arguments),
        Command::Models(command) => models::run(command),
        Command::Load(arguments) => load::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Backup(arguments) => backup::run(arguments),
        Command::Restore(arguments) => restore::run(arguments),
        Command::Openapi => openapi::run(),
        Command::GpuCheck(arguments) => gpu_check::run(arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("hearken: {error:#}");
        ExitCode::FAILURE
    })
}

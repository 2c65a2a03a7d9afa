//! `hearken verify`: recomputes every document from the log and compares, also while a server runs on the store.

use std::process::ExitCode;

use clap::Args;

use super::stores::{self, StoreFlags};
use crate::pipeline::verify_store;

/// Recompute every document from the log and compare with the stored ones
#[derive(Args)]
#[command(after_help = "Exits with 1 where something differs, and lists the records.

Examples:
  hearken verify --data-dir /srv/hearken
  hearken verify --data-dir /srv/hearken --json")]
pub struct Arguments {
    #[command(flatten)]
    store: StoreFlags,

    /// Print JSON: {\"records\": n, \"different\": [{\"module\": ..., \"id\": ...}]}
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    super::logs::start("text", "warn");
    let store = stores::existing(&arguments.store.url()?)?;
    let found = verify_store(&*store)?;
    if arguments.json {
        println!("{}", serde_json::json!({"records": found.records, "different": found.different}));
    } else {
        for key in &found.different {
            println!("different: {}/{}", key.module, key.id);
        }
        println!("{} records, {} different from a recomputation", found.records, found.different.len());
    }
    Ok(if found.different.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

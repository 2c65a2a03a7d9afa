//! `hearken backup`: a consistent copy of the store, also while a server runs on it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;

use super::stores::{self, StoreFlags};

/// Write a consistent copy of the store, also while a server runs on it
#[derive(Args)]
#[command(after_help = "Example:
  hearken backup --data-dir /srv/hearken /backups/hearken-2026-03-02.db")]
pub struct Arguments {
    /// File to write; must not be there yet
    file: PathBuf,

    #[command(flatten)]
    store: StoreFlags,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    super::logs::start("text", "warn");
    let store = stores::existing(&arguments.store.url()?)?;
    if arguments.file.exists() {
        bail!("{} is there already; choose another name or remove it first", arguments.file.display());
    }
    // Under its own name only when it is whole.
    let partial = partial(&arguments.file);
    remove(&partial)?;
    store.backup(&partial)?;
    std::fs::rename(&partial, &arguments.file)
        .with_context(|| format!("cannot write {}", arguments.file.display()))?;
    println!("wrote {}", arguments.file.display());
    Ok(ExitCode::SUCCESS)
}

/// The name of a file that is not whole yet.
pub fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Removes a file that may be there.
pub fn remove(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

//! `hearken restore`: puts a backup in the place of a store.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;

use super::{
    backup::{partial, remove},
    stores::{self, StoreFlags},
};
use crate::store;

/// Put a backup in the place of a store
#[derive(Args)]
#[command(after_help = "Examples:
  hearken restore --data-dir /srv/hearken /backups/hearken-2026-03-02.db
  hearken restore --force --data-dir /srv/hearken /backups/hearken-2026-03-02.db")]
pub struct Arguments {
    /// A file that `hearken backup` wrote
    file: PathBuf,

    /// Replace a store that is there; what it holds is lost
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    store: StoreFlags,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    super::logs::start("text", "warn");
    let url = arguments.store.url()?;
    let place = stores::file(&url)?;
    let _lock = stores::lock(&url)?;
    if place.exists() && !arguments.force {
        bail!("there is a store at {}; --force replaces it, and what it holds is lost", place.display());
    }
    let copy = partial(place);
    remove(&copy)?;
    std::fs::copy(&arguments.file, &copy)
        .with_context(|| format!("cannot copy {} to {}", arguments.file.display(), copy.display()))?;
    let events = check(&copy)
        .with_context(|| format!("{} is no backup that this hearken can read", arguments.file.display()))?;
    for left in ["-wal", "-shm"] {
        let mut file = place.as_os_str().to_owned();
        file.push(left);
        remove(Path::new(&file))?;
    }
    std::fs::rename(&copy, place).with_context(|| format!("cannot write {}", place.display()))?;
    println!("restored {}; its log stands at {events}", place.display());
    Ok(ExitCode::SUCCESS)
}

/// Opens the copy as a store and says how far its log reaches.
fn check(copy: &Path) -> anyhow::Result<u64> {
    let store = store::open(&format!("sqlite:{}", copy.display()))?;
    Ok(store.positions()?.logged)
}

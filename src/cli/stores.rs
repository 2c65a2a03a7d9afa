//! The store that a command works on: where it is, that it is there, and that one process at a time runs it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::Args;

use crate::{
    config::options::Options,
    store::{self, Store},
};

/// Which store.
#[derive(Args)]
pub struct StoreFlags {
    /// TOML file with settings, as for `hearken serve`
    #[arg(long, env = "HEARKEN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Folder of the embedded store [default: data]
    #[arg(long, env = "HEARKEN_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// The store, sqlite:PATH [default: sqlite:DATA_DIR/hearken.db]
    #[arg(long, env = "HEARKEN_STORE", value_name = "URL")]
    store: Option<String>,
}

impl StoreFlags {
    /// The store's URL.
    pub fn url(self) -> anyhow::Result<String> {
        let file = self.config.as_deref().map(Options::read).transpose()?.unwrap_or_default();
        // Where to listen is of no matter here, and must not stop an open server's store from being looked at.
        let insecure_open = Some(true);
        let said =
            Options { data_dir: self.data_dir, store: self.store, insecure_open, ..Options::default() };
        Ok(said.over(file).resolve()?.store)
    }
}

/// The file of an embedded store.
pub fn file(url: &str) -> anyhow::Result<&Path> {
    match url.strip_prefix("sqlite:") {
        Some(path) => Ok(Path::new(path)),
        None => bail!("{url} is not a store that this command knows; use sqlite:PATH"),
    }
}

/// Opens a store that must be there already.
pub fn existing(url: &str) -> anyhow::Result<Arc<dyn Store>> {
    let file = file(url)?;
    if !file.exists() {
        bail!("there is no store at {}; name it with --data-dir or --store", file.display());
    }
    Ok(store::open(url)?)
}

/// Held while a process runs a store; let go when it ends, however it ends.
pub struct Lock(#[allow(dead_code, reason = "held, not read")] File);

/// Makes sure that no other process runs the store.
pub fn lock(url: &str) -> anyhow::Result<Lock> {
    let store = file(url)?;
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    if let Some(folder) = store.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => bail!(
            "another hearken runs the store {}; stop it, or choose another folder with --data-dir",
            store.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

//! `hearken serve`: the server, until it is told to stop.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::running;
use crate::config::{Config, options::Options};

/// Serve the HTTP API and the pages
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// TOML file with settings; flags and variables override it
    #[arg(long, env = "HEARKEN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "Examples:
  hearken serve
  hearken serve --listen 127.0.0.1:9000 --data-dir /srv/hearken --limit text_bytes_max=65536
  HEARKEN_LISTEN=127.0.0.1:9000 hearken serve --config hearken.toml

A configuration file says the same with the flags' names, and holds the API keys:
  listen = \"0.0.0.0:8080\"
  data_dir = \"/srv/hearken\"

  [limits]
  text_bytes_max = 65536

  [[keys]]
  key = \"a long random word\"
  tenant = \"acme\"                  # records of one tenant do not exist for another
  scopes = [\"score\", \"ingest\", \"insights:read\"]   # or \"models:admin\", \"admin\"

Without keys the server is open, and listens on loopback only unless --insecure-open is given.";

impl Arguments {
    /// File, variables and flags put together.
    pub fn config(self) -> anyhow::Result<Config> {
        let file = self.config.as_deref().map(Options::read).transpose()?.unwrap_or_default();
        Ok(self.options.over(file).resolve()?)
    }
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config()?;
    super::logs::start(&config.log_format, "info");
    running::run(config, |_state, _address| Ok(()))
}

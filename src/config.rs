//! Configuration: a TOML file, `HEARKEN_*` variables and flags, each overriding the one before. Unknown keys are errors.
//!
//! Flags and variables are read by the command line (clap knows both); [`Config`] is what
//! the server runs on. Every limit has a name with its unit last.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Scope {
    #[serde(rename = "score")]
    Score,
    #[serde(rename = "ingest")]
    Ingest,
    #[serde(rename = "insights:read")]
    InsightsRead,
    #[serde(rename = "models:admin")]
    ModelsAdmin,
    #[serde(rename = "admin")]
    Admin,
}

/// An API key of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    pub key: String,
    #[serde(default = "default_tenant")]
    pub tenant: String,
    pub scopes: Vec<Scope>,
}

fn default_tenant() -> String {
    "default".into()
}

/// What runs.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Where the embedded store and caches live.
    pub data_dir: PathBuf,
    /// `sqlite:PATH`; the default is `DATA_DIR/hearken.db`.
    pub store: String,
    /// Folder of the model pack; the shipped one where absent.
    pub models: Option<PathBuf>,
    pub device: String,
    pub precision: String,
    pub threads: usize,
    pub offline: bool,
    /// Serve without keys on an address that others can reach.
    pub insecure_open: bool,
    pub keys: Vec<ApiKey>,
    pub limits: Limits,
    /// `json` or `text`.
    pub log_format: String,
}

/// The limits of the server, each refused with a problem that names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub body_bytes_max: usize,
    pub score_inputs_max: usize,
    pub text_bytes_max: usize,
    pub events_batch_max: usize,
    pub event_bytes_max: usize,
    pub batch_tokens_max: usize,
    pub queue_tokens_max: usize,
    pub backlog_events_max: usize,
    pub request_timeout_s: u64,
    pub page_items_max: usize,
    pub settings_phrases_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            score_inputs_max: 10_000,
            text_bytes_max: 1 << 20,
            events_batch_max: 10_000,
            event_bytes_max: 2 << 20,
            batch_tokens_max: 8_192,
            queue_tokens_max: 2_000_000,
            backlog_events_max: 1_000_000,
            request_timeout_s: 120,
            page_items_max: 200,
            settings_phrases_max: 20_000,
        }
    }
}

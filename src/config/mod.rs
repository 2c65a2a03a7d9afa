//! Configuration: a TOML file, `HEARKEN_*` variables and flags, each overriding the one before. Unknown keys are errors.
//!
//! [`Config`] is what the server runs on; [`options`] is what can be said about it in the three places. Every limit has
//! a name with its unit last.

use std::{fmt, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::pipeline::{PipelineOptions, WebhookOptions};

pub mod options;

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
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

impl Scope {
    /// The name in the configuration file and in problems.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Score => "score",
            Scope::Ingest => "ingest",
            Scope::InsightsRead => "insights:read",
            Scope::ModelsAdmin => "models:admin",
            Scope::Admin => "admin",
        }
    }
}

/// An API key of one tenant. `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq, Deserialize)]
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

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("tenant", &self.tenant)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
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
    /// Deliver webhooks also to `http://` URLs.
    pub webhook_http: bool,
    /// Deliver webhooks also to addresses that are not public.
    pub webhook_private: bool,
    pub keys: Vec<ApiKey>,
    pub limits: Limits,
    /// `json` or `text`.
    pub log_format: String,
}

/// The limits of the server, each refused with a problem that names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request body.
    pub body_bytes_max: usize,
    /// Texts in one `POST /v1/score` or `/predict`.
    pub score_inputs_max: usize,
    /// Bytes (UTF-8) of one text that is scored.
    pub text_bytes_max: usize,
    /// Events in one `POST /v1/events`.
    pub events_batch_max: usize,
    /// Bytes of one event.
    pub event_bytes_max: usize,
    /// Tokens in one forward pass.
    pub batch_tokens_max: usize,
    /// Tokens waiting for a forward pass.
    pub queue_tokens_max: usize,
    /// Events on disk that are not in their documents yet.
    pub backlog_events_max: usize,
    /// Seconds until a request is given up, reading its body included.
    pub request_timeout_s: u64,
    /// Entries of one page of a list.
    pub page_items_max: usize,
    /// Names, aliases and phrases in one settings document.
    pub settings_phrases_max: usize,
    /// Webhooks of one tenant.
    pub webhooks_max: usize,
    /// Attempts until an alert for a webhook is given up.
    pub webhook_attempts_max: u32,
    /// Milliseconds that one attempt may take.
    pub webhook_timeout_ms_max: u64,
    /// Milliseconds until the first retry; each pause is three times the one before.
    pub webhook_retry_ms_min: u64,
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
            webhooks_max: 16,
            webhook_attempts_max: 12,
            webhook_timeout_ms_max: 15_000,
            webhook_retry_ms_min: 5_000,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {path} does not fit: {detail}")]
    File { path: PathBuf, detail: String },
    #[error("{name}: {detail}")]
    Value { name: &'static str, detail: String },
    #[error(
        "refusing to listen on {listen} without API keys: anyone who can reach that address could read and erase \
         records. Add [[keys]] to the configuration file, listen on 127.0.0.1, or pass --insecure-open if something in \
         front of hearken checks who calls"
    )]
    Exposed { listen: SocketAddr },
}

impl Config {
    /// What the pipeline is told of it.
    pub fn pipeline_options(&self) -> PipelineOptions {
        let limits = &self.limits;
        PipelineOptions {
            backlog_events_max: limits.backlog_events_max,
            page_items_max: limits.page_items_max,
            settings_phrases_max: limits.settings_phrases_max,
            webhooks: WebhookOptions {
                allow_http: self.webhook_http,
                allow_private: self.webhook_private,
                timeout_ms_max: limits.webhook_timeout_ms_max,
                retry_ms_min: limits.webhook_retry_ms_min,
                attempts_max: limits.webhook_attempts_max,
                webhooks_max: limits.webhooks_max,
            },
            ..PipelineOptions::default()
        }
    }

    /// Refuses what would be unsafe or cannot mean anything.
    pub(crate) fn checked(self) -> Result<Config, ConfigError> {
        if self.keys.is_empty() && !self.listen.ip().is_loopback() && !self.insecure_open {
            return Err(ConfigError::Exposed { listen: self.listen });
        }
        for (i, key) in self.keys.iter().enumerate() {
            if key.key.trim().is_empty() || key.key.contains(char::is_whitespace) {
                return Err(value("keys", format!("key number {} is empty or has white space in it", i + 1)));
            }
            if key.scopes.is_empty() {
                return Err(value(
                    "keys",
                    format!("key number {} has no scopes, so it could do nothing", i + 1),
                ));
            }
            if self.keys[..i].iter().any(|k| k.key == key.key) {
                return Err(value("keys", format!("key number {} is there twice", i + 1)));
            }
        }
        Ok(self)
    }
}

fn value(name: &'static str, detail: impl Into<String>) -> ConfigError {
    ConfigError::Value { name, detail: detail.into() }
}

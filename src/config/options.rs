//! What can be said about the configuration: one list of settings, read as flags, as `HEARKEN_*` variables and as TOML.
//!
//! A flag overrides its variable (clap's rule), a variable overrides the file, the file overrides the default. No
//! default stands in the list itself, so that "not said" is told from "said the default".

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, builder::BoolishValueParser};
use serde::Deserialize;

use super::{ApiKey, Config, ConfigError, Limits, value};

/// Every setting of the server, each perhaps not said.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Address and port to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "HEARKEN_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,

    /// Folder for the embedded store [default: data]
    #[arg(long, env = "HEARKEN_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Where events and documents are kept, sqlite:PATH [default: sqlite:DATA_DIR/hearken.db]
    #[arg(long, env = "HEARKEN_STORE", value_name = "URL")]
    pub store: Option<String>,

    /// Folder of the model pack [default: the one that ships with hearken]
    #[arg(long, env = "HEARKEN_MODELS", value_name = "DIR")]
    pub models: Option<PathBuf>,

    /// Device for the models: auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, env = "HEARKEN_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,

    /// Precision of the models: auto, f32, bf16, int8 or f16 [default: auto]
    #[arg(long, env = "HEARKEN_PRECISION", value_name = "PRECISION")]
    pub precision: Option<String>,

    /// Threads of a forward pass; 0 means one per core [default: 0]
    #[arg(long, env = "HEARKEN_THREADS", value_name = "N")]
    pub threads: Option<usize>,

    /// Never ask the network for a model
    #[arg(long, env = "HEARKEN_OFFLINE", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub offline: Option<bool>,

    /// Listen without API keys on an address that others can reach
    #[arg(long, env = "HEARKEN_INSECURE_OPEN", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub insecure_open: Option<bool>,

    /// Deliver webhooks also to http:// URLs, not only to https://
    #[arg(long, env = "HEARKEN_WEBHOOK_HTTP", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub webhook_http: Option<bool>,

    /// Deliver webhooks also to loopback, link-local and private addresses
    #[arg(long, env = "HEARKEN_WEBHOOK_PRIVATE", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub webhook_private: Option<bool>,

    /// Log lines as text or json [default: text on a terminal, else json]
    #[arg(long, env = "HEARKEN_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// One limit, as in the [limits] table of the file, for example text_bytes_max=65536; may be repeated, and the
    /// variable takes several with commas between
    #[arg(long = "limit", env = "HEARKEN_LIMITS", value_name = "NAME=N", value_delimiter = ',')]
    #[serde(skip)]
    pub limit_overrides: Vec<String>,

    /// API keys; only in the file, since flags and variables are shown to others on the machine.
    #[arg(skip)]
    pub keys: Vec<ApiKey>,

    #[arg(skip)]
    pub limits: Option<Limits>,
}

impl Options {
    /// Reads the TOML file at `path`. Unknown keys are errors that name the key and the line.
    pub fn read(path: &Path) -> Result<Options, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        toml::from_str(&text)
            .map_err(|e| ConfigError::File { path: path.into(), detail: e.to_string().trim_end().to_owned() })
    }

    /// What is said here, and what `file` says about the rest.
    pub fn over(self, file: Options) -> Options {
        Options {
            listen: self.listen.or(file.listen),
            data_dir: self.data_dir.or(file.data_dir),
            store: self.store.or(file.store),
            models: self.models.or(file.models),
            device: self.device.or(file.device),
            precision: self.precision.or(file.precision),
            threads: self.threads.or(file.threads),
            offline: self.offline.or(file.offline),
            insecure_open: self.insecure_open.or(file.insecure_open),
            webhook_http: self.webhook_http.or(file.webhook_http),
            webhook_private: self.webhook_private.or(file.webhook_private),
            log_format: self.log_format.or(file.log_format),
            limit_overrides: self.limit_overrides,
            keys: if self.keys.is_empty() { file.keys } else { self.keys },
            limits: self.limits.or(file.limits),
        }
    }

    /// Fills in the defaults and refuses what makes no sense.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let data_dir = self.data_dir.unwrap_or_else(|| PathBuf::from("data"));
        let device = self.device.unwrap_or_else(|| "auto".into());
        let known = ["auto", "cpu", "cuda"].contains(&device.as_str())
            || device.strip_prefix("cuda:").is_some_and(|n| n.parse::<usize>().is_ok());
        if !known {
            return Err(value("device", format!("{device:?} is none of auto, cpu, cuda, cuda:N")));
        }
        let precision = one_of("precision", self.precision, &["auto", "f32", "bf16", "int8", "f16"], "auto")?;
        let by_output = if std::io::IsTerminal::is_terminal(&std::io::stderr()) { "text" } else { "json" };
        Config {
            listen: self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            store: self.store.unwrap_or_else(|| format!("sqlite:{}", data_dir.join("hearken.db").display())),
            data_dir,
            models: self.models,
            device,
            precision,
            threads: self.threads.unwrap_or(0),
            offline: self.offline.unwrap_or(false),
            insecure_open: self.insecure_open.unwrap_or(false),
            webhook_http: self.webhook_http.unwrap_or(false),
            webhook_private: self.webhook_private.unwrap_or(false),
            keys: self.keys,
            limits: with_overrides(self.limits.unwrap_or_default(), &self.limit_overrides)?,
            log_format: one_of("log_format", self.log_format, &["text", "json"], by_output)?,
        }
        .checked()
    }
}

fn one_of(
    name: &'static str,
    said: Option<String>,
    known: &[&str],
    default: &str,
) -> Result<String, ConfigError> {
    let said = said.unwrap_or_else(|| default.into());
    if known.contains(&said.as_str()) {
        Ok(said)
    } else {
        Err(value(name, format!("{said:?} is none of {}", known.join(", "))))
    }
}

/// Applies `name=number` pairs. The limits' own reader knows the names, so none is repeated here.
fn with_overrides(limits: Limits, overrides: &[String]) -> Result<Limits, ConfigError> {
    let mut table = toml::Table::try_from(limits).map_err(|e| value("limit", e.to_string()))?;
    for pair in overrides {
        let (name, number) = pair
            .split_once('=')
            .ok_or_else(|| value("limit", format!("{pair:?} is not of the form NAME=NUMBER")))?;
        let number: i64 = number
            .trim()
            .replace('_', "")
            .parse()
            .map_err(|_| value("limit", format!("{pair:?}: {number:?} is not a whole number")))?;
        table.insert(name.trim().into(), number.into());
    }
    table.try_into().map_err(|e: toml::de::Error| value("limit", e.to_string().trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(toml: &str) -> Options {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn what_is_said_first_wins_and_the_rest_comes_from_the_file() {
        let flags = Options { threads: Some(2), ..Options::default() };
        let file = options("threads = 8\ndevice = \"cpu\"\n[limits]\ntext_bytes_max = 10\n");
        let config = flags.over(file).resolve().unwrap();
        assert_eq!((config.threads, config.device.as_str(), config.limits.text_bytes_max), (2, "cpu", 10));
        assert_eq!(config.limits.events_batch_max, Limits::default().events_batch_max);
    }

    #[test]
    fn unknown_keys_are_named() {
        for (toml, key) in [
            ("lisen = \"127.0.0.1:1\"", "lisen"),
            ("[limits]\ntext_bytes = 3", "text_bytes"),
            ("[[keys]]\nkey = \"a\"\nscopes = []\nrole = \"x\"", "role"),
            ("[[keys]]\nkey = \"a\"\nscopes = [\"insights\"]", "insights"),
        ] {
            let error = toml::from_str::<Options>(toml).unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn a_limit_can_be_set_by_name() {
        let set = |pair: &str| with_overrides(Limits::default(), &[pair.into()]);
        assert_eq!(set("text_bytes_max=4_096").unwrap().text_bytes_max, 4096);
        assert!(set("text_max=1").unwrap_err().to_string().contains("text_max"));
        assert!(set("text_bytes_max=lots").unwrap_err().to_string().contains("lots"));
        assert!(set("text_bytes_max=-1").is_err());
    }

    #[test]
    fn an_open_server_stays_on_loopback() {
        let open = |more: &str| options(&format!("listen = \"0.0.0.0:8080\"\n{more}")).resolve();
        assert!(matches!(open(""), Err(ConfigError::Exposed { .. })));
        assert!(open("insecure_open = true").is_ok());
        assert!(open("[[keys]]\nkey = \"k\"\nscopes = [\"admin\"]").is_ok());
        assert!(options("listen = \"[::1]:8080\"").resolve().is_ok());
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let config = options("[[keys]]\nkey = \"hush\"\nscopes = [\"score\"]").resolve().unwrap();
        assert!(!format!("{config:?}").contains("hush"));
    }
}

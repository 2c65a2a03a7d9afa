//! Structured logs on standard error, as text or JSON; `RUST_LOG` says how much.

use tracing_subscriber::EnvFilter;

/// Starts logging in the given format (`text` or `json`); without `RUST_LOG`, from the level `default` on.
pub fn start(format: &str, default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if format == "json" { logs.json().try_init() } else { logs.try_init() };
    if let Err(error) = started {
        eprintln!("hearken: no logs: {error}");
    }
}

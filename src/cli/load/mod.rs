//! `hearken load`: sends texts to a running server at a given rate, or looks for the highest rate that it can take.
//!
//! Arrivals are open-loop: a request is sent when its time has come, whether or not earlier ones were answered, and its
//! latency counts from that time, not from the moment when a connection was free. So a server that stalls is charged
//! for everybody who would have waited (no "coordinated omission", as Gil Tene named it).
//!
//! [`pace`] says when, [`bodies`] what, [`target`] where, [`trial`] does it, [`tally`] counts, [`bottleneck`] judges,
//! [`report`] prints, [`search`] chooses the next rate.

mod bodies;
mod bottleneck;
mod capacity;
mod pace;
mod report;
mod search;
mod tally;
mod target;
mod trial;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use bodies::Bodies;
use pace::Pace;
use target::Target;
use trial::{End, Trial};

/// Send texts to a running server and report throughput, latency and what limits it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Address of the server, for example http://127.0.0.1:8080
    url: String,

    /// Requests a second, at random moments (a Poisson process); with --find-max, the rate to begin with
    #[arg(long, value_name = "R", default_value_t = 20.0)]
    rate: f64,

    /// How long to send, with --find-max at each rate: 30s, 2m, or seconds
    #[arg(long, value_name = "T", default_value = "10s", value_parser = duration)]
    duration: Duration,

    /// Send so many requests instead of for a duration
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "find_max"])]
    requests: Option<u64>,

    /// Look for the highest rate whose p99 stays within --p99-ms
    #[arg(long, requires = "p99_ms")]
    find_max: bool,

    /// The p99 latency to keep to, in milliseconds
    #[arg(long, value_name = "MS", requires = "find_max")]
    p99_ms: Option<f64>,

    /// Time before anything is counted
    #[arg(long, value_name = "T", default_value = "1s", value_parser = duration)]
    warm_up: Duration,

    /// Texts to send, one a line or JSON lines with `text` [default: a built-in mix of 14 languages, short and long]
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,

    /// Texts in each request
    #[arg(long, value_name = "N", default_value_t = 1)]
    texts_per_request: usize,

    /// What to ask for
    #[arg(long, value_delimiter = ',', default_value = "sentiment,intent,keyphrases")]
    tasks: Vec<String>,

    /// Lane of the requests
    #[arg(long, value_enum, default_value_t = LaneName::Interactive)]
    lane: LaneName,

    /// Deadline that each request carries, in milliseconds; the report says how many answers were in time
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<u64>,

    /// API key
    #[arg(long, env = "HEARKEN_KEY", hide_env_values = true)]
    key: Option<String>,

    /// Requests under way at once, at most; what comes beyond waits, and the wait counts
    #[arg(long, value_name = "N", default_value_t = 8192)]
    connections: usize,

    /// A request without an answer after so many milliseconds has failed
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    timeout_ms: u64,

    /// Seed of the arrivals and of the built-in texts
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Threads of the generator [default: half the cores]
    #[arg(long, value_name = "N")]
    client_threads: Option<usize>,

    /// Write the report as JSON to a file, or to standard output (-)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Send to an address that is not this machine's own
    #[arg(long)]
    allow_remote: bool,
}

const EXAMPLES: &str = "Examples:
  hearken load http://127.0.0.1:8080 --rate 100 --duration 30s
  hearken load http://127.0.0.1:8080 --find-max --p99-ms 50
  hearken load http://127.0.0.1:8080 --rate 500 --deadline-ms 1000     beyond what the server can take
  hearken load http://127.0.0.1:8080 --requests 100000 --rate 200 --texts mails.jsonl --json report.json

Latency counts from the moment when a request was due, so a stall shows for all that were due meanwhile.";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LaneName {
    Interactive,
    Bulk,
}

/// Rates beyond these are a slip of the pen.
const RATE_MIN: f64 = 0.01;
const RATE_MAX: f64 = 1e6;
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// `30s`, `2m`, `500ms`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => text.parse::<SignedDuration>().ok().and_then(|d| d.try_into().ok()),
    };
    match parsed {
        Some(duration) if duration <= DURATION_MAX => Ok(duration),
        Some(_) => Err("longer than a day".into()),
        None => Err("write 30s, 2m, 500ms, or a number of seconds".into()),
    }
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    check(&arguments)?;
    let target = Target::new(&arguments.url, arguments.key.clone(), arguments.allow_remote)?;
    let bodies = Bodies::new(&bodies::Wanted {
        file: arguments.texts.as_deref(),
        texts_per_request: arguments.texts_per_request,
        tasks: &arguments.tasks,
        lane: match arguments.lane {
            LaneName::Interactive => "interactive",
            LaneName::Bulk => "bulk",
        },
        deadline_ms: arguments.deadline_ms,
        seed: arguments.seed,
    })?;
    let trial = Trial {
        target,
        bodies: Arc::new(bodies),
        pace: Pace { per_s: arguments.rate, seed: arguments.seed },
        end: arguments.requests.map_or(End::After(arguments.duration), End::Requests),
        warm_up: arguments.warm_up,
        connections_max: arguments.connections,
        timeout: Duration::from_millis(arguments.timeout_ms),
        deadline: arguments.deadline_ms.map(Duration::from_millis),
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.client_threads.unwrap_or(cores / 2).max(1))
        .thread_name("load")
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    let json = arguments.json.as_deref();
    runtime.block_on(async {
        trial.target.reachable().await?;
        match arguments.p99_ms {
            Some(p99_ms) if arguments.find_max => {
                let found = capacity::find(trial, p99_ms).await?;
                write(json, &found, || found.table())
            }
            _ => {
                let report = trial.run("").await?;
                write(json, &report, || report.table())
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(arguments: &Arguments) -> anyhow::Result<()> {
    if !(RATE_MIN..=RATE_MAX).contains(&arguments.rate) {
        bail!("--rate {} is not between {RATE_MIN} and {RATE_MAX} requests a second", arguments.rate);
    }
    if arguments.p99_ms.is_some_and(|ms| !ms.is_finite() || ms <= 0.0) {
        bail!("--p99-ms must be above 0");
    }
    if arguments.duration.is_zero() || arguments.requests == Some(0) {
        bail!("there is nothing to send: --duration and --requests must be above 0");
    }
    if arguments.texts_per_request == 0 || arguments.connections == 0 || arguments.timeout_ms == 0 {
        bail!("--texts-per-request, --connections and --timeout-ms must be above 0");
    }
    Ok(())
}

/// The report as JSON where that is asked for, and for people unless the JSON goes to standard output.
fn write<R: serde::Serialize>(
    json: Option<&Path>,
    report: &R,
    table: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    match json {
        Some(path) if path == Path::new("-") => println!("{text}"),
        Some(path) => {
            println!("{}", table());
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => println!("{}", table()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "-1", "soon", "NaN", "-2m"] {
            assert!(duration(wrong).unwrap_err().contains("30s"), "{wrong}");
        }
        assert!(duration("48h").unwrap_err().contains("a day"));
    }
}

//! The highest rate that a server takes with its p99 latency within a target: runs at rates that [`Search`] chooses.

use std::{
    fmt::Write,
    io::IsTerminal,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::Serialize;

use super::{
    report::Report,
    search::{Search, Verdict},
    target::Answer,
    trial::Trial,
};

/// More requests without scores than this share fail a rate whatever its p99 is.
const WITHOUT_SCORES_MAX: f64 = 0.001;
/// A p99 above its target by less than this factor is tried again.
const NEAR: f64 = 1.5;
/// Fewer answers than these make a p99 that says little; the report says so.
const ANSWERS_FOR_P99: u64 = 1000;
/// How long the server gets to work off what a failed rate left behind.
const SETTLE_MAX: Duration = Duration::from_secs(120);

#[derive(Serialize)]
pub struct Capacity {
    pub p99_ms_max: f64,
    /// Requests a second; absent where even the lowest rate failed.
    pub rate_max: Option<f64>,
    pub trials: Vec<Row>,
    /// The run at `rate_max`.
    pub best: Option<Report>,
    /// The run at the lowest rate that failed: what limits.
    pub beyond: Option<Report>,
}

#[derive(Serialize)]
pub struct Row {
    pub rate: f64,
    pub passed: bool,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p99_9_ms: f64,
    pub tokens_per_s: f64,
    pub without_scores: f64,
}

pub async fn find(mut trial: Trial, p99_ms_max: f64) -> anyhow::Result<Capacity> {
    let mut search = Search::new(trial.pace.per_s);
    let mut found = Capacity { p99_ms_max, rate_max: None, trials: Vec::new(), best: None, beyond: None };
    while let Some(rate) = search.next() {
        trial.pace.per_s = rate;
        let report = trial.run(&format!("{rate:>8.1}/s ")).await?;
        let verdict = judge(&report, p99_ms_max);
        let row = Row::new(&report, verdict);
        if std::io::stderr().is_terminal() {
            eprintln!("{}", row.line());
        }
        found.trials.push(row);
        search.record(verdict);
        if verdict == Verdict::Passed {
            found.best = Some(report);
        } else {
            if found.beyond.as_ref().is_none_or(|b| report.rate <= b.rate) {
                found.beyond = Some(report);
            }
            settle(&trial, p99_ms_max).await?;
        }
    }
    found.rate_max = search.highest();
    Ok(found)
}

fn judge(report: &Report, p99_ms_max: f64) -> Verdict {
    if report.requests.scored > 0 && report.without_scores() <= WITHOUT_SCORES_MAX {
        match report.latency_ms.p99 {
            p99 if p99 <= p99_ms_max => return Verdict::Passed,
            p99 if p99 <= p99_ms_max * NEAR => return Verdict::NearMiss,
            _ => {}
        }
    }
    Verdict::Failed
}

/// Waits until a lone request is answered within the target again.
async fn settle(trial: &Trial, p99_ms_max: f64) -> anyhow::Result<()> {
    let end = Instant::now() + SETTLE_MAX;
    while Instant::now() < end {
        let begun = Instant::now();
        let (answer, done) = trial.target.send(trial.bodies.get(0), end).await;
        if matches!(answer, Answer::Scored { .. }) && (done - begun).as_secs_f64() * 1e3 <= p99_ms_max {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    None.with_context(|| {
        format!(
            "{} s after the last run a lone request still takes longer than {p99_ms_max} ms",
            SETTLE_MAX.as_secs()
        )
    })
}

impl Row {
    fn new(report: &Report, verdict: Verdict) -> Row {
        Row {
            rate: report.rate,
            passed: verdict == Verdict::Passed,
            p50_ms: report.latency_ms.p50,
            p99_ms: report.latency_ms.p99,
            p99_9_ms: report.latency_ms.p99_9,
            tokens_per_s: report.throughput.tokens_per_s,
            without_scores: report.without_scores(),
        }
    }

    fn line(&self) -> String {
        format!(
            "{:>10.1}{:>10.2}{:>10.2}{:>10.2}{:>12.0}{:>11.2}%  {}",
            self.rate,
            self.p50_ms,
            self.p99_ms,
            self.p99_9_ms,
            self.tokens_per_s,
            100.0 * self.without_scores,
            if self.passed { "passed" } else { "failed" }
        )
    }
}

impl Capacity {
    pub fn table(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).unwrap_or_default(); // writing to a string does not fail
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "{:>10}{:>10}{:>10}{:>10}{:>12}{:>12}",
            "rate/s", "p50 ms", "p99 ms", "p99.9 ms", "tokens/s", "no scores"
        )?;
        for row in &self.trials {
            writeln!(out, "{}", row.line())?;
        }
        writeln!(out)?;
        let (Some(rate), Some(best)) = (self.rate_max, &self.best) else {
            return write!(out, "no rate keeps the p99 within {} ms", self.p99_ms_max);
        };
        writeln!(out, "highest rate with a p99 within {} ms: {rate:.1} requests/s", self.p99_ms_max)?;
        if best.requests.scored < ANSWERS_FOR_P99 {
            writeln!(
                out,
                "(its p99 rests on {} answers only; a longer --duration makes it firmer)",
                best.requests.scored
            )?;
        }
        writeln!(out)?;
        write!(out, "{}", best.table())?;
        if let Some(beyond) = &self.beyond {
            let by = format!("{:?}", beyond.limited.by).to_lowercase();
            write!(out, "\nbeyond it    at {:.1} requests/s: {by}: {}", beyond.rate, beyond.limited.why)?;
        }
        Ok(())
    }
}

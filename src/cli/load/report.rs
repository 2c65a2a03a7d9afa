//! What a run is reported as: for machines (JSON) and for people (a table).

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde::Serialize;

use super::{
    bottleneck::{Bottleneck, Evidence, judge},
    tally::{Durations, Stage, Tally},
    trial::Trial,
};

/// Times in milliseconds, rates per second, shares from 0 to 1.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub url: String,
    /// The rate that was asked for.
    pub rate: f64,
    pub seed: u64,
    pub duration_s: f64,
    pub requests: Requests,
    pub throughput: Throughput,
    /// Of answers with scores, from when they were due.
    pub latency_ms: Quantiles,
    /// The same from when they were sent: without the wait for the generator's own turn.
    pub service_ms: Quantiles,
    /// How late requests left the generator.
    pub late_ms: Quantiles,
    pub stages: Vec<StageRow>,
    /// Share of the time in which a forward pass ran.
    pub forward_busy: Option<f64>,
    /// Cores that the generator itself kept busy.
    pub client_cores: Option<f64>,
    pub limited: Bottleneck,
}

#[derive(Clone, Debug, Serialize)]
pub struct Requests {
    /// Due in the measured time.
    pub due: u64,
    pub scored: u64,
    /// Scored within the deadline; all of them where none was given.
    pub in_time: u64,
    pub deadline_ms: Option<u64>,
    /// Texts that got an error inside an answer with scores.
    pub failed_texts: u64,
    /// By status.
    pub refused: BTreeMap<u16, Refused>,
    pub timed_out: u64,
    pub broken: u64,
    pub broken_example: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Refused {
    pub requests: u64,
    pub with_retry_after: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Throughput {
    pub offered_requests_per_s: f64,
    pub requests_per_s: f64,
    pub texts_per_s: f64,
    pub tokens_per_s: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct StageRow {
    pub stage: Stage,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Of the mean latency.
    pub share: f64,
}

impl Quantiles {
    fn of(durations: &Durations) -> Quantiles {
        let q = |q: f64| rounded(durations.quantile_ms(q));
        Quantiles {
            mean: rounded(durations.mean_ms()),
            p50: q(0.5),
            p90: q(0.9),
            p99: q(0.99),
            p99_9: q(0.999),
            max: rounded(durations.max_ms()),
        }
    }
}

fn rounded(x: f64) -> f64 {
    (x * 1e3).round() / 1e3
}

impl Report {
    pub fn new(
        trial: &Trial,
        tally: &Tally,
        window: Duration,
        forward_busy: Option<f64>,
        client_cores: Option<f64>,
    ) -> Report {
        let seconds = window.as_secs_f64().max(1e-9);
        let per_s = |n: u64| rounded(n as f64 / seconds);
        let stages: Vec<StageRow> = Stage::ALL
            .into_iter()
            .map(|stage| {
                let durations = tally.stage(stage);
                let share = durations.mean_ms() / tally.latency.mean_ms().max(1e-9);
                StageRow {
                    stage,
                    mean_ms: rounded(durations.mean_ms()),
                    p50_ms: rounded(durations.quantile_ms(0.5)),
                    p99_ms: rounded(durations.quantile_ms(0.99)),
                    share: if durations.len() > 0 { rounded(share) } else { 0.0 },
                }
            })
            .collect();
        let (latency_ms, late_ms) = (Quantiles::of(&tally.latency), Quantiles::of(&tally.late));
        let throughput = Throughput {
            offered_requests_per_s: per_s(tally.due),
            requests_per_s: per_s(tally.answered_in_window.requests),
            texts_per_s: per_s(tally.answered_in_window.texts),
            tokens_per_s: per_s(tally.answered_in_window.tokens),
        };
        let limited = judge(&Evidence {
            offered_per_s: throughput.offered_requests_per_s,
            answered_per_s: throughput.requests_per_s,
            without_scores: tally.without_scores() as f64 / tally.due.max(1) as f64,
            latency_p99_ms: latency_ms.p99,
            late_p99_ms: late_ms.p99,
            forward_busy,
            stage_means_ms: std::array::from_fn(|i| (Stage::ALL[i], stages[i].mean_ms)),
        });
        Report {
            url: trial.target.address().to_owned(),
            rate: trial.pace.per_s,
            seed: trial.pace.seed,
            duration_s: rounded(seconds),
            requests: Requests {
                due: tally.due,
                scored: tally.scored,
                in_time: tally.in_time,
                deadline_ms: trial.deadline.map(|d| d.as_millis() as u64),
                failed_texts: tally.failed_texts,
                refused: tally
                    .refused
                    .iter()
                    .map(|(status, (requests, with))| {
                        (*status, Refused { requests: *requests, with_retry_after: *with })
                    })
                    .collect(),
                timed_out: tally.timed_out,
                broken: tally.broken,
                broken_example: tally.broken_example.clone(),
            },
            throughput,
            latency_ms,
            service_ms: Quantiles::of(&tally.service),
            late_ms,
            stages,
            forward_busy: forward_busy.map(rounded),
            client_cores: client_cores.map(rounded),
            limited,
        }
    }

    /// Requests without scores, as a share of all that were due.
    pub fn without_scores(&self) -> f64 {
        (self.requests.due - self.requests.scored) as f64 / self.requests.due.max(1) as f64
    }

    pub fn table(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).unwrap_or_default(); // writing to a string does not fail
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (t, r) = (&self.throughput, &self.requests);
        writeln!(out, "{} for {:.1} s, {} requests due", self.url, self.duration_s, r.due)?;
        writeln!(out)?;
        writeln!(
            out,
            "throughput   {:>10.1} requests/s of {:.1} offered",
            t.requests_per_s, t.offered_requests_per_s
        )?;
        writeln!(out, "             {:>10.1} texts/s", t.texts_per_s)?;
        writeln!(out, "             {:>10.0} tokens/s", t.tokens_per_s)?;
        writeln!(out)?;
        writeln!(
            out,
            "{:<22}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "milliseconds", "mean", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, q) in [
            ("latency (from due)", &self.latency_ms),
            ("service (from sent)", &self.service_ms),
            ("sent late by", &self.late_ms),
        ] {
            let values = [q.mean, q.p50, q.p90, q.p99, q.p99_9, q.max];
            write!(out, "{name:<22}")?;
            for value in values {
                write!(out, "{value:>9.2}")?;
            }
            writeln!(out)?;
        }
        writeln!(out)?;
        writeln!(out, "{:<22}{:>9}{:>9}{:>9}{:>9}", "stage, milliseconds", "mean", "p50", "p99", "share")?;
        for row in &self.stages {
            let name = format!("{:?}", row.stage).to_lowercase();
            let share = 100.0 * row.share;
            writeln!(
                out,
                "{name:<22}{:>9.2}{:>9.2}{:>9.2}{share:>8.1}%",
                row.mean_ms, row.p50_ms, row.p99_ms
            )?;
        }
        writeln!(out)?;
        write!(out, "answers      {} scored", r.scored)?;
        if let Some(ms) = r.deadline_ms {
            write!(out, ", {} of them within the deadline of {ms} ms", r.in_time)?;
        }
        for (status, refused) in &r.refused {
            write!(out, "; {} x {status} ({} with Retry-After)", refused.requests, refused.with_retry_after)?;
        }
        for (count, name) in [
            (r.timed_out, "timed out"),
            (r.broken, "broken"),
            (r.failed_texts, "texts with an error inside an answer"),
        ] {
            if count > 0 {
                write!(out, "; {count} {name}")?;
            }
        }
        writeln!(out)?;
        if let Some(example) = &r.broken_example {
            writeln!(out, "             the first broken one: {example}")?;
        }
        if let Some(cores) = self.client_cores {
            writeln!(out, "generator    used {cores:.2} cores")?;
        }
        write!(out, "limit        {}: {}", format!("{:?}", self.limited.by).to_lowercase(), self.limited.why)
    }
}

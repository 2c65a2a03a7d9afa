//! What limits a server at the rate it was given, judged from what was measured.

use serde::Serialize;

use super::tally::Stage;

/// What to judge by.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Requests a second that were due, and that were answered with scores.
    pub offered_per_s: f64,
    pub answered_per_s: f64,
    /// Requests that were refused or timed out, as a share of all.
    pub without_scores: f64,
    pub latency_p99_ms: f64,
    /// How late requests left the generator.
    pub late_p99_ms: f64,
    /// Share of the time in which a forward pass ran, where the server says so.
    pub forward_busy: Option<f64>,
    /// Mean time in each stage.
    pub stage_means_ms: [(Stage, f64); 6],
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bottleneck {
    pub by: Limit,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The server keeps up with what it was given.
    Nothing,
    /// The generator sent late: the figures are about it as much as about the server.
    Client,
    /// Forward passes run nearly all the time.
    Forward,
    Tokenizer,
    /// JSON, HTTP, or processor time that something else used.
    Http,
}

/// Forward passes that run this share of the time leave hardly any to gain elsewhere.
const BUSY: f64 = 0.85;
/// Answers below this share of what was due mean that the server does not keep up.
const KEEPS_UP: f64 = 0.97;
/// The generator is part of the picture where its lateness makes up this share of the p99 ...
const LATE_SHARE: f64 = 0.25;
/// ... and is not just a thread that woke a little late.
const LATE_MS: f64 = 1.0;

pub fn judge(evidence: &Evidence) -> Bottleneck {
    let Evidence { offered_per_s, answered_per_s, latency_p99_ms, late_p99_ms, .. } = *evidence;
    let mean =
        |stage: Stage| evidence.stage_means_ms.iter().find(|(s, _)| *s == stage).map_or(0.0, |(_, ms)| *ms);
    if late_p99_ms > LATE_MS && late_p99_ms > LATE_SHARE * latency_p99_ms {
        return Bottleneck {
            by: Limit::Client,
            why: format!(
                "requests left the generator up to {late_p99_ms:.1} ms late (p99), with a p99 latency of {latency_p99_ms:.1} ms: \
                 give it more cores (--client-threads), more --connections, or a machine of its own"
            ),
        };
    }
    let behind = answered_per_s < KEEPS_UP * offered_per_s || evidence.without_scores > 1.0 - KEEPS_UP;
    let busy = evidence
        .forward_busy
        .map_or_else(String::new, |b| format!("forward passes ran {:.0} % of the time", 100.0 * b));
    if evidence.forward_busy.is_some_and(|b| b >= BUSY) {
        let verb = if behind { "it cannot keep up" } else { "it is close to its limit" };
        return Bottleneck { by: Limit::Forward, why: format!("{busy}; {verb}") };
    }
    if !behind {
        let (stage, ms) = evidence
            .stage_means_ms
            .into_iter()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or((Stage::Forward, 0.0));
        let stage = format!("{stage:?}").to_lowercase();
        let busy = if busy.is_empty() { busy } else { format!("; {busy}") };
        let why =
            format!("the server keeps up{busy}; most of a request's time is {stage} ({ms:.2} ms on average)");
        return Bottleneck { by: Limit::Nothing, why };
    }
    let (tokenize, http) = (mean(Stage::Tokenize), mean(Stage::Http));
    let busy = if busy.is_empty() { "the server does not keep up".into() } else { busy };
    match evidence.forward_busy {
        // Without the server's word, work that waits in the queue waits for forward passes.
        None if mean(Stage::Queue) >= tokenize.max(http) => Bottleneck {
            by: Limit::Forward,
            why: format!("{busy}; requests wait in the queue for {:.1} ms on average", mean(Stage::Queue)),
        },
        _ if tokenize >= http => Bottleneck {
            by: Limit::Tokenizer,
            why: format!("{busy}; tokenizing, with the wait for it, takes {tokenize:.1} ms on average"),
        },
        _ => Bottleneck {
            by: Limit::Http,
            why: format!("{busy}; JSON, HTTP and connections take {http:.1} ms on average"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Evidence = Evidence {
        offered_per_s: 100.0,
        answered_per_s: 99.5,
        without_scores: 0.0,
        latency_p99_ms: 8.0,
        late_p99_ms: 0.1,
        forward_busy: Some(0.3),
        stage_means_ms: [
            (Stage::Client, 0.1),
            (Stage::Http, 0.4),
            (Stage::Tokenize, 0.2),
            (Stage::Queue, 0.3),
            (Stage::Forward, 3.0),
            (Stage::Answer, 0.1),
        ],
    };

    fn with_means(tokenize: f64, http: f64, queue: f64) -> [(Stage, f64); 6] {
        let mut means = CALM.stage_means_ms;
        (means[1].1, means[2].1, means[3].1) = (http, tokenize, queue);
        means
    }

    #[test]
    fn a_server_that_keeps_up_is_limited_by_nothing() {
        let found = judge(&CALM);
        assert_eq!(found.by, Limit::Nothing);
        assert!(found.why.contains("forward (3.00 ms"), "{}", found.why);
    }

    #[test]
    fn each_limit_is_told_from_the_others() {
        let behind = Evidence { answered_per_s: 60.0, latency_p99_ms: 900.0, ..CALM };
        let busy = Evidence { forward_busy: Some(0.95), ..behind };
        assert_eq!(judge(&busy).by, Limit::Forward);
        assert_eq!(judge(&Evidence { forward_busy: Some(0.95), ..CALM }).by, Limit::Forward);
        let tokenizing = Evidence { stage_means_ms: with_means(500.0, 3.0, 1.0), ..behind };
        assert_eq!(judge(&tokenizing).by, Limit::Tokenizer);
        let http = Evidence { stage_means_ms: with_means(1.0, 400.0, 1.0), ..behind };
        assert_eq!(judge(&http).by, Limit::Http);
        let client = Evidence { late_p99_ms: 500.0, ..busy };
        assert_eq!(judge(&client).by, Limit::Client);
        let unsaid = Evidence { forward_busy: None, stage_means_ms: with_means(1.0, 2.0, 600.0), ..behind };
        assert_eq!(judge(&unsaid).by, Limit::Forward);
        let refusing = Evidence { without_scores: 0.5, stage_means_ms: with_means(9.0, 1.0, 1.0), ..CALM };
        assert_eq!(judge(&refusing).by, Limit::Tokenizer);
    }
}

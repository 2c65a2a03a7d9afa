//! Where requests go: the server's address, and what one exchange with it comes to.

use std::{
    net::ToSocketAddrs,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use axum::body::Bytes;
use reqwest::{
    Client, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};

use super::bodies::{AnswerBody, TimingBody};

/// How long the server's own pages (health, metrics) may take.
const PAGE_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Target {
    client: Client,
    base: Url,
    score: Url,
}

/// What came of one request.
pub enum Answer {
    Scored {
        texts: u64,
        tokens: u64,
        /// Texts with an `error` instead of scores.
        failed_texts: u64,
        timing: TimingBody,
    },
    Refused {
        status: u16,
        retry_after: bool,
    },
    /// No answer within the time given.
    TimedOut,
    /// No HTTP answer, or one that is not what `POST /v1/score` says.
    Broken(String),
}

impl Target {
    /// Refuses addresses of other machines unless `allow_remote`: load is not to be sent to strangers by a slip.
    pub fn new(url: &str, key: Option<String>, allow_remote: bool) -> anyhow::Result<Target> {
        let base = Url::parse(url)
            .with_context(|| format!("{url:?} is not an address like http://127.0.0.1:8080"))?;
        if base.scheme() != "http" {
            bail!("{url:?}: only http:// is spoken; put the generator beside the server, before TLS");
        }
        if !allow_remote && !is_loopback(&base)? {
            bail!(
                "{url:?} is not on this machine; give --allow-remote if that server is yours and meant to be loaded"
            );
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .context("--key has characters that no header holds")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .no_proxy()
            .redirect(Policy::none())
            .tcp_nodelay(true)
            .build()
            .context("cannot make an HTTP client")?;
        let score = base.join("/v1/score").context("the address takes no path")?;
        Ok(Target { client, base, score })
    }

    pub fn address(&self) -> &str {
        self.base.as_str()
    }

    /// Whether there is a server that is ready.
    pub async fn reachable(&self) -> anyhow::Result<()> {
        let url = self.base.join("/health/ready")?;
        let answer = self.client.get(url).timeout(PAGE_WAIT).send().await;
        let answer = answer.with_context(|| format!("no server answers at {}", self.base))?;
        if !answer.status().is_success() {
            let status = answer.status();
            let said = answer.text().await.unwrap_or_default();
            return Err(anyhow!("the server at {} is not ready: {status} {said}", self.base));
        }
        Ok(())
    }

    /// Sends one body and waits for the whole answer, until `until` at the latest. The moment returned is the one when
    /// the last byte was there; reading the answer comes after it.
    pub async fn send(&self, body: Bytes, until: Instant) -> (Answer, Instant) {
        let exchange = async {
            let answer = self.client.post(self.score.clone()).body(body).send().await?;
            let status = answer.status().as_u16();
            let retry_after = answer.headers().contains_key(RETRY_AFTER);
            Ok::<_, reqwest::Error>((status, retry_after, answer.bytes().await?))
        };
        let answered = tokio::time::timeout_at(until.into(), exchange).await;
        let done = Instant::now();
        let answer = match answered {
            Err(_) => Answer::TimedOut,
            Ok(Err(error)) => Answer::Broken(reason(&error)),
            Ok(Ok((200, _, bytes))) => scored(&bytes),
            Ok(Ok((status, retry_after, _))) => Answer::Refused { status, retry_after },
        };
        (answer, done)
    }

    /// Seconds that forward passes have taken since the server started, over all models; `None` where it does not say.
    pub async fn forward_seconds(&self) -> Option<f64> {
        let url = self.base.join("/metrics").ok()?;
        let answer = self.client.get(url).timeout(PAGE_WAIT).send().await.ok()?;
        forward_seconds(&answer.text().await.ok()?)
    }
}

fn is_loopback(url: &Url) -> anyhow::Result<bool> {
    let host = url.host_str().context("the address names no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(80);
    let mut addresses =
        (host, port).to_socket_addrs().with_context(|| format!("there is no host {host:?}"))?.peekable();
    Ok(addresses.peek().is_some() && addresses.all(|a| a.ip().is_loopback()))
}

fn scored(bytes: &[u8]) -> Answer {
    match serde_json::from_slice::<AnswerBody>(bytes) {
        Ok(body) => Answer::Scored {
            texts: body.usage.texts,
            tokens: body.usage.tokens,
            failed_texts: body.results.iter().filter(|r| r.error.is_some()).count() as u64,
            timing: body.timing_ms,
        },
        Err(error) => Answer::Broken(format!("the answer is not one of POST /v1/score: {error}")),
    }
}

/// The innermost reason, which says most: "connection refused" rather than "error sending request".
fn reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

/// The sum of `hearken_forward_seconds_sum` over its labels, in the Prometheus text format.
fn forward_seconds(metrics: &str) -> Option<f64> {
    let mut found = None;
    for line in metrics.lines().filter(|l| l.starts_with("hearken_forward_seconds_sum")) {
        let value: f64 = line.rsplit(' ').next()?.parse().ok()?;
        *found.get_or_insert(0.0) += value;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        format!("{:#}", Target::new(url, None, false).err().expect("refused"))
    }

    #[test]
    fn only_this_machine_is_loaded_unless_told_otherwise() {
        for url in ["http://127.0.0.1:1", "http://[::1]:1", "http://127.9.9.9/"] {
            assert!(Target::new(url, None, false).is_ok(), "{url}");
        }
        for url in ["http://192.0.2.1:80", "http://[2001:db8::1]:1", "http://0.0.0.0:1"] {
            assert!(refused(url).contains("--allow-remote"), "{url}");
            assert!(Target::new(url, None, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_are_refused_in_words() {
        assert!(refused("localhost:80").contains("only http://"));
        assert!(refused("127.0.0.1:80").contains("is not an address like"));
        assert!(refused("https://127.0.0.1").contains("only http://"));
        assert!(Target::new("http://127.0.0.1:1", Some("a\nb".into()), false).is_err());
    }

    #[test]
    fn forward_seconds_are_summed_over_models() {
        let metrics = "# HELP hearken_forward_seconds x\nhearken_forward_seconds_sum{model=\"a\"} 1.5\n\
                       hearken_forward_seconds_count{model=\"a\"} 9\nhearken_forward_seconds_sum{model=\"b\"} 0.25\n";
        assert_eq!(forward_seconds(metrics), Some(1.75));
        assert_eq!(forward_seconds("other_sum 1\n"), None);
    }
}

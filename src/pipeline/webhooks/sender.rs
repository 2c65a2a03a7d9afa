//! One attempt to deliver one alert: the request, and what its answer means.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use reqwest::{Client, StatusCode, Url, header, redirect};

use super::{
    Endpoint, WebhookOptions,
    address::{self, Guard},
    signature,
};

/// Most bytes of an answer that are read; its status says all.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest time to connect.
const CONNECT_MS_MAX: u64 = 5_000;
/// Longest wait that a receiver can ask for.
pub const RETRY_AFTER_S_MAX: u64 = 86_400;
/// Most characters of an error that are kept.
const ERROR_CHARS_MAX: usize = 300;

/// What an answer means.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// 2xx
    Taken(u16),
    /// 410: send nothing more.
    Gone,
    /// Not now; wait at least so long, where the receiver says how long.
    Failed { status: Option<u16>, error: String, retry_after: Option<Duration> },
}

/// A client that follows no redirects, uses no proxy of the environment, and connects only where webhooks may.
pub fn client(options: &WebhookOptions) -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(Duration::from_millis(options.timeout_ms_max))
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX.min(options.timeout_ms_max)))
        .dns_resolver(Arc::new(Guard { allow_private: options.allow_private }))
        .https_only(!options.allow_http)
        .user_agent(concat!("hearken/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Checks the URL of an endpoint, when it is written down and again before each attempt: the configuration may have
/// become stricter meanwhile. A name is looked up only when a connection is made.
pub fn check_url(url: &str, options: &WebhookOptions) -> Result<Url, String> {
    let url: Url = url.parse().map_err(|error| format!("the URL cannot be read: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if options.allow_http => {}
        "http" => return Err("give an https:// URL; http:// is only taken with --webhook-http".into()),
        other => return Err(format!("give an https:// URL, not {other}:")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a name or password in it is not taken; check the signature instead".into());
    }
    let host = url.host_str().ok_or("the URL has no host")?;
    if let Some(address) = address::literal(host)
        && !options.allow_private
        && !address::is_public(address)
    {
        return Err(format!(
            "{address} is not a public address; such ones are only taken with --webhook-private"
        ));
    }
    Ok(url)
}

/// Sends an alert once.
pub async fn send(
    client: &Client,
    options: &WebhookOptions,
    endpoint: &Endpoint,
    id: &str,
    body: &str,
    now: Timestamp,
) -> Answer {
    let failed = |error: String| Answer::Failed { status: None, error: shorten(&error), retry_after: None };
    let url = match check_url(&endpoint.url, options) {
        Ok(url) => url,
        Err(why) => return failed(why),
    };
    let timestamp = now.as_second();
    let signature = match signature::header(&endpoint.secrets(now), id, timestamp, body) {
        Ok(signature) => signature,
        Err(why) => return failed(why),
    };
    let request = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/cloudevents+json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp.to_string())
        .header("webhook-signature", signature)
        .body(body.to_owned());
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => return failed(chain(&error.without_url())),
    };
    let status = response.status();
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok());
    let retry_after = retry_after.and_then(|text| wait(text, now));
    // Read to its end, the connection can be used again.
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER_BYTES_MAX {
            break;
        }
    }
    if status.is_success() {
        return Answer::Taken(status.as_u16());
    }
    if status == StatusCode::GONE {
        return Answer::Gone;
    }
    let error = if status.is_redirection() {
        format!("the endpoint answered {status}; redirects are not followed, change the webhook's url")
    } else {
        format!("the endpoint answered {status}")
    };
    Answer::Failed { status: Some(status.as_u16()), error, retry_after }
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let seconds = match text.trim().parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
            u64::try_from(at.as_second() - now.as_second()).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_S_MAX)))
}

/// An error with its reasons.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(next) = reason {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        reason = next.source();
    }
    text
}

fn shorten(text: &str) -> String {
    text.chars().take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_lead_inside_are_refused() {
        let strict = WebhookOptions::default();
        for (url, why) in [
            ("http://example.com/", "--webhook-http"),
            ("ftp://example.com/", "not ftp:"),
            ("https://user:pass@example.com/", "password"),
            ("https://127.0.0.1/", "--webhook-private"),
            ("https://[::1]/", "--webhook-private"),
            ("https://0x7f.1/", "--webhook-private"),
            ("https://2130706433/", "--webhook-private"),
            ("https://169.254.169.254/latest", "--webhook-private"),
            ("nowhere", "cannot be read"),
        ] {
            let refused = check_url(url, &strict).unwrap_err();
            assert!(refused.contains(why), "{url}: {refused}");
        }
        assert!(check_url("https://example.com/hook?a=b", &strict).is_ok());
        let open = WebhookOptions { allow_http: true, allow_private: true, ..strict };
        assert!(check_url("http://127.0.0.1:9/", &open).is_ok());
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        assert_eq!(wait("120", now), Some(Duration::from_secs(120)));
        assert_eq!(wait("Mon, 02 Mar 2026 12:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(wait("Mon, 02 Mar 2026 11:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(wait("99999999999", now), Some(Duration::from_secs(RETRY_AFTER_S_MAX)));
        assert_eq!(wait("soon", now), None);
    }
}

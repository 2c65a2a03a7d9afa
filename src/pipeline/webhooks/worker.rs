//! The task that empties the outbox: it sends what is due, each endpoint for itself, and writes down what came of it.
//!
//! Nothing is taken out of the outbox before an endpoint has said that it has it, so a crash at any moment repeats an
//! attempt and never loses an alert. What waits in memory is bounded: some attempts for each endpoint, and some in all.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use tokio::task::JoinSet;

use super::{
    Endpoint, WebhookOptions,
    sender::{self, Answer},
};
use crate::{
    pipeline::{PipelineError, Tenant, digest, ingest::blocking, shared::Shared, telemetry},
    store::{DeliveryState, PendingDelivery, Settled},
};

/// Attempts at once for one endpoint, and for all: a slow one holds up only its own.
const ENDPOINT_ATTEMPTS_MAX: usize = 4;
const ATTEMPTS_MAX: usize = 128;
/// Longest sleep; the outbox may have been changed by another way.
const IDLE_MS_MAX: u64 = 15_000;
/// How long attempts on their way may take when the server stops.
pub const DRAIN_MS_MAX: u64 = 2_000;
/// Pause after the store has failed.
const STORE_RETRY_MS: u64 = 1_000;
/// How often digests and the depth of the outbox are looked at, and how often old alerts.
const CHORES_S: i64 = 30;
const PRUNE_S: i64 = 3_600;
/// Days that alerts and their deliveries are kept.
const ALERT_DAYS_MAX: i64 = 90;
/// Retries grow by this factor, and never wait longer than this.
const BACKOFF_FACTOR: u32 = 3;
const BACKOFF_MS_MAX: u64 = 12 * 3_600_000;

/// An endpoint by its tenant and id.
type Place = (Tenant, String);

/// What an attempt came to.
struct Done {
    place: Place,
    settled: Settled,
    gone: bool,
}

/// What is due now, and when the next one is.
struct Round {
    due: Vec<(Place, Arc<Endpoint>, PendingDelivery)>,
    next_at: Option<Timestamp>,
}

/// Runs until the pipeline stops.
pub async fn run(shared: Arc<Shared>) {
    let options = shared.options.webhooks.clone();
    let client = match sender::client(&options) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "no client for webhooks; alerts are kept and not delivered");
            return;
        }
    };
    let mut stopped = shared.progress.subscribe();
    let mut flight: JoinSet<Done> = JoinSet::new();
    let mut busy: HashMap<Place, HashSet<String>> = HashMap::new();
    let mut chores_at = Timestamp::MIN;
    let mut prune_at = Timestamp::MIN;
    loop {
        let now = shared.now();
        if now >= chores_at {
            chores_at = after(now, CHORES_S);
            let prune = now >= prune_at;
            if prune {
                prune_at = after(now, PRUNE_S);
            }
            let shared = shared.clone();
            if let Err(error) = blocking(move || chores(&shared, now, prune)).await {
                tracing::warn!(%error, "the outbox could not be looked after; trying again");
            }
        }
        let (of, in_flight) = (shared.clone(), busy.clone());
        let wait = match blocking(move || round(&of, &in_flight)).await {
            Ok(round) => {
                for (place, endpoint, delivery) in round.due {
                    busy.entry(place.clone()).or_default().insert(delivery.alert.clone());
                    flight.spawn(attempt(
                        shared.clone(),
                        client.clone(),
                        options.clone(),
                        place,
                        endpoint,
                        delivery,
                    ));
                }
                let next = round.next_at.map(|at| at.duration_since(now).unsigned_abs());
                next.unwrap_or(Duration::MAX).min(Duration::from_millis(IDLE_MS_MAX))
            }
            Err(error) => {
                tracing::warn!(%error, "the outbox could not be read; trying again");
                Duration::from_millis(STORE_RETRY_MS)
            }
        };
        let mut done = Vec::new();
        tokio::select! {
            _ = stopped.wait_for(|progress| progress.stopped) => break,
            () = shared.deliver.notified() => {}
            Some(first) = flight.join_next(), if !flight.is_empty() => done.extend(first),
            () = tokio::time::sleep(wait) => {}
        }
        while let Some(more) = flight.try_join_next() {
            done.extend(more);
        }
        settle(&shared, done, &mut busy).await;
    }
    // What is on its way may arrive: written down now, it is not sent again at the next start.
    let mut done = Vec::new();
    let drain = async {
        while let Some(more) = flight.join_next().await {
            done.extend(more);
        }
    };
    // What takes longer stays pending.
    let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS_MAX), drain).await;
    settle(&shared, done, &mut busy).await;
}

/// Reads what is due, without what is in flight and no more than may be.
fn round(shared: &Shared, busy: &HashMap<Place, HashSet<String>>) -> Result<Round, PipelineError> {
    let now = shared.now();
    let mut free = ATTEMPTS_MAX.saturating_sub(busy.values().map(HashSet::len).sum());
    let mut round = Round { due: Vec::new(), next_at: None };
    let none = HashSet::new();
    for (tenant, row) in shared.store.outbox().webhooks(None)? {
        if !row.enabled {
            continue;
        }
        let place = (tenant, row.id.clone());
        let in_flight = busy.get(&place).unwrap_or(&none);
        let mut left = ENDPOINT_ATTEMPTS_MAX.saturating_sub(in_flight.len()).min(free);
        if left == 0 {
            // An attempt that ends wakes the task.
            continue;
        }
        let endpoint = match Endpoint::read(&row) {
            Ok(endpoint) => Arc::new(endpoint),
            Err(error) => {
                tracing::error!(%error, "a webhook is left out");
                continue;
            }
        };
        let pending =
            shared.store.outbox().pending(&place.0, &place.1, ENDPOINT_ATTEMPTS_MAX + in_flight.len())?;
        for delivery in pending.into_iter().filter(|d| !in_flight.contains(&d.alert)) {
            if delivery.next_at > now {
                round.next_at = Some(round.next_at.map_or(delivery.next_at, |at| at.min(delivery.next_at)));
                break;
            }
            if left == 0 {
                break;
            }
            left -= 1;
            free -= 1;
            round.due.push((place.clone(), endpoint.clone(), delivery));
        }
    }
    Ok(round)
}

async fn attempt(
    shared: Arc<Shared>,
    client: Client,
    options: WebhookOptions,
    place: Place,
    endpoint: Arc<Endpoint>,
    delivery: PendingDelivery,
) -> Done {
    let answer =
        sender::send(&client, &options, &endpoint, &delivery.alert, &delivery.body, shared.now()).await;
    let at = shared.now();
    let attempts = delivery.attempts + 1;
    let (state, next_at, status, error, gone) = match answer {
        Answer::Taken(status) => (DeliveryState::Delivered, at, Some(status), None, false),
        Answer::Gone => (DeliveryState::Dead, at, Some(410), Some("the endpoint is gone (410)".into()), true),
        Answer::Failed { status, error, .. } if attempts >= options.attempts_max => {
            (DeliveryState::Dead, at, status, Some(error), false)
        }
        Answer::Failed { status, error, retry_after } => {
            let pause = backoff(attempts, &options, &delivery.alert).max(retry_after.unwrap_or_default());
            let next_at = at.checked_add(pause).unwrap_or(Timestamp::MAX);
            (DeliveryState::Pending, next_at, status, Some(error), false)
        }
    };
    let outcome = match (state, gone) {
        (_, true) => "gone",
        (DeliveryState::Delivered, _) => "delivered",
        (DeliveryState::Pending, _) => "retried",
        (DeliveryState::Dead, _) => "dead",
    };
    metrics::counter!(telemetry::DELIVERIES, "outcome" => outcome).increment(1);
    let (tenant, webhook) = place.clone();
    let settled = Settled { tenant, webhook, alert: delivery.alert, state, next_at, status, error, at };
    Done { place, settled, gone }
}

/// How long to wait after so many attempts: three times as long as before, up to a bound, and a fifth more or less so
/// that what failed together does not come back together.
fn backoff(attempts: u32, options: &WebhookOptions, alert: &str) -> Duration {
    let factor = u64::from(BACKOFF_FACTOR).saturating_pow(attempts.saturating_sub(1));
    let pause_ms = options.retry_ms_min.saturating_mul(factor).min(BACKOFF_MS_MAX);
    let share = RandomState::new().hash_one(alert) as f64 / u64::MAX as f64;
    Duration::from_secs_f64(pause_ms as f64 / 1e3 * (0.8 + 0.4 * share))
}

/// Writes attempts down. What cannot be written is forgotten here and so made again.
async fn settle(shared: &Arc<Shared>, done: Vec<Done>, busy: &mut HashMap<Place, HashSet<String>>) {
    if done.is_empty() {
        return;
    }
    for Done { place, settled, .. } in &done {
        if let Some(of_place) = busy.get_mut(place) {
            of_place.remove(&settled.alert);
            if of_place.is_empty() {
                busy.remove(place);
            }
        }
    }
    let shared = shared.clone();
    let written = blocking(move || {
        let gone: Vec<Place> = done.iter().filter(|d| d.gone).map(|d| d.place.clone()).collect();
        shared.store.outbox().settle(done.into_iter().map(|d| d.settled).collect())?;
        for (tenant, id) in gone {
            super::disable(&shared, &tenant, &id, "the endpoint answered 410 Gone")?;
        }
        Ok(())
    });
    if let Err(error) = written.await {
        tracing::warn!(%error, "attempts could not be written down; they will be made again");
        tokio::time::sleep(Duration::from_millis(STORE_RETRY_MS)).await;
    }
}

fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn chores(shared: &Shared, now: Timestamp, prune: bool) -> Result<(), PipelineError> {
    digest::send_due(shared, now)?;
    if prune && let Ok(before) = now.checked_sub(SignedDuration::from_hours(24 * ALERT_DAYS_MAX)) {
        shared.store.outbox().prune(before)?;
    }
    let depth = shared.store.outbox().depth()?;
    let age_s = depth.oldest.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
    metrics::gauge!(telemetry::OUTBOX).set(depth.pending as f64);
    metrics::gauge!(telemetry::OUTBOX_AGE).set(age_s);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_threefold_up_to_a_bound_and_differ() {
        let options = WebhookOptions::default();
        let pause = |attempts| backoff(attempts, &options, "a").as_secs_f64();
        for (attempts, middle) in [(1, 5.0), (2, 15.0), (4, 135.0), (30, 43_200.0)] {
            let found = pause(attempts);
            assert!((0.8 * middle..=1.2 * middle).contains(&found), "{attempts}: {found}");
        }
        assert!((0..20).map(|_| pause(3)).any(|p| p != pause(3)));
    }
}

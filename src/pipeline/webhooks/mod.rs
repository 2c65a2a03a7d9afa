//! Webhooks: endpoints of a tenant that alerts go to, as Standard Webhooks 1.0 has it.
//!
//! This file keeps the endpoints; [`worker`] empties the outbox, [`sender`] makes one attempt, [`signature`] signs it and
//! [`address`] says where it may go.

mod address;
mod sender;
mod signature;
mod worker;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Page, Pipeline, PipelineError, Tenant, alerting::cloud_event, cursor, digest, ingest::blocking,
    reading::page, shared::Shared,
};
use crate::{
    insight::{action, alerts::Rule},
    store::{DeliveryRow, DeliveryState, NewAlert, WebhookRow},
};

pub use worker::{DRAIN_MS_MAX, run};

/// The type of the event that `/test` sends.
pub const TEST_TYPE: &str = "hearken.webhook.test.v1";
/// Longest URL and description, in characters.
const URL_CHARS_MAX: usize = 2_000;
/// Most types and teams that an endpoint asks for.
const NAMES_MAX: usize = 50;
/// How long the old secret goes on signing after a rotation, and how long at most.
pub const OVERLAP_HOURS: u32 = 24;
pub const OVERLAP_HOURS_MAX: u32 = 24 * 14;

/// How deliveries are made.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Also to `http://`.
    pub allow_http: bool,
    /// Also to addresses that are not public: loopback, link-local, private networks.
    pub allow_private: bool,
    /// Longest time of one attempt.
    pub timeout_ms_max: u64,
    /// First pause after a failed attempt.
    pub retry_ms_min: u64,
    /// Attempts until an alert is given up.
    pub attempts_max: u32,
    /// Most endpoints of a tenant.
    pub webhooks_max: usize,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            allow_http: false,
            allow_private: false,
            timeout_ms_max: 15_000,
            retry_ms_min: 5_000,
            attempts_max: 12,
            webhooks_max: 16,
        }
    }
}

/// An endpoint, without its secrets.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub id: String,
    pub url: String,
    pub description: Option<String>,
    /// CloudEvents types that it wants; empty means all.
    pub event_types: Vec<String>,
    /// Teams whose alerts it wants; empty means all.
    pub teams: Vec<String>,
    pub enabled: bool,
    /// Why the server has disabled it.
    pub disabled_reason: Option<String>,
    pub created_at: Timestamp,
    /// Until when the secret before the present one signs too.
    pub previous_secret_until: Option<Timestamp>,
}

/// What became of one alert for one endpoint.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub alert: String,
    pub type_: String,
    /// pending, delivered or dead.
    pub state: &'static str,
    pub attempts: u32,
    pub next_attempt_at: Option<Timestamp>,
    /// HTTP status of the last attempt.
    pub status: Option<u16>,
    pub error: Option<String>,
    pub changed_at: Timestamp,
}

impl Delivery {
    fn of(row: DeliveryRow) -> Self {
        Self {
            alert: row.alert,
            type_: row.type_,
            state: row.state.name(),
            attempts: row.attempts,
            next_attempt_at: (row.state == DeliveryState::Pending).then_some(row.next_at),
            status: row.status,
            error: row.error,
            changed_at: row.changed_at,
        }
    }
}

/// What to make of an endpoint: an absent field stays as it was.
#[derive(Clone, Debug, Default)]
pub struct WebhookPatch {
    pub url: Option<String>,
    pub description: Option<Option<String>>,
    pub event_types: Option<Vec<String>>,
    pub teams: Option<Vec<String>>,
    pub enabled: Option<bool>,
}

/// What the store keeps of an endpoint as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Endpoint {
    url: String,
    #[serde(default)]
    description: Option<String>,
    secret: String,
    #[serde(default)]
    previous: Option<Previous>,
    #[serde(default)]
    disabled_reason: Option<String>,
    created_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Previous {
    secret: String,
    until: Timestamp,
}

impl Endpoint {
    fn read(row: &WebhookRow) -> Result<Endpoint, PipelineError> {
        serde_json::from_str(&row.body).map_err(|error| {
            PipelineError::Store(format!("the stored webhook {} cannot be read: {error}", row.id))
        })
    }

    /// The secrets that sign now.
    fn secrets(&self, now: Timestamp) -> Vec<&str> {
        let previous = self.previous.as_ref().filter(|p| now < p.until).map(|p| p.secret.as_str());
        std::iter::once(self.secret.as_str()).chain(previous).collect()
    }

    fn write(&self) -> String {
        // Cannot fail: string keys only.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The types that an endpoint can ask for.
pub fn event_types() -> Vec<&'static str> {
    Rule::ALL.into_iter().map(Rule::event_type).chain([digest::TYPE, TEST_TYPE]).collect()
}

fn bad(pointer: &str, detail: impl Into<String>) -> PipelineError {
    PipelineError::Body { pointer: pointer.into(), detail: detail.into() }
}

/// Checks what a body says, and puts it in its place.
fn apply(
    row: &mut WebhookRow,
    endpoint: &mut Endpoint,
    patch: WebhookPatch,
    options: &WebhookOptions,
) -> Result<(), PipelineError> {
    if let Some(url) = patch.url {
        if url.chars().count() > URL_CHARS_MAX {
            return Err(bad("/url", format!("a URL has at most {URL_CHARS_MAX} characters")));
        }
        sender::check_url(&url, options).map_err(|why| bad("/url", why))?;
        endpoint.url = url;
    }
    if let Some(description) = patch.description {
        if description.as_ref().is_some_and(|d| d.chars().count() > URL_CHARS_MAX) {
            return Err(bad("/description", format!("at most {URL_CHARS_MAX} characters")));
        }
        endpoint.description = description;
    }
    if let Some(types) = patch.event_types {
        for (i, type_) in types.iter().enumerate() {
            if !event_types().contains(&type_.as_str()) {
                let known = event_types().join(", ");
                return Err(bad(&format!("/event_types/{i}"), format!("{type_:?} is none of {known}")));
            }
        }
        row.types = few("/event_types", types)?;
    }
    if let Some(teams) = patch.teams {
        row.teams = few("/teams", teams)?;
    }
    if let Some(enabled) = patch.enabled {
        row.enabled = enabled;
        if enabled {
            endpoint.disabled_reason = None;
        }
    }
    row.body = endpoint.write();
    Ok(())
}

fn few(pointer: &str, names: Vec<String>) -> Result<Vec<String>, PipelineError> {
    let long = |name: &String| name.is_empty() || name.chars().count() > action::NAME_CHARS_MAX;
    if names.len() > NAMES_MAX || names.iter().any(long) {
        let chars_max = action::NAME_CHARS_MAX;
        return Err(bad(pointer, format!("at most {NAMES_MAX} names of 1 to {chars_max} characters")));
    }
    Ok(names)
}

fn shown(row: WebhookRow) -> Result<Webhook, PipelineError> {
    let endpoint = Endpoint::read(&row)?;
    Ok(Webhook {
        id: row.id,
        url: endpoint.url,
        description: endpoint.description,
        event_types: row.types,
        teams: row.teams,
        enabled: row.enabled,
        disabled_reason: endpoint.disabled_reason,
        created_at: endpoint.created_at,
        previous_secret_until: endpoint.previous.map(|p| p.until),
    })
}

fn find(shared: &Shared, tenant: &Tenant, id: &str) -> Result<Option<WebhookRow>, PipelineError> {
    let rows = shared.store.outbox().webhooks(Some(tenant))?;
    Ok(rows.into_iter().map(|(_, row)| row).find(|row| row.id == id))
}

/// Sends nothing more to an endpoint until somebody enables it again.
fn disable(shared: &Shared, tenant: &Tenant, id: &str, why: &str) -> Result<(), PipelineError> {
    let _changing = shared.webhooks_changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(mut row) = find(shared, tenant, id)? else { return Ok(()) };
    let mut endpoint = Endpoint::read(&row)?;
    endpoint.disabled_reason = Some(why.into());
    row.enabled = false;
    row.body = endpoint.write();
    tracing::warn!(webhook = id, why, "a webhook is disabled");
    Ok(shared.store.outbox().put_webhook(tenant, &row)?)
}

fn new_secret() -> Result<String, PipelineError> {
    signature::new_secret().map_err(|error| PipelineError::Store(format!("no random numbers: {error}")))
}

impl Pipeline {
    /// Adds an endpoint; answers with its secret, which is not told again.
    pub async fn create_webhook(
        &self,
        tenant: &Tenant,
        patch: WebhookPatch,
        secret: Option<String>,
    ) -> Result<(Webhook, String), PipelineError> {
        let secret = match secret {
            Some(secret) => secret,
            None => new_secret()?,
        };
        signature::key(&secret).map_err(|why| bad("/secret", why))?;
        let id = action::name("wh", &[&new_secret()?]);
        self.with_webhooks(
            move |shared, tenant| {
                let rows = shared.store.outbox().webhooks(Some(tenant))?;
                let webhooks_max = shared.options.webhooks.webhooks_max;
                if rows.len() >= webhooks_max {
                    return Err(bad(
                        "",
                        format!("there are webhooks_max = {webhooks_max} webhooks already; delete one first"),
                    ));
                }
                let created_at = shared.now();
                let mut endpoint = Endpoint {
                    url: String::new(),
                    description: None,
                    secret: secret.clone(),
                    previous: None,
                    disabled_reason: None,
                    created_at,
                };
                let mut row =
                    WebhookRow { id, enabled: true, types: vec![], teams: vec![], body: String::new() };
                if patch.url.is_none() {
                    return Err(bad("/url", "a webhook needs a `url`"));
                }
                apply(&mut row, &mut endpoint, patch, &shared.options.webhooks)?;
                shared.store.outbox().put_webhook(tenant, &row)?;
                Ok((shown(row)?, secret))
            },
            tenant,
        )
        .await
    }

    pub async fn webhooks(&self, tenant: &Tenant) -> Result<Vec<Webhook>, PipelineError> {
        self.with_webhooks(
            |shared, tenant| {
                let rows = shared.store.outbox().webhooks(Some(tenant))?;
                rows.into_iter().map(|(_, row)| shown(row)).collect()
            },
            tenant,
        )
        .await
    }

    /// `None` where there is none of this id.
    pub async fn change_webhook(
        &self,
        tenant: &Tenant,
        id: &str,
        patch: WebhookPatch,
    ) -> Result<Option<Webhook>, PipelineError> {
        let id = id.to_owned();
        self.with_webhooks(
            move |shared, tenant| {
                let Some(mut row) = find(shared, tenant, &id)? else { return Ok(None) };
                let mut endpoint = Endpoint::read(&row)?;
                apply(&mut row, &mut endpoint, patch, &shared.options.webhooks)?;
                shared.store.outbox().put_webhook(tenant, &row)?;
                // What waited while it was disabled is due.
                shared.deliver.notify_one();
                shown(row).map(Some)
            },
            tenant,
        )
        .await
    }

    /// Deletes an endpoint and all that waits for it.
    pub async fn delete_webhook(&self, tenant: &Tenant, id: &str) -> Result<bool, PipelineError> {
        let id = id.to_owned();
        self.with_webhooks(
            move |shared, tenant| Ok(shared.store.outbox().delete_webhook(tenant, &id)?),
            tenant,
        )
        .await
    }

    /// Gives an endpoint a new secret; the old one signs beside it for some hours more.
    pub async fn rotate_secret(
        &self,
        tenant: &Tenant,
        id: &str,
        secret: Option<String>,
        overlap_hours: u32,
    ) -> Result<Option<(Webhook, String)>, PipelineError> {
        if overlap_hours > OVERLAP_HOURS_MAX {
            return Err(bad("/overlap_hours", format!("at most {OVERLAP_HOURS_MAX} hours")));
        }
        let secret = match secret {
            Some(secret) => secret,
            None => new_secret()?,
        };
        signature::key(&secret).map_err(|why| bad("/secret", why))?;
        let id = id.to_owned();
        self.with_webhooks(
            move |shared, tenant| {
                let Some(mut row) = find(shared, tenant, &id)? else { return Ok(None) };
                let mut endpoint = Endpoint::read(&row)?;
                let until = shared.now().checked_add(SignedDuration::from_hours(overlap_hours.into()));
                let old = std::mem::replace(&mut endpoint.secret, secret.clone());
                endpoint.previous =
                    until.ok().filter(|_| overlap_hours > 0).map(|until| Previous { secret: old, until });
                row.body = endpoint.write();
                shared.store.outbox().put_webhook(tenant, &row)?;
                Ok(Some((shown(row)?, secret)))
            },
            tenant,
        )
        .await
    }

    /// Sends a test event to one endpoint; answers with its id.
    pub async fn test_webhook(&self, tenant: &Tenant, id: &str) -> Result<Option<String>, PipelineError> {
        let (id, nonce) = (id.to_owned(), new_secret()?);
        self.with_webhooks(
            move |shared, tenant| {
                if find(shared, tenant, &id)?.is_none() {
                    return Ok(None);
                }
                let (at, event) = (shared.now(), action::name("tst", &[&nonce]));
                shared.store.outbox().put_alerts(vec![NewAlert {
                    tenant: tenant.clone(),
                    body: cloud_event(&event, TEST_TYPE, None, at, json!({"webhook": id})),
                    id: event.clone(),
                    record: None,
                    type_: TEST_TYPE.into(),
                    rule: "test".into(),
                    label: "test".into(),
                    team: None,
                    severity: 1,
                    at,
                    only: Some(id),
                }])?;
                shared.deliver.notify_one();
                Ok(Some(event))
            },
            tenant,
        )
        .await
    }

    /// The deliveries of an endpoint, the newest alerts first.
    pub async fn deliveries(
        &self,
        tenant: &Tenant,
        id: &str,
        state: Option<&str>,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Option<Page<Delivery>>, PipelineError> {
        let state = match state {
            Some(name) => Some(DeliveryState::named(name).ok_or_else(|| {
                PipelineError::Query(format!("state: {name:?} is none of pending, delivered, dead"))
            })?),
            None => None,
        };
        let (id, before, limit) =
            (id.to_owned(), cursor.map(cursor::decode).transpose()?, self.page_items(limit));
        self.with_webhooks(
            move |shared, tenant| {
                if find(shared, tenant, &id)?.is_none() {
                    return Ok(None);
                }
                let rows = shared.store.outbox().deliveries(tenant, &id, state, before, limit + 1)?;
                let rows = page(rows, limit, |row| row.number);
                Ok(Some(Page { items: rows.items.into_iter().map(Delivery::of).collect(), next: rows.next }))
            },
            tenant,
        )
        .await
    }

    /// Sends an alert to an endpoint again, whatever became of it; false where it never was for it.
    pub async fn resend(&self, tenant: &Tenant, id: &str, alert: &str) -> Result<bool, PipelineError> {
        let (id, alert) = (id.to_owned(), alert.to_owned());
        self.with_webhooks(
            move |shared, tenant| {
                let known = shared.store.outbox().resend(tenant, &id, &alert, shared.now())?;
                shared.deliver.notify_one();
                Ok(known)
            },
            tenant,
        )
        .await
    }

    /// Runs what reads and changes endpoints, one at a time.
    async fn with_webhooks<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &Tenant) -> Result<T, PipelineError> + Send + 'static,
        tenant: &Tenant,
    ) -> Result<T, PipelineError> {
        let (shared, tenant) = (self.inner.shared.clone(), tenant.clone());
        blocking(move || {
            let _changing =
                shared.webhooks_changing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            work(&shared, &tenant)
        })
        .await
    }
}

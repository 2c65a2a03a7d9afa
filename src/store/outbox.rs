//! Alerts, the webhooks that they go to, how far each delivery is, and the list of actions: the part of a store's
//! contract behind [`super::Store::outbox`].
//!
//! Alerts are written in the transaction that makes the documents they are about, together with one delivery for each
//! webhook that wants them; so a crash neither loses nor doubles one. What a webhook's body says is the pipeline's
//! business.

use std::sync::Arc;

use jiff::Timestamp;

use super::{StoreError, TenantRecord};
use crate::{insight::event::RecordKey, pipeline::Tenant};

/// An alert to keep and to deliver; one whose id is known already changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAlert {
    pub tenant: Tenant,
    pub id: String,
    /// Whom it is about; `None` where it names nobody (a digest, a test).
    pub record: Option<RecordKey>,
    /// CloudEvents type.
    pub type_: String,
    pub rule: String,
    pub label: String,
    pub team: Option<String>,
    pub severity: u8,
    pub at: Timestamp,
    /// The CloudEvent as it is sent.
    pub body: Arc<str>,
    /// Deliver it to this webhook, whatever that wants, and to no other.
    pub only: Option<String>,
}

/// An alert of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRow {
    pub number: u64,
    pub id: String,
    pub body: String,
}

/// Which alerts a list shows, the newest first.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    pub record: Option<RecordKey>,
    pub rule: Option<String>,
    pub team: Option<String>,
    /// Only those with a lower number.
    pub before: Option<u64>,
    pub limit: usize,
}

/// How many alerts of one kind there were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertCount {
    pub rule: String,
    pub label: String,
    pub severity: u8,
    pub count: u64,
}

/// An endpoint that alerts go to.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookRow {
    pub id: String,
    pub enabled: bool,
    /// CloudEvents types that it wants; empty means all.
    pub types: Vec<String>,
    /// Teams whose alerts it wants; empty means all.
    pub teams: Vec<String>,
    /// Everything else, as JSON.
    pub body: String,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    Pending,
    Delivered,
    /// Given up; it can be sent again.
    Dead,
}

impl DeliveryState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Dead].into_iter().find(|state| state.name() == name)
    }
}

/// A delivery of one alert to one webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
    /// Number of the alert: later alerts have higher ones.
    pub number: u64,
    pub alert: String,
    pub type_: String,
    pub state: DeliveryState,
    pub attempts: u32,
    /// When it is tried next, for a pending one.
    pub next_at: Timestamp,
    /// HTTP status of the last attempt.
    pub status: Option<u16>,
    pub error: Option<String>,
    pub changed_at: Timestamp,
}

/// A delivery that is still to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingDelivery {
    pub alert: String,
    pub attempts: u32,
    pub next_at: Timestamp,
    pub body: String,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    pub tenant: Tenant,
    pub webhook: String,
    pub alert: String,
    pub state: DeliveryState,
    pub next_at: Timestamp,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub at: Timestamp,
}

/// How much waits to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    pub pending: u64,
    /// When the oldest alert that waits was raised.
    pub oldest: Option<Timestamp>,
}

/// An action of the list. Written with the document that shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionRow {
    pub record: RecordKey,
    pub id: String,
    pub label: String,
    pub state: String,
    pub team: Option<String>,
    pub due_at: Option<Timestamp>,
    pub told: bool,
    /// The action as in the document.
    pub body: String,
}

/// The actions of a record, all of them.
pub type RecordActions = (TenantRecord, Vec<ActionRow>);

/// Which actions a list shows: those that are due first come first, those without a due time last.
#[derive(Clone, Debug, Default)]
pub struct ActionFilter {
    pub state: Option<String>,
    pub team: Option<String>,
    pub label: Option<String>,
    /// Only those that were due before this.
    pub due_before: Option<Timestamp>,
    /// Continue after this one.
    pub after: Option<(Option<Timestamp>, String)>,
    pub limit: usize,
}

/// How many actions there are in one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionCount {
    pub state: String,
    pub label: String,
    pub count: u64,
    /// Of these, due before the moment that was asked about.
    pub overdue: u64,
    /// Of these, those of which the customer was not told.
    pub untold: u64,
}

/// What a store keeps for alerts, webhooks and actions. Calls block.
pub trait Outbox: Send + Sync {
    /// Keeps alerts that belong to no step of the applier; answers how many were new.
    fn put_alerts(&self, alerts: Vec<NewAlert>) -> Result<usize, StoreError>;

    fn alerts(&self, tenant: &Tenant, filter: &AlertFilter) -> Result<Vec<AlertRow>, StoreError>;

    /// Alerts raised from `from` up to and without `to`; `team` `None` counts those of nobody's.
    fn alert_counts(
        &self,
        tenant: &Tenant,
        team: Option<&str>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<AlertCount>, StoreError>;

    /// Writes a webhook, new or changed.
    fn put_webhook(&self, tenant: &Tenant, webhook: &WebhookRow) -> Result<(), StoreError>;

    /// The webhooks of one tenant, or of all.
    fn webhooks(&self, tenant: Option<&Tenant>) -> Result<Vec<(Tenant, WebhookRow)>, StoreError>;

    /// Deletes a webhook and its deliveries; false where there is none.
    fn delete_webhook(&self, tenant: &Tenant, id: &str) -> Result<bool, StoreError>;

    /// The pending deliveries of a webhook, the next ones first.
    fn pending(
        &self,
        tenant: &Tenant,
        webhook: &str,
        limit: usize,
    ) -> Result<Vec<PendingDelivery>, StoreError>;

    /// Writes down attempts.
    fn settle(&self, attempts: Vec<Settled>) -> Result<(), StoreError>;

    /// Deliveries of a webhook, the newest alerts first, those before number `before`.
    fn deliveries(
        &self,
        tenant: &Tenant,
        webhook: &str,
        state: Option<DeliveryState>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeliveryRow>, StoreError>;

    /// Makes a delivery pending again, with all its attempts; false where there is none.
    fn resend(&self, tenant: &Tenant, webhook: &str, alert: &str, at: Timestamp) -> Result<bool, StoreError>;

    fn depth(&self) -> Result<Depth, StoreError>;

    /// Deletes alerts raised before `before` that wait for no enabled webhook.
    fn prune(&self, before: Timestamp) -> Result<usize, StoreError>;

    fn action(&self, tenant: &Tenant, id: &str) -> Result<Option<ActionRow>, StoreError>;

    fn actions(&self, tenant: &Tenant, filter: &ActionFilter) -> Result<Vec<ActionRow>, StoreError>;

    /// `team` `None` counts those of nobody's.
    fn action_counts(
        &self,
        tenant: &Tenant,
        team: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<ActionCount>, StoreError>;
}

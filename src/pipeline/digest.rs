//! The daily digest: what was raised for a team on a day of its tenant, and what it has to do (C16).
//!
//! It counts, and names no customer: a digest outlives what it was made of. It is an alert of its own type, written once
//! for each team and day, when the hour of the settings has come; a server that slept through a morning sends the last
//! day's when it wakes, and no earlier ones.

use std::collections::BTreeSet;

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Pipeline, PipelineError, Tenant, alerting::cloud_event, ingest::blocking, shared::Shared};
use crate::{
    insight::action,
    store::{NewAlert, StoreError},
};

/// CloudEvents type of a digest.
pub const TYPE: &str = "hearken.digest.daily.v1";

/// What a team's day came to.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Digest {
    /// Null for what is nobody's.
    pub team: Option<String>,
    #[schema(value_type = String, format = Date)]
    pub date: Date,
    /// IANA name of the time zone of the day.
    pub tz: String,
    /// Alerts raised on that day.
    pub alerts_total: u64,
    pub alerts: Vec<DigestAlerts>,
    /// Actions as they are when the digest is made.
    pub actions: Vec<DigestActions>,
    /// Suggested, open and in progress, past their due time.
    pub overdue: u64,
    /// Done, and the customer was not told yet.
    pub to_tell: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DigestAlerts {
    pub rule: String,
    /// The label, where the rule is about one; else the rule.
    pub label: String,
    pub severity: u8,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DigestActions {
    pub state: String,
    pub label: String,
    pub count: u64,
}

/// The zone of a tenant's days.
fn zone(tz: &str) -> TimeZone {
    // Was known when the settings were put; another machine may lack it.
    TimeZone::get(tz).unwrap_or(TimeZone::UTC)
}

fn make(
    shared: &Shared,
    tenant: &Tenant,
    team: Option<&str>,
    date: Date,
    tz: &str,
) -> Result<Digest, StoreError> {
    let zone = zone(tz);
    let begin = |date: Date| zone.to_timestamp(date.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX);
    let tomorrow = date.tomorrow().unwrap_or(date);
    let outbox = shared.store.outbox();
    let alerts = outbox.alert_counts(tenant, team, begin(date), begin(tomorrow))?;
    let actions = outbox.action_counts(tenant, team, shared.now())?;
    let closed = |state: &str| matches!(state, "done" | "dismissed");
    Ok(Digest {
        team: team.map(Into::into),
        date,
        tz: tz.into(),
        alerts_total: alerts.iter().map(|a| a.count).sum(),
        overdue: actions.iter().filter(|a| !closed(&a.state)).map(|a| a.overdue).sum(),
        to_tell: actions.iter().filter(|a| a.state == "done").map(|a| a.untold).sum(),
        alerts: alerts
            .into_iter()
            .map(|a| DigestAlerts { rule: a.rule, label: a.label, severity: a.severity, count: a.count })
            .collect(),
        actions: actions
            .into_iter()
            .map(|a| DigestActions { state: a.state, label: a.label, count: a.count })
            .collect(),
    })
}

/// Writes the digests of yesterday for every tenant with webhooks, once their hour has come.
pub fn send_due(shared: &Shared, now: Timestamp) -> Result<(), PipelineError> {
    let outbox = shared.store.outbox();
    let tenants: BTreeSet<Tenant> = outbox.webhooks(None)?.into_iter().map(|(tenant, _)| tenant).collect();
    for tenant in tenants {
        let settings = shared.settings.of(&tenant);
        let rule = &settings.fold.alerts.digest;
        let local = now.to_zoned(zone(&rule.tz));
        if !rule.enabled || local.hour() < i8::try_from(rule.hour).unwrap_or(0) {
            continue;
        }
        let Ok(date) = local.date().yesterday() else { continue };
        if shared.digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&tenant)
            == Some(&date)
        {
            continue;
        }
        let teams: BTreeSet<Option<&str>> =
            settings.fold.routing.iter().map(|route| Some(route.team.as_str())).chain([None]).collect();
        let mut digests = Vec::new();
        for team in teams {
            let digest = make(shared, &tenant, team, date, &rule.tz)?;
            if team.is_none() && digest.alerts.is_empty() && digest.actions.is_empty() {
                continue;
            }
            let id = action::name("dig", &[&tenant.0, team.unwrap_or_default(), &date.to_string()]);
            digests.push(NewAlert {
                tenant: tenant.clone(),
                body: cloud_event(&id, TYPE, None, now, json!(digest)),
                id,
                record: None,
                type_: TYPE.into(),
                rule: "digest".into(),
                label: "digest".into(),
                team: team.map(Into::into),
                severity: 1,
                at: now,
                only: None,
            });
        }
        if !digests.is_empty() && outbox.put_alerts(digests)? > 0 {
            shared.deliver.notify_one();
        }
        shared.digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(tenant, date);
    }
    Ok(())
}

impl Pipeline {
    /// The digest of a team for a day of the tenant; yesterday where none is named. Actions are those of now.
    pub async fn digest(
        &self,
        tenant: &Tenant,
        team: Option<&str>,
        date: Option<Date>,
    ) -> Result<Digest, PipelineError> {
        let (shared, tenant, team) = (self.inner.shared.clone(), tenant.clone(), team.map(str::to_owned));
        blocking(move || {
            let tz = shared.settings.of(&tenant).fold.alerts.digest.tz.clone();
            let today = shared.now().to_zoned(zone(&tz)).date();
            let date = date.unwrap_or_else(|| today.saturating_sub(1.day()));
            Ok(make(&shared, &tenant, team.as_deref(), date, &tz)?)
        })
        .await
    }
}

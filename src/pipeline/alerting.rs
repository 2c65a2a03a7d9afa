//! From a step of the applier to what it raises: alerts, the cases that routes open for them, and the list of actions.
//!
//! Everything here is decided before the commit and written with it. The rules are insight's ([`crate::insight::alerts`]);
//! this file finds what they are asked about: which facts are causes, whose they are, and what the documents said before.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Tenant, customers::same_customer, facts::Fact, fold::Folded, settings::TenantSettings, shared::Shared,
    telemetry,
};
use crate::{
    insight::{
        action::{self, ActionChange, ActionPatch},
        alerts::{self, Alert, Cause, Glimpse, Side},
        digest::Digest,
        event::{EventData, EventId, RecordKey},
        lexicon::Lexicon,
        panels::actions::{self, Action, SUGGESTED},
    },
    store::{
        ActionRow, Commit, Membership, NewAlert, NewEvent, RecordActions, StoreError, StoredDocument,
        TenantRecord,
    },
    text::normalize::Normalized,
};

/// The CloudEvents `source` of everything that the server itself tells.
pub const SOURCE: &str = "/hearken";

/// What a step raises.
#[derive(Default)]
pub struct Raised {
    alerts: Vec<NewAlert>,
    opened: Vec<NewEvent>,
}

impl Raised {
    /// Takes it into the step's commit.
    pub fn join(&self, commit: &mut Commit) {
        commit.alerts.clone_from(&self.alerts);
        commit.opened.clone_from(&self.opened);
    }

    /// Lets those know who wait for it, once it is on disk.
    pub fn announce(&self, shared: &Shared) -> Result<(), StoreError> {
        for alert in &self.alerts {
            metrics::counter!(telemetry::ALERTS, "rule" => alert.rule.clone()).increment(1);
        }
        if !self.opened.is_empty() {
            let logged = shared.store.positions()?.logged;
            shared.logged.fetch_max(logged, std::sync::atomic::Ordering::AcqRel);
        }
        if !self.alerts.is_empty() {
            shared.deliver.notify_one();
        }
        Ok(())
    }
}

/// What the facts of a step raise, given the documents that came of it. The old documents must still be the stored ones.
pub fn raise(shared: &Shared, facts: &[Fact], folded: &Folded) -> Result<Raised, StoreError> {
    let mut raised = Raised::default();
    let mut causes: BTreeMap<TenantRecord, (Arc<TenantSettings>, Vec<&Fact>)> = BTreeMap::new();
    let mut settings: Option<(&Tenant, Arc<TenantSettings>)> = None;
    for fact in facts {
        let settings = match &settings {
            Some((tenant, settings)) if *tenant == &fact.tenant => settings.clone(),
            _ => settings.insert((&fact.tenant, shared.settings.of(&fact.tenant))).1.clone(),
        };
        if !alerts::is_cause(&fact.entry, &settings.fold.alerts) {
            continue;
        }
        let Some(own) = fact.records.first() else { continue };
        let record = shared.customers.canonical(&fact.tenant, own);
        if settings.fold.module_enabled(&record.module) {
            let of_record = causes.entry((fact.tenant.clone(), record));
            of_record.or_insert_with(|| (settings, Vec::new())).1.push(fact);
        }
    }
    if causes.is_empty() {
        return Ok(raised);
    }
    let written: HashMap<&TenantRecord, &Arc<StoredDocument>> =
        folded.written.iter().map(|(record, document)| (record, document)).collect();
    for (record, (settings, facts)) in &causes {
        if let Some(after) = written.get(record) {
            raise_for(shared, record, settings, facts, after, &mut raised)?;
        }
    }
    Ok(raised)
}

fn raise_for(
    shared: &Shared,
    record: &TenantRecord,
    settings: &TenantSettings,
    facts: &[&Fact],
    after: &StoredDocument,
    raised: &mut Raised,
) -> Result<(), StoreError> {
    let (tenant, key) = record;
    let causes: Vec<Cause> = facts
        .iter()
        .map(|fact| Cause { entry: &fact.entry, digest: digest(fact, &settings.lexicon) })
        .collect();
    let names = causes.iter().any(|c| c.digest.as_ref().is_some_and(|d| !d.competitors.is_empty()));
    let after_side = side(after, !after.labels.is_empty() || names);
    let mut before = Side::default();
    let same = shared.customers.with(tenant, |identity| same_customer(identity, key));
    for member in same {
        if let Some(old) = shared.stored(&(tenant.clone(), member))? {
            before.join(side(&old, !after.labels.is_empty() && !old.labels.is_empty()));
        }
    }
    let alerts = alerts::raise(key, &before, &after_side, &causes, &settings.fold);
    if alerts.is_empty() {
        return Ok(());
    }
    let mut actions = read_actions(after);
    for alert in &alerts {
        let action = open(shared, settings, facts, alert, &mut actions, &mut raised.opened);
        raised.alerts.push(new_alert(shared, tenant, settings, alert, action));
    }
    Ok(())
}

/// What was found in a fact's words; nothing where no name of the settings is in them.
fn digest(fact: &Fact, lexicon: &Lexicon) -> Option<Digest> {
    let EventData::InteractionReceived(interaction) = &fact.entry.event.data else { return None };
    let text = interaction.customer_text()?;
    let text = Normalized::new(&text);
    let named = lexicon.competitors(&text).next().is_some() || lexicon.watched(&text).next().is_some();
    named.then(|| Digest::of(interaction, fact.entry.scores.as_ref(), lexicon)).flatten()
}

/// What a stored document says of its record; `look` reads its bytes for that.
fn side(document: &StoredDocument, look: bool) -> Side {
    let glimpse: Option<Glimpse> = look.then(|| serde_json::from_slice(&document.bytes).ok()).flatten();
    Side {
        glimpse: glimpse.unwrap_or_default(),
        responses: document.interactions,
        net: document.net_sentiment,
    }
}

/// Opens a case for an alert where a route says so, unless one is open; answers with the case or the suggestion that the
/// alert belongs to.
fn open(
    shared: &Shared,
    settings: &TenantSettings,
    facts: &[&Fact],
    alert: &Alert,
    actions: &mut Vec<Action>,
    opened: &mut Vec<NewEvent>,
) -> Option<String> {
    let of_label =
        actions.iter().position(|a| a.label == alert.label && !["done", "dismissed"].contains(&&*a.state));
    let found = of_label.map(|place| &actions[place]);
    let route = settings.fold.route(&alert.label).filter(|route| route.open);
    let (Some(route), true) = (route, found.is_none_or(|a| a.state == SUGGESTED)) else {
        return found.map(|a| a.id.clone());
    };
    // The case stays with the record that gave cause, also where that is merged into another one and taken out again.
    let cause = facts.iter().find(|fact| fact.entry.event.id == alert.cause)?;
    let id = found.map_or_else(|| case_id(alert), |suggested| suggested.id.clone());
    let now = shared.now();
    let change = ActionChange {
        record: cause.records.first()?.clone(),
        action: id.clone(),
        kind: actions::kind(&alert.label).into(),
        label: alert.label.clone(),
        severity: Some(alert.severity),
        cause: Some(alert.cause.clone()),
        by_rule: true,
        set: ActionPatch {
            owner_team: Some(Some(route.team.clone())),
            due_at: Some(route.due_at(now, alert.severity)),
            ..ActionPatch::default()
        },
    };
    // The cause is part of the name: what fell with one cause can be opened by another.
    let event_id = action::name(&id, &[&alert.cause.source, &alert.cause.id]);
    opened.push(change_event(&cause.tenant, event_id, &change, now));
    // Another alert of this step for the same label finds it open.
    match of_label {
        Some(place) => actions[place].state = "open".into(),
        None => {
            let state = "open".into();
            actions.push(Action { id: id.clone(), label: alert.label.clone(), state, ..Action::default() });
        }
    }
    Some(id)
}

/// A case for an alert that is about no label.
fn case_id(alert: &Alert) -> String {
    let RecordKey { module, id } = &alert.record;
    action::name("act", &[module, id, &alert.label, &alert.cause.source, &alert.cause.id])
}

/// A change of a case as an event of the log.
pub fn change_event(tenant: &Tenant, id: String, change: &ActionChange, at: jiff::Timestamp) -> NewEvent {
    NewEvent {
        tenant: tenant.clone(),
        id: EventId { source: action::SOURCE.into(), id },
        revision: 0,
        type_: action::CHANGED.into(),
        time: at,
        received_at: at,
        // Cannot fail: string keys only.
        data: serde_json::to_string(change).unwrap_or_default(),
        records: vec![Membership { record: change.record.clone(), owned: true }],
        retracts: None,
        link: false,
    }
}

fn new_alert(
    shared: &Shared,
    tenant: &Tenant,
    settings: &TenantSettings,
    alert: &Alert,
    action: Option<String>,
) -> NewAlert {
    let (at, id) = (shared.now(), alert.id(&tenant.0));
    let team = settings.fold.route(&alert.label).map(|route| route.team.clone());
    let RecordKey { module, id: record } = &alert.record;
    let encode = |part: &str| {
        percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let path = format!("{}/{}", encode(module), encode(record));
    let data = json!({
        "rule": alert.rule.name(),
        "severity": alert.severity,
        "record": alert.record,
        "owner_team": team,
        "action": action,
        "cause": {"source": alert.cause.source, "id": alert.cause.id, "at": alert.at},
        "found": alert.found,
        "links": {"insights": format!("/v1/records/{path}/insights"), "page": format!("/records/{path}")},
    });
    NewAlert {
        tenant: tenant.clone(),
        body: cloud_event(&id, alert.rule.event_type(), Some(format!("{module}/{record}")), at, data),
        id,
        record: Some(alert.record.clone()),
        type_: alert.rule.event_type().into(),
        rule: alert.rule.name().into(),
        label: alert.label.clone(),
        team,
        severity: alert.severity,
        at,
        only: None,
    }
}

/// A CloudEvents 1.0 envelope in structured mode, as it is sent.
pub fn cloud_event(
    id: &str,
    type_: &str,
    subject: Option<String>,
    at: jiff::Timestamp,
    data: Value,
) -> Arc<str> {
    let mut event = json!({"specversion": "1.0", "id": id, "source": SOURCE, "type": type_});
    if let Some(subject) = subject {
        event["subject"] = subject.into();
    }
    event["time"] = at.to_string().into();
    event["datacontenttype"] = "application/json".into();
    event["data"] = data;
    event.to_string().into()
}

/// The actions of the records whose documents change, where these have changed.
pub fn action_rows(shared: &Shared, folded: &Folded) -> Result<Vec<RecordActions>, StoreError> {
    let mut rows = Vec::new();
    for index in &folded.changed {
        let (record, document) = &folded.written[*index];
        let (old, new) = (shared.stored(record)?, rows_of(document));
        if old.map_or_else(Vec::new, |old| rows_of(&old)) != new {
            rows.push((record.clone(), new));
        }
    }
    rows.extend(folded.removed.iter().map(|record| (record.clone(), vec![])));
    Ok(rows)
}

fn read_actions(document: &StoredDocument) -> Vec<Action> {
    #[derive(Deserialize)]
    struct Part {
        actions: Vec<Action>,
    }
    // In text, quotes are escaped: where this stands, it is the document's own member. Most documents have no actions.
    let has_some =
        std::str::from_utf8(&document.bytes).is_ok_and(|json| json.rfind(r#""actions":[{"#).is_some());
    if !has_some {
        return vec![];
    }
    // A document of an older version has other actions; it is made anew soon.
    serde_json::from_slice::<Part>(&document.bytes).map(|part| part.actions).unwrap_or_default()
}

fn rows_of(document: &StoredDocument) -> Vec<ActionRow> {
    let row = |action: Action| ActionRow {
        // Only where it is stored matters, and that is the document's record.
        record: RecordKey { module: String::new(), id: String::new() },
        body: serde_json::to_string(&action).unwrap_or_default(),
        told: action.customer_told_at.is_some(),
        id: action.id,
        label: action.label,
        state: action.state,
        team: action.owner_team,
        due_at: action.due_at,
    };
    read_actions(document).into_iter().map(row).collect()
}

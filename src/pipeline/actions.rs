//! Actions for those who work on them: the list, one with its changes, and how a change becomes a fact of the log.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Page, Pipeline, PipelineError, Tenant,
    alerting::change_event,
    cursor,
    facts::Fact,
    ingest::{append, blocking},
    reading::page,
    shared::Shared,
};
use crate::{
    insight::{
        action::{ActionChange, ActionPatch, ActionState},
        event::{EventData, EventId, RecordKey},
        panels::actions::{Action, SUGGESTED},
    },
    store::{ActionFilter, ActionRow, AlertFilter},
};

/// Which actions a list shows.
#[derive(Clone, Debug, Default)]
pub struct ActionQuery {
    pub state: Option<String>,
    pub owner_team: Option<String>,
    pub label: Option<String>,
    pub due_before: Option<Timestamp>,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

/// Which alerts a list shows.
#[derive(Clone, Debug, Default)]
pub struct AlertQuery {
    pub record: Option<RecordKey>,
    pub rule: Option<String>,
    pub owner_team: Option<String>,
    pub cursor: Option<String>,
    pub limit: Option<usize>,
}

/// An action and the record that it is about.
#[derive(Clone, Debug)]
pub struct RecordAction {
    pub record: RecordKey,
    pub action: Action,
}

/// A change of a case: when, by whom, and what it set.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeRow {
    pub at: Timestamp,
    pub by_rule: bool,
    pub set: ActionPatch,
}

impl Pipeline {
    /// Suggestions and cases, those due first in front.
    pub async fn actions(
        &self,
        tenant: &Tenant,
        query: &ActionQuery,
    ) -> Result<Page<RecordAction>, PipelineError> {
        let limit = self.page_items(query.limit);
        let filter = ActionFilter {
            state: query.state.clone(),
            team: query.owner_team.clone(),
            label: query.label.clone(),
            due_before: query.due_before,
            after: query.cursor.as_deref().map(cursor::decode).transpose()?,
            limit: limit + 1,
        };
        let (shared, tenant) = (self.inner.shared.clone(), tenant.clone());
        blocking(move || {
            let rows = shared.store.outbox().actions(&tenant, &filter)?;
            let rows = page(rows, limit, |row| (row.due_at, row.id.clone()));
            let items = rows.items.into_iter().map(read).collect::<Result<_, _>>()?;
            Ok(Page { items, next: rows.next })
        })
        .await
    }

    /// Alerts as they were sent, the newest first.
    pub async fn alerts(&self, tenant: &Tenant, query: &AlertQuery) -> Result<Page<String>, PipelineError> {
        let limit = self.page_items(query.limit);
        let filter = AlertFilter {
            record: query.record.clone(),
            rule: query.rule.clone(),
            team: query.owner_team.clone(),
            before: query.cursor.as_deref().map(cursor::decode).transpose()?,
            limit: limit + 1,
        };
        let (shared, tenant) = (self.inner.shared.clone(), tenant.clone());
        blocking(move || {
            let rows = page(shared.store.outbox().alerts(&tenant, &filter)?, limit, |row| row.number);
            Ok(Page { items: rows.items.into_iter().map(|row| row.body).collect(), next: rows.next })
        })
        .await
    }

    /// One action and, for a case, its changes in order.
    pub async fn action(
        &self,
        tenant: &Tenant,
        id: &str,
    ) -> Result<Option<(RecordAction, Vec<ChangeRow>)>, PipelineError> {
        let (shared, tenant, id) = (self.inner.shared.clone(), tenant.clone(), id.to_owned());
        blocking(move || {
            let Some(row) = shared.store.outbox().action(&tenant, &id)? else { return Ok(None) };
            let found = read(row)?;
            let mut changes: Vec<ChangeRow> = facts_of(&shared, &tenant, &found.record)?
                .into_iter()
                .filter_map(|fact| match fact.entry.event.data {
                    EventData::ActionChanged(change) if change.action == id => Some(ChangeRow {
                        at: fact.entry.event.time,
                        by_rule: change.by_rule,
                        set: change.set,
                    }),
                    _ => None,
                })
                .collect();
            changes.sort_by_key(|change| change.at);
            Ok(Some((found, changes)))
        })
        .await
    }

    /// Changes a case; a suggestion becomes one by it. When this returns, the documents and the list show it. `None`
    /// where there is no such action (any more); `expected` refuses where somebody else has changed it meanwhile.
    pub async fn change_action(
        &self,
        tenant: &Tenant,
        id: &str,
        patch: ActionPatch,
        expected: Option<u64>,
    ) -> Result<Option<RecordAction>, PipelineError> {
        patch.check().map_err(|(pointer, detail)| PipelineError::Body { pointer: pointer.into(), detail })?;
        // One at a time: each builds on what the one before has left.
        let _changing = self.inner.shared.changing.lock().await;
        let (shared, of, name) = (self.inner.shared.clone(), tenant.clone(), id.to_owned());
        let applier = self.inner.applier.clone();
        let appended = blocking(move || {
            let Some(row) = shared.store.outbox().action(&of, &name)? else { return Ok(None) };
            let found = read(row)?;
            let changes = found.action.changes;
            if let Some(expected) = expected.filter(|expected| *expected != changes) {
                return Err(PipelineError::Changed { what: format!("action {name}"), is: changes, expected });
            }
            if patch.is_empty() {
                return Ok(Some(None));
            }
            let change = change(&shared, &of, &found, patch)?;
            // Changes stand in the order in which they were made, also within a millisecond.
            let after = found
                .action
                .changed_at
                .and_then(|at| at.checked_add(jiff::SignedDuration::from_millis(1)).ok());
            let at = shared.now().max(after.unwrap_or(Timestamp::MIN));
            let event_id = format!("{name}-{}-{}", changes + 1, at.as_millisecond());
            let batch = append(&shared, &applier, vec![change_event(&of, event_id, &change, at)])?;
            Ok(Some(Some(batch)))
        })
        .await?;
        let Some(batch) = appended else { return Ok(None) };
        if let Some(batch) = batch {
            self.wait_applied(batch.logged, batch.ticket).await?;
        }
        let (shared, tenant, id) = (self.inner.shared.clone(), tenant.clone(), id.to_owned());
        blocking(move || shared.store.outbox().action(&tenant, &id)?.map(read).transpose()).await
    }
}

/// The change that a patch means; the first one of a suggestion says what it is and what it rests on.
fn change(
    shared: &Arc<Shared>,
    tenant: &Tenant,
    found: &RecordAction,
    mut set: ActionPatch,
) -> Result<ActionChange, PipelineError> {
    let RecordAction { record, action } = found;
    let facts = facts_of(shared, tenant, record)?;
    let own_changes = facts.iter().filter_map(|fact| match &fact.entry.event.data {
        EventData::ActionChanged(change) if change.action == action.id => Some(change),
        _ => None,
    });
    let own_changes: Vec<_> = own_changes.collect();
    if own_changes.iter().all(|change| change.by_rule) {
        // The first word of a person keeps what a rule has said, so that it stands by itself.
        set.state = set.state.or(Some(ActionState::Open));
        set.owner_team = set.owner_team.or_else(|| Some(action.owner_team.clone()));
        set.due_at = set.due_at.or(Some(action.due_at));
    }
    // All changes of a case stand with one record, so that it stays whole where records are taken apart again.
    let mut home = own_changes.first().map(|change| change.record.clone());
    let mut cause = None;
    if action.state == SUGGESTED {
        let named = |id: &EventId| {
            action
                .evidence
                .first()
                .is_some_and(|name| *name == id.id || *name == format!("{}#{}", id.source, id.id))
        };
        let is_own = |key: &&RecordKey| shared.customers.canonical(tenant, key) == *record;
        if let Some(newest) = facts.iter().rfind(|fact| named(&fact.entry.event.id)) {
            cause = Some(newest.entry.event.id.clone());
            home = newest.records.iter().find(is_own).cloned();
        }
    }
    Ok(ActionChange {
        record: home.unwrap_or_else(|| record.clone()),
        action: action.id.clone(),
        kind: action.kind.clone(),
        label: action.label.clone(),
        severity: action.severity,
        cause,
        by_rule: false,
        set,
    })
}

/// Every fact of the customer that a record is.
fn facts_of(shared: &Arc<Shared>, tenant: &Tenant, record: &RecordKey) -> Result<Vec<Fact>, PipelineError> {
    let same = shared.customers.with(tenant, |identity| super::customers::same_customer(identity, record));
    Ok(shared.store.history(tenant, &same)?.into_iter().filter_map(Fact::read).collect())
}

fn read(row: ActionRow) -> Result<RecordAction, PipelineError> {
    let action = serde_json::from_str(&row.body).map_err(|error| {
        PipelineError::Store(format!("the stored action {} cannot be read: {error}", row.id))
    })?;
    Ok(RecordAction { record: row.record, action })
}

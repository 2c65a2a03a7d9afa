//! The events behind a document: all of them, those behind one number, and the rows that a document leaves out.
//!
//! All of them read the record as the document does, under the same view, so that what is listed is what was counted.

use std::collections::HashMap;

use super::{
    EvidenceQuery, InteractionQuery, InteractionRow, KeywordPage, Page, Pipeline, PipelineError, Tenant,
    cursor,
    fold::{Family, Held},
    ingest::blocking,
    shared::Shared,
};
use crate::insight::{
    event::{EventData, RecordKey},
    evidence::{self, Witness},
    history::Fact,
    panels::keywords::Keywords,
    reading::Reading,
    view::View,
};

impl Pipeline {
    /// What can be evidence of a record, newest first: interactions, observed behaviour, departures. Without a view all
    /// of it, whenever it happened.
    pub async fn interactions(
        &self,
        tenant: &Tenant,
        key: &RecordKey,
        query: &InteractionQuery,
    ) -> Result<Option<Page<InteractionRow>>, PipelineError> {
        let skip: Skip = query.cursor.as_deref().map(cursor::decode).transpose()?.unwrap_or_default();
        let now = self.inner.shared.now();
        let mut view = query.view.view(now)?;
        if query.view.window.is_none() {
            view.from = None;
        }
        let limit = self.page_items(query.limit);
        let id = query.id.clone();
        self.read(tenant, key, view, move |reading| {
            let named = |fact: &Fact| {
                id.as_deref().is_none_or(|id| {
                    let own = &fact.event.id;
                    own.id == id
                        || id.strip_prefix(own.source.as_str()).and_then(|rest| rest.strip_prefix('#'))
                            == Some(own.id.as_str())
                })
            };
            let can_be_evidence = |fact: &Fact| {
                matches!(
                    fact.event.data,
                    EventData::InteractionReceived(_)
                        | EventData::BehaviourObserved(_)
                        | EventData::CustomerChurned(_)
                )
            };
            let place =
                |fact: &Fact| (fact.event.time, fact.event.id.source.clone(), fact.event.id.id.clone());
            let facts = reading.shown_facts().iter().rev().filter(|f| can_be_evidence(f) && named(f));
            let later = facts.filter(|f| skip.as_ref().is_none_or(|after| place(f) < *after));
            let mut found: Vec<&Fact> = later.take(limit + 1).copied().collect();
            let more = found.len() > limit;
            found.truncate(limit);
            let next = found.last().filter(|_| more).map(|last| cursor::encode(&place(last)));
            Ok(Page { items: found.into_iter().map(|fact| row(reading, fact, vec![])).collect(), next })
        })
        .await
    }

    /// The events behind one number of the document under the same view: `panel` as in the document (`keywords`,
    /// `competitors`, `sentiment`, `intent`, `labels`, ...), `item` its row (a keyword, `negative`, a label's id).
    pub async fn evidence(
        &self,
        tenant: &Tenant,
        key: &RecordKey,
        query: &EvidenceQuery,
    ) -> Result<Option<Page<InteractionRow>>, PipelineError> {
        let skip: usize = query.cursor.as_deref().map(cursor::decode).transpose()?.unwrap_or(0);
        let view = query.view.view(self.inner.shared.now())?;
        let limit = self.page_items(None);
        let query = query.clone();
        self.read(tenant, key, view, move |reading| {
            let Some(witnesses) = evidence::behind_reading(reading, &query.panel, query.item.as_deref())
            else {
                let known = evidence::PANELS.join(", ");
                let panel = &query.panel;
                return Err(PipelineError::Query(format!(
                    "there is no panel {panel:?} with evidence; known are {known}"
                )));
            };
            let facts: HashMap<_, &Fact> = reading.facts.iter().map(|f| (&f.event.id, *f)).collect();
            let total = witnesses.len();
            let shown: Vec<Witness> = witnesses.into_iter().skip(skip).take(limit).collect();
            let next = skip + shown.len();
            let items = shown.into_iter().filter_map(|w| Some(row(reading, facts.get(&w.id)?, w.spans)));
            Ok(Page { items: items.collect(), next: (next < total).then(|| cursor::encode(&next)) })
        })
        .await
    }

    /// Rows of the keyword table from where `cursor` (the document's `keywords.next`, or that of the page before) says.
    pub async fn keywords(
        &self,
        tenant: &Tenant,
        key: &RecordKey,
        query: &InteractionQuery,
    ) -> Result<Option<KeywordPage>, PipelineError> {
        let skip: usize = match query.cursor.as_deref() {
            None => 0,
            Some(text) => text.parse().map_err(|_| {
                PipelineError::Query(format!("cursor {text:?} is not one that this list gave out"))
            })?,
        };
        let view = query.view.view(self.inner.shared.now())?;
        let limit = self.page_items(query.limit);
        self.read(tenant, key, view, move |reading| {
            let Keywords { rows, next, total } = Keywords::after(reading, skip, limit);
            Ok(KeywordPage { page: Page { items: rows, next }, total })
        })
        .await
    }

    /// Reads a record under a view, off the async threads; `None` where nothing is known of it.
    async fn read<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        key: &RecordKey,
        view: View,
        read: impl FnOnce(&Reading) -> Result<T, PipelineError> + Send + 'static,
    ) -> Result<Option<T>, PipelineError> {
        let (shared, tenant, key) = (self.inner.shared.clone(), tenant.clone(), key.clone());
        blocking(move || {
            let Some(found) = load(&shared, &tenant, &key)? else { return Ok(None) };
            shared.customers.with(&tenant, |identity| {
                let (history, settings) = (found.held.history(), found.held.settings());
                read(&Reading::new(&found.key, history, identity, settings, &view)).map(Some)
            })
        })
        .await
    }
}

/// Time, source and id of the last row of the page before.
type Skip = Option<(jiff::Timestamp, String, String)>;

/// The facts of the customer that a record belongs to.
pub struct Found {
    pub key: RecordKey,
    pub held: Held,
}

pub fn load(shared: &Shared, tenant: &Tenant, key: &RecordKey) -> Result<Option<Found>, PipelineError> {
    let (key, family) = shared.customers.with(tenant, |identity| {
        let canonical = identity.canonical(key);
        let family = Family::of(identity, &canonical);
        (canonical, family)
    });
    let Some(family) = family else { return Ok(None) };
    let settings = shared.settings.of(tenant);
    let held = Held::load(&*shared.store, tenant, &family, &settings, shared.applied())?;
    Ok(held.is_known().then_some(Found { key, held }))
}

fn row(reading: &Reading, fact: &Fact, spans: Vec<(u32, u32)>) -> InteractionRow {
    let text = match &fact.event.data {
        EventData::InteractionReceived(interaction) => interaction.customer_text(),
        _ => None,
    };
    InteractionRow {
        name: reading.name(&fact.event.id),
        event: fact.event.clone(),
        text,
        scores: fact.scores.clone(),
        spans,
    }
}

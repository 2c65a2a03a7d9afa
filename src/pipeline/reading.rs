//! Everything that readers ask: documents, lists, the interactions behind a number, the stream of changes.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{broadcast, oneshot};

use super::{
    Health, InteractionRow, Page, Pipeline, PipelineError, RecordQuery, RecordRow, ServedDocument, Tenant,
    ViewQuery,
    applier::Message,
    cursor,
    facts::Fact,
    fold::{Family, Held, Stamps, default_view, etag},
    ingest::blocking,
    shared::Shared,
};
use crate::{
    insight::{
        event::{EventData, EventId, RecordKey},
        evidence,
        view::View,
    },
    store::{RecordFilter, StoredDocument},
};

/// Rows in a page where the caller does not say.
const PAGE_ITEMS_DEFAULT: usize = 50;

impl Pipeline {
    /// The document of a record (of its canonical record, where it was converted or merged); `None` where nothing is
    /// known of it. The default view is served as it is stored.
    pub async fn document(
        &self,
        tenant: &Tenant,
        key: &RecordKey,
        query: &ViewQuery,
    ) -> Result<Option<ServedDocument>, PipelineError> {
        let shared = &self.inner.shared;
        let now = shared.now();
        let view = View::parse(query.window.as_deref(), query.as_of.as_deref(), now)
            .map_err(|error| PipelineError::Query(error.to_string()))?;
        if view == default_view(crate::insight::view::day(now)) {
            let stored = self.current(tenant, key).await?;
            return Ok(stored.map(|document| ServedDocument::of(&document)));
        }
        let (shared, tenant, key) = (shared.clone(), tenant.clone(), key.clone());
        blocking(move || render(&shared, &tenant, &key, &view)).await
    }

    /// The stored document, made anew first where it has aged.
    async fn current(
        &self,
        tenant: &Tenant,
        key: &RecordKey,
    ) -> Result<Option<Arc<StoredDocument>>, PipelineError> {
        let shared = &self.inner.shared;
        let record = (tenant.clone(), shared.customers.canonical(tenant, key));
        let found = match shared.documents.get(&record) {
            Ok(document) => Some(document),
            Err(_) => {
                let (shared, record, own) = (shared.clone(), record.clone(), (tenant.clone(), key.clone()));
                blocking(move || match shared.stored(&record)? {
                    Some(document) => Ok(Some(document)),
                    // It has just become another record, whose document is about to be written.
                    None => Ok(shared.stored(&own)?),
                })
                .await?
            }
        };
        let Some(document) = found else { return Ok(None) };
        if shared.is_current(tenant, document.basis) {
            return Ok(Some(document));
        }
        let (done, refreshed) = oneshot::channel();
        if self.send(Message::Refresh { record: record.clone(), done }).is_err() || refreshed.await.is_err() {
            return Ok(Some(document));
        }
        let shared = shared.clone();
        blocking(move || Ok(shared.stored(&record)?.or(Some(document)))).await
    }

    /// Revisions of a record's document from now on, for the event stream. A reader that falls far behind misses some
    /// and goes on with the present one; the stream ends at shutdown.
    pub fn changes(&self, tenant: &Tenant, key: &RecordKey) -> BoxStream<'static, ServedDocument> {
        let shared = self.inner.shared.clone();
        let changes = shared.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(receiver) = changes.as_ref().map(broadcast::Sender::subscribe) else {
            return Box::pin(futures::stream::empty());
        };
        drop(changes);
        let (tenant, key) = (tenant.clone(), key.clone());
        Box::pin(futures::stream::unfold(receiver, move |mut receiver| {
            let (shared, tenant, key) = (shared.clone(), tenant.clone(), key.clone());
            async move {
                loop {
                    match receiver.recv().await {
                        Ok(((of, record), document)) => {
                            if of == tenant && record == shared.customers.canonical(&tenant, &key) {
                                return Some((document, receiver));
                            }
                        }
                        Err(broadcast::error::RecvError::Lagged(_)) => {
                            let record = (tenant.clone(), shared.customers.canonical(&tenant, &key));
                            // A document that is not in memory has not changed lately.
                            if let Ok(document) = shared.documents.get(&record) {
                                return Some((ServedDocument::of(&document), receiver));
                            }
                        }
                        Err(broadcast::error::RecvError::Closed) => return None,
                    }
                }
            }
        }))
    }

    /// Records with a document, the newest activity first.
    pub async fn records(
        &self,
        tenant: &Tenant,
        query: &RecordQuery,
    ) -> Result<Page<RecordRow>, PipelineError> {
        let after: Option<(Option<Timestamp>, RecordKey)> =
            query.cursor.as_deref().map(cursor::decode).transpose()?;
        let limit = self.page_items(query.limit);
        let filter = RecordFilter {
            label: query.label.clone(),
            module: query.module.clone(),
            search: query.search.clone(),
            after,
            limit: limit + 1,
        };
        let (shared, tenant) = (self.inner.shared.clone(), tenant.clone());
        let rows = blocking(move || Ok(shared.store.records(&tenant, &filter)?)).await?;
        Ok(page(rows, limit, |(key, document)| (document.last_activity_at, key.clone())).map(
            |(key, document)| RecordRow {
                key,
                labels: document.labels,
                interactions: document.interactions,
                net_sentiment: document.net_sentiment,
                last_activity_at: document.last_activity_at,
            },
        ))
    }

    pub(super) fn page_items(&self, wish: Option<usize>) -> usize {
        let page_items_max = self.inner.shared.options.page_items_max;
        wish.unwrap_or(PAGE_ITEMS_DEFAULT).clamp(1, page_items_max.max(1))
    }

    /// Everything a record's interactions said, newest first.
    pub async fn interactions(
        &self,
        tenant: &Tenant,
        key: &RecordKey,
        cursor: Option<&str>,
    ) -> Result<Option<Page<InteractionRow>>, PipelineError> {
        let after: Option<(Timestamp, u64)> = cursor.map(cursor::decode).transpose()?;
        let limit = self.page_items(None);
        let (shared, tenant, key) = (self.inner.shared.clone(), tenant.clone(), key.clone());
        blocking(move || {
            let members = shared.customers.with(&tenant, |i| i.members(&i.canonical(&key)));
            let rows = shared.store.history(&tenant, &members)?;
            if rows.is_empty() {
                return Ok(None);
            }
            let mut facts: Vec<Fact> = rows
                .into_iter()
                .filter_map(Fact::read)
                .filter(|fact| matches!(fact.entry.event.data, EventData::InteractionReceived(_)))
                .collect();
            let place = |fact: &Fact| (fact.entry.event.time, fact.position);
            facts.sort_by_key(|fact| std::cmp::Reverse(place(fact)));
            facts.retain(|fact| after.is_none_or(|after| place(fact) < after));
            facts.truncate(limit + 1);
            Ok(Some(page(facts, limit, place).map(|fact| row(fact, vec![]))))
        })
        .await
    }

    /// The interactions behind one number of the default view: `panel` as in the document (`keywords`, `competitors`,
    /// `sentiment`, `intent`, `labels`, ...), `item` its row (a keyword, `negative`, a label's id).
    pub async fn evidence(
        &self,
        tenant: &Tenant,
        key: &RecordKey,
        panel: &str,
        item: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Option<Page<InteractionRow>>, PipelineError> {
        let skip: usize = cursor.map(cursor::decode).transpose()?.unwrap_or(0);
        let limit = self.page_items(None);
        let (shared, tenant, key) = (self.inner.shared.clone(), tenant.clone(), key.clone());
        let (panel, item) = (panel.to_owned(), item.map(str::to_owned));
        blocking(move || {
            let view = default_view(crate::insight::view::day(shared.now()));
            let Some(found) = load(&shared, &tenant, &key)? else { return Ok(None) };
            let witnesses = shared.customers.with(&tenant, |identity| {
                let (history, settings) = (found.held.history(), found.held.settings());
                evidence::behind(&found.key, history, identity, settings, &view, &panel, item.as_deref())
            });
            let Some(witnesses) = witnesses else {
                return Err(PipelineError::Query(format!("there is no panel {panel:?} with evidence")));
            };
            let total = witnesses.len();
            let shown: Vec<_> = witnesses.into_iter().skip(skip).take(limit).collect();
            let next = skip + shown.len();
            let rows = shared.store.history(&tenant, &found.sources)?;
            let wanted: std::collections::HashMap<EventId, Vec<(u32, u32)>> =
                shown.iter().map(|w| (w.id.clone(), w.spans.clone())).collect();
            let mut facts: std::collections::HashMap<EventId, Fact> = rows
                .into_iter()
                .filter(|row| wanted.contains_key(&row.id))
                .filter_map(Fact::read)
                .map(|fact| (fact.entry.event.id.clone(), fact))
                .collect();
            let items = shown.into_iter().filter_map(|w| Some(row(facts.remove(&w.id)?, w.spans))).collect();
            Ok(Some(Page { items, next: (next < total).then(|| cursor::encode(&next)) }))
        })
        .await
    }

    /// Everything held on a record and on those that are the same customer: its log entries as JSON lines, in the order
    /// in which they came.
    pub async fn export(
        &self,
        tenant: &Tenant,
        key: &RecordKey,
    ) -> Result<Option<Vec<String>>, PipelineError> {
        let (shared, tenant, key) = (self.inner.shared.clone(), tenant.clone(), key.clone());
        blocking(move || {
            let records =
                shared.customers.with(&tenant, |identity| super::customers::same_customer(identity, &key));
            let rows = shared.store.history(&tenant, &records)?;
            let lines: Vec<String> = rows.iter().map(super::export::line).collect();
            Ok((!lines.is_empty()).then_some(lines))
        })
        .await
    }

    pub fn health(&self) -> Health {
        let shared = &self.inner.shared;
        Health {
            logged: shared.logged.load(Ordering::Acquire),
            applied: shared.applied(),
            records: shared.records.load(Ordering::Acquire),
            stalled: shared.stalled.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// The facts of the customer that a record belongs to.
struct Found {
    key: RecordKey,
    sources: Vec<RecordKey>,
    held: Held,
}

fn load(shared: &Shared, tenant: &Tenant, key: &RecordKey) -> Result<Option<Found>, PipelineError> {
    let (key, family) = shared.customers.with(tenant, |identity| {
        let canonical = identity.canonical(key);
        let family = Family::of(identity, &canonical);
        (canonical, family)
    });
    let Some(family) = family else { return Ok(None) };
    let settings = shared.settings.of(tenant);
    let held = Held::load(&*shared.store, tenant, &family, &settings, shared.applied())?;
    if !held.is_known() {
        return Ok(None);
    }
    Ok(Some(Found { key, sources: family.sources, held }))
}

/// A view that is not kept ready made. It is stamped as the stored one is, or with the moment that was asked for.
fn render(
    shared: &Shared,
    tenant: &Tenant,
    key: &RecordKey,
    view: &View,
) -> Result<Option<ServedDocument>, PipelineError> {
    let Some(found) = load(shared, tenant, key)? else { return Ok(None) };
    let made = shared.customers.with(tenant, |identity| found.held.document(&found.key, identity, view));
    let Some(mut document) = made else { return Ok(None) };
    let stored = shared.stored(&(tenant.clone(), found.key))?;
    let stamps = match view.as_of {
        Some(as_of) => Stamps { as_of: Some(as_of), lag_ms: None },
        None => stored.map(|stored| Stamps::read(&stored.bytes)).unwrap_or_default(),
    };
    stamps.put(&mut document);
    let bytes: Arc<[u8]> = document.to_bytes().into();
    Ok(Some(ServedDocument { etag: etag(&bytes), bytes, revision: document.meta.revision }))
}

fn row(fact: Fact, spans: Vec<(u32, u32)>) -> InteractionRow {
    let text = match &fact.entry.event.data {
        EventData::InteractionReceived(interaction) => interaction.customer_text(),
        _ => None,
    };
    InteractionRow { event: fact.entry.event, text, scores: fact.entry.scores, spans }
}

/// A page of up to `limit` rows out of up to `limit + 1`, with the place of its last row where there are more.
pub(super) fn page<T, P: serde::Serialize>(
    mut items: Vec<T>,
    limit: usize,
    place: impl Fn(&T) -> P,
) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| cursor::encode(&place(last)));
    Page { items, next }
}

impl<T> Page<T> {
    fn map<U>(self, into: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(into).collect(), next: self.next }
    }
}

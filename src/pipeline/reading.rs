//! Everything that readers ask of documents: one, a list of them, the stream of changes, an export, and how things are.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::{broadcast, oneshot};

use super::{
    Health, Page, Pipeline, PipelineError, RecordQuery, RecordRow, ServedDocument, Tenant, ViewQuery,
    applier::Message,
    cursor,
    fold::{Stamps, default_view, etag},
    ingest::blocking,
    shared::Shared,
    witnesses::load,
};
use crate::{
    insight::{event::RecordKey, view::View},
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
        let view = query.view(now)?;
        if query.is_default() || view == default_view(crate::insight::view::day(now)) {
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
        let mood = query.sentiment.as_deref().map(mood).transpose()?;
        let changed_since = query.updated_since.as_deref().map(moment).transpose()?;
        if query.competitor.is_some() || changed_since.is_some() {
            self.digested().await?;
        }
        let filter = RecordFilter {
            label: query.label.clone(),
            module: query.module.clone(),
            search: query.search.clone(),
            mood,
            competitor: query.competitor.clone(),
            changed_since,
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

/// The sign of the net sentiment that a name means.
fn mood(name: &str) -> Result<std::cmp::Ordering, PipelineError> {
    match name {
        "negative" => Ok(std::cmp::Ordering::Less),
        "neutral" => Ok(std::cmp::Ordering::Equal),
        "positive" => Ok(std::cmp::Ordering::Greater),
        _ => Err(PipelineError::Query(format!("sentiment {name:?} is none of negative, neutral, positive"))),
    }
}

fn moment(text: &str) -> Result<Timestamp, PipelineError> {
    text.parse().map_err(|_| {
        PipelineError::Query(format!("updated_since {text:?} is not an RFC 3339 time (2026-03-01T12:00:00Z)"))
    })
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

//! Erasing a customer: everything that the log holds on them, and their names in what outlives them.
//!
//! Called by the applier between two batches. What is left to it: the batches in flight, and the documents of others.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    Tenant,
    customers::{identity_of, same_customer},
    facts::without,
    shared::Shared,
};
use crate::{
    insight::event::{EventId, RecordKey},
    store::{Erasure, LogRow, StoreError, TenantRecord},
};

/// A wish to erase.
#[derive(Clone, Debug)]
pub struct EraseRequest {
    pub tenant: Tenant,
    pub record: RecordKey,
    /// The event that brought it, if one did.
    pub because: Option<EventId>,
}

/// What has been deleted, and what is to be done about it.
pub struct Done {
    /// Positions of the events that are gone.
    pub deleted: HashSet<u64>,
    /// Events as they read now, by position.
    pub rewritten: BTreeMap<u64, LogRow>,
    /// All records of the customer.
    pub customer: Vec<TenantRecord>,
    /// Records whose documents must be made anew.
    pub touched: BTreeSet<TenantRecord>,
    pub interactions: usize,
    pub documents_removed: usize,
    pub receipt: String,
}

/// Deletes all records that are the same customer as the one named. `None` where the event that asks for it was here
/// before.
pub fn erase(shared: &Shared, request: &EraseRequest) -> Result<Option<Done>, StoreError> {
    let EraseRequest { tenant, record, because } = request;
    let store = &*shared.store;
    let closed = shared.gate.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Also links that are logged and not yet applied.
    let before = identity_of(store, tenant)?;
    let customer = same_customer(&before, record);
    let mut rewritten = BTreeMap::new();
    for mut row in store.history(tenant, &customer)? {
        if let Some(data) = without(&row.data, &customer) {
            row.data = data;
            rewritten.insert(row.position, row);
        }
    }
    let mut documents_removed = 0;
    for member in &customer {
        documents_removed += usize::from(store.document(tenant, member)?.is_some());
    }
    let erased = store.erase(Erasure {
        tenant: tenant.clone(),
        records: customer.clone(),
        rewritten: rewritten.iter().map(|(position, row)| (*position, row.data.clone())).collect(),
        because: because.clone(),
        at: shared.now(),
    })?;
    drop(closed);
    let Some(erased) = erased else { return Ok(None) };

    let after = identity_of(store, tenant)?;
    let mut touched = BTreeSet::new();
    for member in &customer {
        touched.extend(before.dependents(member));
    }
    for other in &erased.shared {
        touched.extend(before.dependents(other));
        touched.extend(after.dependents(other));
    }
    shared.customers.replace(tenant, after);
    let deleted: HashSet<u64> = erased.events.iter().map(|(position, _)| *position).collect();
    rewritten.retain(|position, _| !deleted.contains(position));
    let of_tenant = |key: RecordKey| (tenant.clone(), key);
    Ok(Some(Done {
        interactions: erased.events.iter().filter(|(_, type_)| type_ == INTERACTION).count(),
        deleted,
        rewritten,
        customer: customer.into_iter().map(of_tenant).collect(),
        touched: touched.into_iter().map(of_tenant).collect(),
        documents_removed,
        receipt: erased.receipt,
    }))
}

/// The type of events that a receipt counts.
const INTERACTION: &str = "voc.interaction.received.v1";

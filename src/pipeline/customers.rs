//! Which records are one customer, per tenant, as the log says up to now.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use super::{Tenant, facts::Fact};
use crate::{
    insight::{
        event::{Event, RecordKey},
        identity::Identity,
    },
    store::{Store, StoreError},
};

/// The links between records, of all tenants. Written by the applier only.
pub struct Customers(RwLock<HashMap<Tenant, Identity>>);

impl Customers {
    pub fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let mut identities: HashMap<Tenant, Identity> = HashMap::new();
        for fact in store.links()?.into_iter().filter_map(Fact::read) {
            identities.entry(fact.tenant.clone()).or_default().apply(&fact.entry.event);
        }
        Ok(Self(RwLock::new(identities)))
    }

    pub fn with<T>(&self, tenant: &Tenant, read: impl FnOnce(&Identity) -> T) -> T {
        let identities = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match identities.get(tenant) {
            Some(identity) => read(identity),
            None => read(&Identity::new()),
        }
    }

    pub fn apply(&self, tenant: &Tenant, event: &Event) {
        let mut identities = self.0.write().unwrap_or_else(PoisonError::into_inner);
        identities.entry(tenant.clone()).or_default().apply(event);
    }

    pub fn replace(&self, tenant: &Tenant, identity: Identity) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), identity);
    }

    pub fn canonical(&self, tenant: &Tenant, key: &RecordKey) -> RecordKey {
        self.with(tenant, |identity| identity.canonical(key))
    }
}

/// The links of one tenant as the whole log has them, applied or not.
pub fn identity_of(store: &dyn Store, tenant: &Tenant) -> Result<Identity, StoreError> {
    let mut identity = Identity::new();
    for fact in store.links()?.into_iter().filter(|row| row.tenant == *tenant).filter_map(Fact::read) {
        identity.apply(&fact.entry.event);
    }
    Ok(identity)
}

/// The records that are the same customer as `key`. A deal's contacts are not: they only tell of it.
pub fn same_customer(identity: &Identity, key: &RecordKey) -> Vec<RecordKey> {
    let canonical = identity.canonical(key);
    let mut same = identity.members(&canonical);
    same.retain(|member| identity.canonical(member) == canonical);
    same
}

//! Other models: how a replay opens one, and which tenants have been switched to their own.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use futures::future::BoxFuture;

use super::super::{
    Tenant,
    scoring::{Scored, Scorer, ScorerError},
    shared::Shared,
};

/// Opens a model pack; blocks while it loads. The error says what to do.
pub trait OpenModel: Send + Sync + 'static {
    fn open(&self, path: &Path) -> Result<Arc<dyn Scorer>, String>;
}

impl<F: Fn(&Path) -> Result<Arc<dyn Scorer>, String> + Send + Sync + 'static> OpenModel for F {
    fn open(&self, path: &Path) -> Result<Arc<dyn Scorer>, String> {
        self(path)
    }
}

/// For a pipeline that has only its one model.
pub fn no_other_models(_: &Path) -> Result<Arc<dyn Scorer>, String> {
    Err("this server opens no other models".into())
}

/// The models of tenants that have been switched to another one.
#[derive(Default)]
pub struct Scorers(RwLock<HashMap<Tenant, Arc<dyn Scorer>>>);

impl Scorers {
    pub fn of(&self, tenant: &Tenant) -> Option<Arc<dyn Scorer>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    pub fn set(&self, tenant: &Tenant, scorer: Arc<dyn Scorer>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), scorer);
    }
}

/// A model that cannot be opened: it never answers, and says why, so that no text is scored by another one unseen.
struct Closed(String);

impl Scorer for Closed {
    fn score(&self, _: Vec<String>) -> BoxFuture<'static, Result<Scored, ScorerError>> {
        let reason = self.0.clone();
        Box::pin(async move { Err(ScorerError { reason, retry_after: None, too_much: false }) })
    }
}

/// The model that a tenant was switched to by replay `id`.
pub fn open_or_stall(shared: &Shared, id: u64, path: &str) -> Arc<dyn Scorer> {
    shared.options.open_model.open(Path::new(path)).unwrap_or_else(|why| {
        let reason = format!(
            "the model of replay {id} in {path} cannot be opened: {why}; bring the folder back and restart the server"
        );
        tracing::error!(reason, "texts wait");
        Arc::new(Closed(reason))
    })
}

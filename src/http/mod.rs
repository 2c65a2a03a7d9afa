//! The public HTTP API: one file per family of routes, problems, limits and the OpenAPI document.
//!
//! JSON shapes live here and nowhere else (the insight document has its own, in `insight`). No logic: a handler reads a
//! request, calls [`Engine`] or [`Pipeline`] and writes what they say.

use std::{future::Future, sync::Arc};

use axum::Router;
use tokio::sync::{Mutex, watch};

use crate::{config::Config, engine::Engine, pipeline::Pipeline};

pub mod auth;
pub mod extract;
pub mod problem;

pub mod docs;
pub mod health;

pub mod layers;
pub mod metrics;
pub mod server;

/// What every handler can reach; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub engine: Engine,
    pub pipeline: Pipeline,
    pub config: Arc<Config>,
    keys: Arc<auth::Keys>,
    closing: Arc<watch::Sender<bool>>,
    /// Held from the comparison of an `If-Match` to the write that it allows.
    settings_write: Arc<Mutex<()>>,
}

impl AppState {
    pub fn new(engine: Engine, pipeline: Pipeline, config: Arc<Config>) -> AppState {
        let keys = Arc::new(auth::Keys::new(&config.keys));
        AppState {
            engine,
            pipeline,
            config,
            keys,
            closing: Arc::new(watch::Sender::new(false)),
            settings_write: Arc::default(),
        }
    }

    /// Ends the answers that would never end by themselves.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Resolves when [`AppState::close`] was called.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut closing = self.closing.subscribe();
        async move {
            // An error means that the state is gone, which is closed as well.
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }
}

/// Every route of the server.
pub fn router(state: AppState) -> Router {
    metrics::install();
    let timed = Router::new().merge(health::routes()).merge(docs::routes());
    let routes = layers::in_time(timed, &state)
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed);
    layers::around(routes).with_state(state)
}

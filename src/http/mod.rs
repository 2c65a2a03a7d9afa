//! The public HTTP API: one file per family of routes, problems, limits and the OpenAPI document.
//!
//! JSON shapes live here and nowhere else (the insight document has its own, in `insight`). No logic: a handler reads a
//! request, calls [`Engine`] or [`Pipeline`] and writes what they say.

use std::{future::Future, sync::Arc};

use axum::{Router, extract::FromRef};
use tokio::sync::{Mutex, watch};

use crate::{config::Config, engine::Engine, pages, pipeline::Pipeline};

pub mod auth;
pub mod extract;
pub mod problem;

pub mod score;
pub mod scored;
pub mod zero_shot;

pub mod cloudevent;
pub mod events;

pub mod interactions;
pub mod records;
pub mod stream;

pub mod replays;
pub mod segments;
pub mod table;

pub mod settings;

pub mod actions;
pub mod webhooks;

pub mod compat;
pub mod info;
pub mod models;

pub mod docs;
pub mod health;
pub mod openapi;

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
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.closing.subscribe();
        async move {
            // An error means that the state is gone, which is closed as well.
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }
}

impl FromRef<AppState> for Pipeline {
    fn from_ref(state: &AppState) -> Pipeline {
        state.pipeline.clone()
    }
}

/// Every route of the server.
pub fn router(state: AppState) -> Router {
    metrics::install();
    let timed = Router::new()
        .merge(score::routes())
        .merge(records::routes())
        .merge(interactions::routes())
        .merge(stream::routes())
        .merge(segments::routes())
        .merge(replays::routes())
        .merge(settings::routes())
        .merge(actions::routes())
        .merge(webhooks::routes())
        .merge(zero_shot::routes())
        .merge(compat::tei::routes())
        .merge(compat::hugging_face::routes())
        .merge(compat::vllm::routes())
        .merge(compat::oip::routes())
        .merge(info::routes())
        .merge(models::routes())
        .merge(health::routes())
        .merge(openapi::routes())
        .merge(docs::routes())
        .merge(pages::router::<AppState, auth::Caller<auth::scope::InsightsRead>>());
    // `POST /v1/events?wait=applied` takes as long as the events need; only the reading of its body is timed. So it is with a model that loads.
    let routes = layers::in_time(timed, &state)
        .merge(events::routes())
        .merge(compat::oip::slow_routes())
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed);
    layers::around(routes).with_state(state)
}

//! The listening server: it answers from the first moment, opens its routes when they are ready, and closes in order.

use std::{future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::{
    AppState, layers,
    problem::{self, Problem},
};

/// How long open connections may take to finish once the server closes.
const DRAIN_S_MAX: u64 = 30;

/// What requests go through: the waiting room first, the real routes once they are there.
#[derive(Clone)]
pub struct Door(Arc<ArcSwap<Router>>);

impl Default for Door {
    fn default() -> Self {
        Door(Arc::new(ArcSwap::from_pointee(waiting_room())))
    }
}

impl Door {
    /// From now on requests reach `routes`.
    pub fn open(&self, routes: Router) {
        self.0.store(Arc::new(routes));
    }
}

/// Alive, and nothing else yet.
fn waiting_room() -> Router {
    let loading = || async {
        Problem::new(problem::LOADING, "the server is loading its models and reading its store")
            .with_retry_after(Duration::from_secs(2))
    };
    let routes = Router::new().route("/health/live", get(|| async { StatusCode::OK })).fallback(loading);
    layers::around(routes)
}

async fn pass(State(door): State<Door>, request: Request) -> Response {
    let routes = Router::clone(&door.0.load());
    match routes.oneshot(request).await {
        Ok(response) => response.into_response(),
        Err(never) => match never {},
    }
}

/// Serves until `stop` resolves, then lets what is in flight finish.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (closing, closed) = tokio::sync::oneshot::channel::<()>();
    let listener = listener.tap_io(|stream| {
        // Small answers must not wait for an acknowledgement; where that cannot be set they are only slower.
        let _ = stream.set_nodelay(true);
    });
    let routes = Router::new().fallback(pass).with_state(door);
    let serving = axum::serve(listener, routes).with_graceful_shutdown(async move {
        stop.await;
        let _ = closing.send(());
    });
    let overdue = async move {
        let _ = closed.await;
        tokio::time::sleep(Duration::from_secs(DRAIN_S_MAX)).await;
    };
    tokio::select! {
        served = serving.into_future() => served,
        () = overdue => {
            tracing::warn!(seconds = DRAIN_S_MAX, "connections are still open; closing them");
            Ok(())
        }
    }
}

/// Finishes what was admitted, once no request comes in any more.
pub async fn shut_down(state: &AppState) {
    state.pipeline.shutdown().await;
    state.engine.shutdown().await;
}

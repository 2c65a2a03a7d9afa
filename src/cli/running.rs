//! Starting and stopping a server process: bind, load behind closed doors, open, and on a signal close in order.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context;
use tokio::net::TcpListener;

use crate::{
    config::Config,
    engine::{Engine, EngineOptions, hub::HubOptions},
    http::{
        AppState, metrics, router,
        server::{Door, serve, shut_down},
    },
    pipeline::{Pipeline, PipelineOptions, Scorer},
    store,
};

use super::stores;

/// Serves until SIGTERM or SIGINT. `ready` is called once the routes are open.
pub fn run(
    config: Config,
    ready: impl FnOnce(&AppState, SocketAddr) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new().context("cannot start the async runtime")?.block_on(async move {
        let listener = bind(&config).await?;
        let address = listener.local_addr()?;
        println!("hearken listens on http://{address}");
        let door = Door::default();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let serving = tokio::spawn(serve(listener, door.clone(), until_set(stopped.clone())));

        let signal = stop_signal()?;
        tokio::pin!(signal);
        let opening = tokio::task::spawn_blocking(move || open(Arc::new(config)));
        let (state, _lock) = tokio::select! {
            opened = opening => opened.context("loading was interrupted")??,
            () = &mut signal => return Ok(ExitCode::SUCCESS),
        };
        door.open(router(state.clone()));
        tracing::info!(%address, "ready");
        let announced = state.clone();
        tokio::task::spawn_blocking(move || ready(&announced, address))
            .await
            .context("the start was interrupted")??;

        signal.await;
        tracing::info!("shutting down: finishing what is in flight");
        state.close();
        stop.send_replace(true);
        serving.await.context("the server stopped unexpectedly")??;
        shut_down(&state).await;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

async fn bind(config: &Config) -> anyhow::Result<TcpListener> {
    TcpListener::bind(config.listen).await.with_context(|| {
        let (ip, port) = (config.listen.ip(), config.listen.port());
        format!(
            "cannot listen on {ip}:{port}; if another program uses the port, stop it or choose another one, for example \
             --listen {ip}:{}",
            port.wrapping_add(1).max(1024)
        )
    })
}

/// Loads the models, opens the store and starts the pipeline. Blocks; must be called inside a tokio runtime.
fn open(config: Arc<Config>) -> anyhow::Result<(AppState, stores::Lock)> {
    metrics::install();
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot make the data folder {}", config.data_dir.display()))?;
    let lock = stores::lock(&config.store)?;
    let store = store::open(&config.store)?;
    let engine = Engine::open(&engine_options(&config)).context("cannot load the models")?;
    let options = PipelineOptions {
        open_model: Arc::new(other_model(engine_options(&config))),
        ..config.pipeline_options()
    };
    let pipeline = Pipeline::start(store, engine.clone(), options)?;
    Ok((AppState::new(engine, pipeline, config), lock))
}

/// What the engine needs of the configuration.
pub fn engine_options(config: &Config) -> EngineOptions {
    EngineOptions {
        pack: config.models.clone(),
        device: config.device.clone(),
        precision: config.precision.clone(),
        threads: config.threads,
        batch_tokens_max: config.limits.batch_tokens_max,
        queue_tokens_max: config.limits.queue_tokens_max,
        hub: hub_options(config.offline),
    }
}

/// Opens the other models of replays, on half of the threads, so that what is served keeps the rest.
pub fn other_model(
    options: EngineOptions,
) -> impl Fn(&std::path::Path) -> Result<Arc<dyn Scorer>, String> + Send + Sync + 'static {
    move |path| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if options.threads == 0 { cores } else { options.threads };
        let options =
            EngineOptions { pack: Some(path.to_owned()), threads: threads.div_ceil(2), ..options.clone() };
        let engine = Engine::open(&options).map_err(|error| error.to_string())?;
        Ok(Arc::new(engine) as Arc<dyn Scorer>)
    }
}

/// What the environment says about the hub; `offline` holds whatever it says.
pub fn hub_options(offline: bool) -> HubOptions {
    let said = HubOptions::default();
    HubOptions { offline: offline || said.offline, ..said }
}

async fn until_set(mut flag: tokio::sync::watch::Receiver<bool>) {
    // An error means that nobody can set it any more: time to stop as well.
    let _ = flag.wait_for(|set| *set).await;
}

/// Resolves on SIGTERM or SIGINT (Ctrl-C).
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async {
            let _ = tokio::signal::ctrl_c().await;
        })
    }
}

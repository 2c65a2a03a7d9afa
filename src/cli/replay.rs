//! `hearken replay`: history under another model or other settings, compared and perhaps switched to, on a store that no
//! server runs. On a running server the same is `POST /v1/replays`.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::running;
use crate::{
    config::options::Options,
    engine::Engine,
    pipeline::{Pipeline, PipelineOptions, Replay, ReplayRequest, ReplayState, Tenant},
    scores::{Intent, Label, Sentiment},
    store,
};

use super::stores;

/// See what another model or other settings would make of the history, and switch to it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// TOML file with settings, as for `hearken serve`
    #[arg(long, env = "HEARKEN_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    options: Options,

    /// Folder of the model pack to score the history with
    #[arg(long, value_name = "DIR")]
    with_model: Option<PathBuf>,

    /// JSON file with settings documents by name, as POST /v1/replays takes them
    #[arg(long, value_name = "FILE")]
    with_settings: Option<PathBuf>,

    /// Whose history
    #[arg(long, default_value = "default")]
    tenant: String,

    /// Serve the result from now on; without it nothing is changed
    #[arg(long)]
    switch: bool,

    /// Print the records that change as JSON lines
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str =
    "The store must not be run by a server meanwhile; on a running one use POST /v1/replays.

Examples:
  hearken replay --data-dir /srv/hearken --with-model /srv/models/next
  hearken replay --data-dir /srv/hearken --with-settings rules.json --switch";

/// How often progress is looked at.
const LOOK_MS: u64 = 200;
/// Records of the difference that are read at once.
const PAGE_RECORDS: usize = 200;

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    super::logs::start("text", "warn");
    if arguments.with_model.is_none() && arguments.with_settings.is_none() {
        bail!("nothing to replay with: give --with-model DIR, --with-settings FILE, or both");
    }
    let settings = match &arguments.with_settings {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))?
        }
        None => Default::default(),
    };
    let model = match &arguments.with_model {
        Some(path) => {
            let whole = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
            Some(whole.display().to_string())
        }
        None => None,
    };
    let request = ReplayRequest { model, settings };
    let file = arguments.config.as_deref().map(Options::read).transpose()?.unwrap_or_default();
    // Nothing listens here.
    let said = Options { insecure_open: Some(true), ..arguments.options };
    let config = said.over(file).resolve()?;
    stores::existing(&config.store)?;
    let _lock = stores::lock(&config.store)?;
    let tenant = Tenant(arguments.tenant.as_str().into());
    tokio::runtime::Runtime::new().context("cannot start the async runtime")?.block_on(async {
        let store = store::open(&config.store)?;
        let engine_options = running::engine_options(&config);
        let engine = Engine::open(&engine_options).context("cannot load the models")?;
        let options = PipelineOptions {
            open_model: Arc::new(running::other_model(engine_options)),
            ..PipelineOptions::default()
        };
        let pipeline = Pipeline::start(store, engine, options)?;
        let done = replay(&pipeline, &tenant, request, arguments.switch, arguments.json).await;
        pipeline.shutdown().await;
        done
    })
}

async fn replay(
    pipeline: &Pipeline,
    tenant: &Tenant,
    request: ReplayRequest,
    switch: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let begun = pipeline.start_replay(tenant, request).await?;
    let bar = ProgressBar::new(begun.applied).with_style(
        ProgressStyle::with_template("{msg:10} [{bar:40}] {pos}/{len} events {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let found = loop {
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        let Some(found) = pipeline.replay(tenant, begun.id).await? else { bail!("the replay has gone") };
        bar.set_message(found.state.name());
        bar.set_length(found.applied);
        bar.set_position(found.scored_to);
        match found.state {
            ReplayState::Scoring | ReplayState::Comparing => {}
            ReplayState::Ready => break found,
            _ => bail!("the replay {}: {}", found.state.name(), found.body.error.unwrap_or_default()),
        }
    };
    bar.finish_and_clear();
    differences(pipeline, tenant, &found, json).await?;
    if switch {
        pipeline.switch_replay(tenant, begun.id).await?;
        eprintln!("switched: this is served from now on");
    } else {
        pipeline.cancel_replay(tenant, begun.id).await?;
        eprintln!("nothing was changed; --switch serves it");
    }
    Ok(ExitCode::SUCCESS)
}

async fn differences(pipeline: &Pipeline, tenant: &Tenant, found: &Replay, json: bool) -> anyhow::Result<()> {
    let (events, records) = (&found.body.events, &found.body.records);
    if !json {
        println!("texts scored      {:>8}", events.scored);
        println!("sentiment changed {:>8}", events.sentiment_changed);
        table::<Sentiment>(&events.sentiment.0);
        println!("intent changed    {:>8}", events.intent_changed);
        table::<Intent>(&events.intent.0);
        println!("records compared  {:>8}", records.compared);
        println!("  counts changed  {:>8}", records.counts_changed);
        println!("  labels changed  {:>8}", records.labels_changed);
        for (label, change) in &records.labels {
            println!("    {label}: {} gain it, {} lose it", change.gained, change.lost);
        }
    }
    let mut cursor = None;
    loop {
        let page = pipeline
            .replay_differences(tenant, found.id, true, cursor.as_deref(), Some(PAGE_RECORDS))
            .await?
            .context("the replay has gone")?;
        for item in page.items {
            if json {
                println!("{}", serde_json::to_string(&item)?);
            } else {
                let (before, after) = (item.labels_before.join(" "), item.labels_after.join(" "));
                println!("{}/{}: [{before}] -> [{after}]", item.record.module, item.record.id);
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// Old labels down, new ones across.
fn table<L: Label>(counts: &[Vec<u64>]) {
    if counts.is_empty() {
        return;
    }
    let head: String = L::ALL.iter().map(|l| format!("{:>10}", l.name())).collect();
    println!("  {:10}{head}", "old \\ new");
    for (label, row) in L::ALL.iter().zip(counts) {
        let cells: String = row.iter().map(|n| format!("{n:>10}")).collect();
        println!("  {:10}{cells}", label.name());
    }
}

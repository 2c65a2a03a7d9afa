//! `hearken demo`: a server with the bundled history, for a first look.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use jiff::Timestamp;

use super::running;
use crate::{config::options::Options, demo, http::AppState, pipeline::Tenant};

/// Serve a bundled multilingual history, to try things out
#[derive(Args)]
#[command(after_help = "Examples:
  hearken demo
  hearken demo --listen 127.0.0.1:9000
  hearken demo --data-dir ./demo          keeps what you add, from one start to the next")]
pub struct Arguments {
    #[command(flatten)]
    options: Options,
}

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut options = arguments.options;
    let scratch = match options.data_dir {
        Some(_) => None,
        None => {
            let folder = std::env::temp_dir().join(format!("hearken-demo-{}", std::process::id()));
            options.data_dir = Some(folder.clone());
            Some(Scratch(folder))
        }
    };
    let config = options.resolve()?;
    super::logs::start(&config.log_format, "warn");
    let done = running::run(config, |state, address| {
        tokio::runtime::Handle::current().block_on(load(state))?;
        print!("{}", what_to_try(&format!("http://{address}")));
        Ok(())
    });
    drop(scratch);
    done
}

/// A folder that goes when the demo ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies in the folder for temporary files: what stays is cleared away by the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Puts the history into a store that has none.
async fn load(state: &AppState) -> anyhow::Result<()> {
    if state.pipeline.health().logged > 0 {
        return Ok(());
    }
    let tenant = Tenant::default();
    eprintln!("scoring the bundled history ...");
    state.pipeline.put_setting(&tenant, "competitors", &demo::competitors()).await?;
    state.pipeline.ingest(&tenant, demo::events(Timestamp::now()), true).await?;
    Ok(())
}

fn what_to_try(base: &str) -> String {
    let featured = demo::featured();
    let record = format!("{}/{}", featured.module, featured.id);
    format!(
        "
Open in a browser:
  {base}/                        all records
  {base}/records/{record}    one record's insights
  {base}/docs                    the API

Try:
  curl -s {base}/v1/score -H 'Content-Type: application/json' \\
    -d '{{\"inputs\": [\"La connexion coupe toutes les dix minutes.\", \"我想订购两台路由器。\", \"شكرا جزيلا على المساعدة\"]}}'
  curl -s {base}/v1/records/{record}/insights
  curl -s '{base}/v1/events?wait=applied' -H 'Content-Type: application/cloudevents+json' \\
    -d '{{\"specversion\": \"1.0\", \"id\": \"try-1\", \"source\": \"curl\", \"type\": \"voc.interaction.received.v1\", \"data\": {{\"record\": {{\"module\": \"{module}\", \"id\": \"{id}\"}}, \"channel\": \"email\", \"text\": \"The outage again! I am moving to Airo.\"}}}}'

Stop with Ctrl-C.
",
        module = featured.module,
        id = featured.id,
    )
}

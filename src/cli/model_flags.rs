//! Flags of the commands that run a model without a server.

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::{Limits, options::Options},
    engine::EngineOptions,
};

/// On what a model runs.
#[derive(Args)]
pub struct RunFlags {
    /// Device: auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, env = "HEARKEN_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,

    /// Precision: auto, f32, bf16, int8 or f16 [default: auto]
    #[arg(long, env = "HEARKEN_PRECISION", value_name = "PRECISION")]
    pub precision: Option<String>,

    /// Threads of a forward pass; 0 means one per core [default: 0]
    #[arg(long, env = "HEARKEN_THREADS", value_name = "N")]
    pub threads: Option<usize>,
}

/// Which model pack, and on what it runs.
#[derive(Args)]
pub struct ModelFlags {
    /// Folder of the model pack [default: the one that ships with hearken]
    #[arg(long, env = "HEARKEN_MODELS", value_name = "DIR")]
    pub models: Option<PathBuf>,

    #[command(flatten)]
    pub run: RunFlags,
}

impl ModelFlags {
    /// What the engine is opened with, and the limits that hold.
    pub fn options(self) -> anyhow::Result<(EngineOptions, Limits)> {
        let RunFlags { device, precision, threads } = self.run;
        let said = Options { models: self.models, device, precision, threads, ..Options::default() };
        let config = said.resolve()?;
        Ok((super::running::engine_options(&config), config.limits))
    }
}

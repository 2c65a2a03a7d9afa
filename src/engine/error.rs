//! Why a model cannot be loaded. Errors of a running engine are in the facade, [`EngineError`](super::EngineError).

use std::path::PathBuf;

/// A model or pack that cannot be served. The text names the file, tensor or label at fault.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("no model pack found; looked in {}", places(.looked_in))]
    PackNotFound { looked_in: Vec<PathBuf> },
    #[error("{}: {reason}", .path.display())]
    File { path: PathBuf, reason: String },
    #[error("config.json: {0}")]
    Config(String),
    #[error("model type {found:?} is not supported; supported: {}", .known.join(", "))]
    UnknownFamily { found: String, known: Vec<&'static str> },
    #[error("tensor {name}: {reason}")]
    Tensor { name: String, reason: String },
    #[error("head {head}: {reason}")]
    Head { head: String, reason: String },
    #[error("tokenizer.json: {0}")]
    Tokenizer(String),
    #[error("{0}")]
    Executor(String),
    #[error(transparent)]
    Hub(#[from] super::hub::HubError),
}

fn places(looked_in: &[PathBuf]) -> String {
    looked_in.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

impl ModelError {
    pub(crate) fn file(path: &std::path::Path, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn tensor(name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { name: name.into(), reason: reason.into() }
    }

    pub(crate) fn head(name: &str, reason: impl Into<String>) -> Self {
        Self::Head { head: name.into(), reason: reason.into() }
    }
}

//! Where a model comes from, and what is asked of it there: a folder or a repository, and what its labels mean.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// A folder on this machine, or a repository of the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    Path(PathBuf),
    Repo {
        repo: String,
        /// A commit, branch or tag; the hub's `main` where absent.
        revision: Option<String>,
    },
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelSource::Path(path) => path.display().fmt(f),
            ModelSource::Repo { repo, revision: None } => f.write_str(repo),
            ModelSource::Repo { repo, revision: Some(revision) } => write!(f, "{repo}@{revision}"),
        }
    }
}

/// From a model's own labels to those that are wanted; labels that are not named keep their names.
pub type LabelMap = BTreeMap<String, String>;

/// What a slot is to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRequest {
    pub source: ModelSource,
    #[serde(default)]
    pub labels: LabelMap,
}

impl ModelRequest {
    pub fn path(dir: impl Into<PathBuf>) -> Self {
        Self { source: ModelSource::Path(dir.into()), labels: LabelMap::new() }
    }
}

/// Most characters of a slot's name.
pub const SLOT_CHARACTERS_MAX: usize = 64;

/// Whether a slot may have this name: it becomes part of a path, so letters, digits, `-`, `_` and `.` only.
pub fn is_slot_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && name.len() <= SLOT_CHARACTERS_MAX
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_names_that_fit_a_path() {
        for good in ["sentiment", "zero-shot", "ner_2", "A.1"] {
            assert!(is_slot_name(good), "{good}");
        }
        for bad in ["", "-x", "a/b", "a b", "é", ".", &"a".repeat(65)] {
            assert!(!is_slot_name(bad), "{bad}");
        }
    }
}

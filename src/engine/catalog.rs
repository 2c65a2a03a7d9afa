//! The catalogue, `models/catalog.toml`: models of the hub that are known to fit a slot, and what labels usually mean.
//!
//! It is part of the program, so that a server without its `models/` folder knows the same.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::{Deserialize, Serialize};

use super::source::LabelMap;

const TEXT: &str = include_str!("../../models/catalog.toml");

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// By slot, then by our label: what models call it, in lower case.
    labels: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    #[serde(default, rename = "model")]
    pub models: Vec<Entry>,
}

/// A model of the hub that is recommended for a slot.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub slot: String,
    pub repo: String,
    /// The commit that is fetched.
    pub revision: String,
    pub languages: Vec<String>,
    pub family: String,
    /// Millions of parameters.
    pub parameters_m: u32,
    pub licence: String,
    #[serde(default)]
    pub labels: LabelMap,
    #[serde(default)]
    pub note: String,
}

/// The catalogue of this build.
pub fn catalog() -> &'static Catalog {
    // A test reads the file as it is committed, so it is whole; an empty one would still serve.
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| toml::from_str(TEXT).unwrap_or_default());
    &CATALOG
}

/// What a label means in a slot, where its name says so.
pub fn meaning(slot: &str, label: &str) -> Option<&'static str> {
    let label = label.trim().to_lowercase();
    let known = catalog().labels.get(slot)?;
    known.iter().find(|(_, names)| names.contains(&label)).map(|(ours, _)| ours.as_str())
}

/// The entry of a repository in a slot.
pub fn entry(slot: &str, repo: &str) -> Option<&'static Entry> {
    catalog().models.iter().find(|e| e.slot == slot && e.repo == repo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::{Intent, Label, Sentiment};

    #[test]
    fn the_committed_catalogue_is_whole() {
        let catalog: Catalog = toml::from_str(TEXT).unwrap();
        for (slot, labels) in &catalog.labels {
            let ours: Vec<&str> = match slot.as_str() {
                "sentiment" => Sentiment::ALL.iter().map(|l| l.name()).collect(),
                "intent" => Intent::ALL.iter().map(|l| l.name()).collect(),
                other => panic!("labels of an unknown slot {other}"),
            };
            let mut names: Vec<&String> = labels.values().flatten().collect();
            assert!(labels.keys().all(|l| ours.contains(&l.as_str())), "{labels:?}");
            assert!(names.iter().all(|n| **n == n.to_lowercase()), "{names:?}");
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all, "a name of {slot} means two things");
        }
        for entry in &catalog.models {
            assert!(entry.revision.chars().all(|c| c.is_ascii_hexdigit()) && entry.revision.len() >= 7);
            assert!(entry.repo.split('/').count() <= 2 && !entry.languages.is_empty());
        }
    }
}

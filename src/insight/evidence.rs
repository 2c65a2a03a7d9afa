//! The interactions behind one number of a document, all of them, with the spans that count.

use super::event::{EventId, RecordKey};
use super::history::History;
use super::identity::Identity;
use super::settings::Settings;
use super::view::View;

/// An event behind a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    pub id: EventId,
    /// Where in the customer's text, in Unicode scalar values; empty where the whole text speaks.
    pub spans: Vec<(u32, u32)>,
}

/// Everything behind `panel` (a top-level key of the document, or `labels`) and its `item` (a keyword, competitor,
/// `negative`, an intent, a channel, a label's id, a deal's id, a metric), newest first. Without `item` all of the
/// panel's interactions. `None` for a panel that does not exist.
pub fn behind(
    _key: &RecordKey,
    _history: &History,
    _identity: &Identity,
    _settings: &Settings,
    _view: &View,
    _panel: &str,
    _item: Option<&str>,
) -> Option<Vec<Witness>> {
    None
}

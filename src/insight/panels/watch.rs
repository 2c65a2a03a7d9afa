//! Watched phrases that the customer used (C14, C15).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    event::{EventData, EventId},
    reading::Reading,
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Watch {
    pub hits: Vec<WatchHit>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WatchHit {
    /// The watchlist's name and kind.
    pub name: String,
    pub kind: String,
    pub phrase: String,
    /// Occurrences.
    pub count: u64,
    /// Conversations in which it was said.
    pub reach: u64,
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Counts of one watched phrase.
#[derive(Default)]
struct Hits<'a> {
    count: u64,
    conversations: BTreeSet<&'a str>,
    last_at: Timestamp,
    ids: Vec<&'a EventId>,
}

impl Watch {
    /// Most recent first; scored or not, in all that the customer said in the window.
    pub fn of(reading: &Reading) -> Self {
        let mut phrases: BTreeMap<(usize, usize), Hits> = BTreeMap::new();
        for fact in reading.shown_facts() {
            let EventData::InteractionReceived(interaction) = &fact.event.data else { continue };
            for watched in fact.digest.iter().flat_map(|d| &d.watched) {
                let hits = phrases.entry((watched.list, watched.phrase)).or_default();
                hits.count += 1;
                hits.last_at = fact.event.time;
                // Without a thread an interaction is its own conversation.
                hits.conversations.insert(interaction.thread_id.as_deref().unwrap_or(&fact.event.id.id));
                hits.ids.push(&fact.event.id);
            }
        }
        let mut hits: Vec<WatchHit> = phrases
            .into_iter()
            .filter_map(|((list, phrase), hits)| {
                let list = reading.settings.watchlists.get(list)?;
                let (evidence, evidence_total) = reading.evidence(hits.ids.into_iter());
                Some(WatchHit {
                    name: list.name.clone(),
                    kind: list.kind.clone(),
                    phrase: list.phrases.get(phrase)?.clone(),
                    count: hits.count,
                    reach: hits.conversations.len() as u64,
                    last_at: hits.last_at,
                    evidence,
                    evidence_total,
                })
            })
            .collect();
        // Stable: equals stay in the order of the settings.
        hits.sort_by_key(|h| std::cmp::Reverse(h.last_at));
        Self { hits }
    }
}

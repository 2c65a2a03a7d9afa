//! What an event is to the store and to the documents: whose it is, what it takes back, and how it is read again.

use jiff::Timestamp;

use super::{
    IncomingEvent, Tenant,
    scoring::{StoredScores, text_to_score},
};
use crate::{
    insight::{
        event::{Event, EventData, RecordKey},
        history::Entry,
    },
    store::{LogRow, Membership, NewEvent},
};

/// The form in which the store takes an event.
pub fn new_event(tenant: &Tenant, incoming: IncomingEvent, received_at: Timestamp) -> NewEvent {
    let IncomingEvent { event, type_, data } = incoming;
    NewEvent {
        tenant: tenant.clone(),
        revision: event.data.revision(),
        type_,
        time: event.time,
        received_at,
        data,
        records: memberships(&event.data),
        retracts: match &event.data {
            EventData::InteractionRetracted(retraction) => Some(retraction.interaction.clone()),
            _ => None,
        },
        link: ties_records(&event.data),
        id: event.id,
    }
}

/// Whether an event says which records are one customer.
pub fn ties_records(data: &EventData) -> bool {
    matches!(
        data,
        EventData::RecordConverted(_)
            | EventData::RecordMerged(_)
            | EventData::RecordUnmerged(_)
            | EventData::DealStageChanged(_)
    )
}

/// An event falls with the record that it is about. It outlives the others that it only names (the contacts of a deal,
/// what a lead became, an interaction's related records): there the name is taken out, see [`without`]. A merge is
/// about both of its sides.
fn memberships(data: &EventData) -> Vec<Membership> {
    let both = matches!(data, EventData::RecordMerged(_) | EventData::RecordUnmerged(_));
    let of = |(i, record)| Membership { record, owned: both || i == 0 };
    data.records().into_iter().enumerate().map(of).collect()
}

/// The `data` of an event without the records that are erased; `None` where it does not name them in a list.
pub fn without(data: &str, erased: &[RecordKey]) -> Option<String> {
    let mut json: serde_json::Value = serde_json::from_str(data).ok()?;
    let mut changed = false;
    for list in ["contacts", "to", "related"] {
        let Some(serde_json::Value::Array(keys)) = json.get_mut(list) else { continue };
        let before = keys.len();
        keys.retain(|key| {
            let part = |name: &str| key.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
            !erased.iter().any(|e| e.module == part("module") && e.id == part("id"))
        });
        changed |= keys.len() < before;
    }
    changed.then(|| json.to_string())
}

/// An event of the log as the documents read it.
#[derive(Clone, Debug)]
pub struct Fact {
    pub position: u64,
    pub tenant: Tenant,
    /// The records that it belongs to.
    pub records: Vec<RecordKey>,
    pub entry: Entry,
    /// Whether nothing is left to score: it has been, with or without success, or has no text of the customer.
    pub scored: bool,
}

impl Fact {
    /// Reads a row of the log. A row that cannot be read is an error in the log and no part of any document: it was
    /// checked when it came, so only a damaged file or a newer hearken gives such rows.
    pub fn read(row: LogRow) -> Option<Fact> {
        match Self::parse(row) {
            Ok(fact) => Some(fact),
            Err((position, why)) => {
                tracing::error!(position, why, "an event of the log cannot be read and is left out");
                None
            }
        }
    }

    fn parse(row: LogRow) -> Result<Fact, (u64, String)> {
        let position = row.position;
        let data = EventData::parse(&row.type_, &row.data).map_err(|e| (position, e.to_string()))?;
        let stored =
            row.scores.as_deref().map(StoredScores::read).transpose().map_err(|why| (position, why))?;
        let has_text = || match &data {
            EventData::InteractionReceived(interaction) => text_to_score(interaction).is_some(),
            _ => false,
        };
        let scored = stored.is_some() || !has_text();
        let (scores, models) = stored.map(|s| (s.scores, s.models)).unwrap_or_default();
        let event = Event { id: row.id, time: row.time, data };
        Ok(Fact {
            position,
            tenant: row.tenant,
            records: event.data.records(),
            entry: Entry { event, received_at: row.received_at, scores, models },
            scored,
        })
    }

    pub fn names_any(&self, records: &[RecordKey]) -> bool {
        self.records.iter().any(|r| records.contains(r))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(module: &str, id: &str) -> RecordKey {
        RecordKey { module: module.into(), id: id.into() }
    }

    #[test]
    fn a_stage_change_outlives_its_contacts_and_a_merge_neither_side() {
        let stage =
            r#"{"record":{"module":"deal","id":"D"},"contacts":[{"module":"contact","id":"C"}],"to":"won"}"#;
        let data = EventData::parse("voc.deal.stage_changed.v1", stage).unwrap();
        let owned: Vec<bool> = memberships(&data).iter().map(|m| m.owned).collect();
        assert_eq!(owned, [true, false]);
        let merge = r#"{"from":{"module":"contact","id":"A"},"into":{"module":"contact","id":"B"}}"#;
        let data = EventData::parse("voc.record.merged.v1", merge).unwrap();
        assert!(memberships(&data).iter().all(|m| m.owned));
    }

    #[test]
    fn an_erased_name_leaves_the_lists_of_others() {
        let stage = r#"{"record":{"module":"deal","id":"D"},"to":"won","contacts":[{"module":"contact","id":"C"},{"module":"contact","id":"E"}],"x":1}"#;
        assert_eq!(
            without(stage, &[key("contact", "C")]).unwrap(),
            r#"{"record":{"module":"deal","id":"D"},"to":"won","contacts":[{"module":"contact","id":"E"}],"x":1}"#
        );
        assert_eq!(without(stage, &[key("lead", "C")]), None);
    }
}

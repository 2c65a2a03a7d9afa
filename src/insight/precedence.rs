//! Which of two versions of an event survives, whichever came first, and where events stand in time.

use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::event::{Event, EventData, EventId};

/// Where an event stands among others: by time, then source, then id. A total order that does not know arrival.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    pub time: Timestamp,
    pub id: EventId,
}

impl Moment {
    pub fn of(event: &Event) -> Self {
        Self { time: event.time, id: event.id.clone() }
    }
}

/// A fingerprint of an event's content. Of two versions with the same revision, the one with the lower print survives:
/// an order as good as any, and one that can be kept without the content after an erasure.
pub type Fingerprint = [u8; 32];

/// The fingerprint of an event's type, time and data.
pub fn fingerprint(event: &Event) -> Fingerprint {
    let mut hash = Sha256::new();
    hash.update(event.time.to_string());
    match &event.data {
        EventData::InteractionReceived(data) => feed(&mut hash, 0, data),
        EventData::InteractionRetracted(data) => feed(&mut hash, 1, data),
        EventData::RecordCreated(data) => feed(&mut hash, 2, data),
        EventData::RecordConverted(data) => feed(&mut hash, 3, data),
        EventData::RecordMerged(data) => feed(&mut hash, 4, data),
        EventData::RecordUnmerged(data) => feed(&mut hash, 5, data),
        EventData::RecordErased(data) => feed(&mut hash, 6, data),
        EventData::DealStageChanged(data) => feed(&mut hash, 7, data),
        EventData::TicketStatusChanged(data) => feed(&mut hash, 8, data),
        EventData::CustomerChurned(data) => feed(&mut hash, 9, data),
        EventData::BehaviourObserved(data) => feed(&mut hash, 10, data),
        EventData::ActionChanged(data) => feed(&mut hash, 11, data),
    }
    hash.finalize().into()
}

/// Adds `data` to a fingerprint, under a number for its kind.
pub fn feed<T: Serialize>(hash: &mut Sha256, kind: u8, data: &T) {
    hash.update([kind]);
    // Cannot fail: events are read from JSON, so they can be written as JSON.
    hash.update(serde_json::to_vec(data).unwrap_or_default());
}

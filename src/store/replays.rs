//! Replays: history under other scores and settings, beside what is served. The part of a store's contract behind
//! [`super::Store::replays`].
//!
//! Scores of a replay are kept by event and replay. Which ones a tenant's events show is a single row, so that a switch
//! is one small transaction, however long the history; an event that has no scores in that set shows its own.

use super::{LogRow, StoreError};
use crate::{
    insight::event::RecordKey,
    pipeline::{Setting, Tenant},
};

/// A replay; `body` is the pipeline's own JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRow {
    pub id: u64,
    pub tenant: Tenant,
    pub state: String,
    /// Events up to this position have their scores.
    pub scored_to: u64,
    pub body: String,
}

/// What a replay makes of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub record: RecordKey,
    /// Whether its labels are others.
    pub changed: bool,
    /// JSON of what differs.
    pub body: String,
}

/// Calls block, as those of the store do.
pub trait Replays {
    /// Begins one and gives its id.
    fn new_replay(&self, tenant: &Tenant, state: &str, body: &str) -> Result<u64, StoreError>;

    /// All replays of all tenants, the oldest first.
    fn replays(&self) -> Result<Vec<ReplayRow>, StoreError>;

    /// Writes state and body; false where there is none.
    fn set_replay(&self, id: u64, state: &str, body: &str) -> Result<bool, StoreError>;

    /// Scores (JSON) by position, how far that is, and the body, at once. Events that are gone meanwhile get none.
    fn put_replayed(
        &self,
        id: u64,
        scores: Vec<(u64, String)>,
        scored_to: u64,
        body: &str,
    ) -> Result<(), StoreError>;

    /// [`super::Store::history`] with the scores of a replay where it has some.
    fn replayed_history(
        &self,
        id: u64,
        tenant: &Tenant,
        records: &[RecordKey],
    ) -> Result<Vec<LogRow>, StoreError>;

    /// Adds differences, and writes the body; `afresh` forgets earlier ones.
    fn put_differences(
        &self,
        id: u64,
        differences: Vec<Difference>,
        afresh: bool,
        body: &str,
    ) -> Result<(), StoreError>;

    /// Differences in order of their records, after `after`; only of records that have changed, or of all.
    fn differences(
        &self,
        id: u64,
        changed_only: bool,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<Difference>, StoreError>;

    /// Makes a replay the one whose scores the tenant's events show (where `with_scores`), and its settings the
    /// tenant's, in one transaction. Gives the settings' new versions, and writes state and body.
    fn switch_replay(
        &self,
        id: u64,
        with_scores: bool,
        settings: Vec<(String, String)>,
        state: &str,
        body: &str,
    ) -> Result<Vec<(String, Setting)>, StoreError>;

    /// The replay whose scores a tenant's events show, for all tenants.
    fn active_replays(&self) -> Result<Vec<(Tenant, u64)>, StoreError>;

    /// Deletes the scores and differences of a replay, and writes state and body. One that is shown keeps its scores.
    fn drop_replay(&self, id: u64, state: &str, body: &str) -> Result<(), StoreError>;
}

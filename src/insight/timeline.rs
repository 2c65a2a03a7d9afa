//! The facts of one record in order of time: a list that mostly grows at its end, with the sums that spare a reader
//! from looking at all of it.
//!
//! Facts come and go one by one. A late one costs a search and a move of what comes after it, 8 bytes a fact.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Event, EventData, EventId};
use super::history::Fact;

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// By (time, source, id); each fact once.
    facts: Vec<Arc<Fact>>,
    /// Those of `facts` that are [rare](is_rare).
    rare: Vec<Arc<Fact>>,
    /// The sum over all facts of one plus the revision of each.
    revision: u64,
    /// Facts that can be evidence, by source.
    sources: BTreeMap<Box<str>, usize>,
}

fn place(event: &Event) -> (jiff::Timestamp, &EventId) {
    (event.time, &event.id)
}

/// What a fact adds to the revision of a document.
fn weight(fact: &Fact) -> u64 {
    1 + u64::from(fact.event.data.revision())
}

/// Whether documents name such a fact as evidence.
pub fn is_evidence(data: &EventData) -> bool {
    matches!(
        data,
        EventData::InteractionReceived(_) | EventData::CustomerChurned(_) | EventData::BehaviourObserved(_)
    )
}

/// Whether a record has few facts of this kind: what became of it and of its deals, and what it bought. Panels that
/// look for such a fact in all of a long history look here.
pub fn is_rare(data: &EventData) -> bool {
    match data {
        EventData::InteractionReceived(_) | EventData::TicketStatusChanged(_) => false,
        EventData::BehaviourObserved(behaviour) => behaviour.kind == "purchase",
        _ => true,
    }
}

/// Where a fact is in a list, or where it belongs.
fn find(facts: &[Arc<Fact>], event: &Event) -> Result<usize, usize> {
    match facts.last() {
        Some(last) if place(&last.event) >= place(event) => {
            facts.binary_search_by(|fact| place(&fact.event).cmp(&place(event)))
        }
        _ => Err(facts.len()),
    }
}

impl Timeline {
    /// Puts a fact in its place; it takes that of one with the same time and id.
    pub fn insert(&mut self, fact: Arc<Fact>) {
        let at = find(&self.facts, &fact.event);
        if let Ok(at) = at {
            self.remove_at(at);
        }
        self.revision += weight(&fact);
        if is_evidence(&fact.event.data) {
            match self.sources.get_mut(fact.event.id.source.as_str()) {
                Some(n) => *n += 1,
                None => drop(self.sources.insert(fact.event.id.source.as_str().into(), 1)),
            }
        }
        if is_rare(&fact.event.data) {
            let (Ok(at) | Err(at)) = find(&self.rare, &fact.event);
            self.rare.insert(at, fact.clone());
        }
        let (Ok(at) | Err(at)) = at;
        self.facts.insert(at, fact);
    }

    /// Takes a fact out, if it is there.
    pub fn remove(&mut self, event: &Event) {
        if let Ok(at) = find(&self.facts, event) {
            self.remove_at(at);
        }
    }

    fn remove_at(&mut self, at: usize) {
        let fact = self.facts.remove(at);
        self.revision -= weight(&fact);
        if let Ok(at) = find(&self.rare, &fact.event) {
            self.rare.remove(at);
        }
        if is_evidence(&fact.event.data)
            && let Some(n) = self.sources.get_mut(fact.event.id.source.as_str())
        {
            *n -= 1;
            if *n == 0 {
                self.sources.remove(fact.event.id.source.as_str());
            }
        }
    }

    /// Puts another fact in the place of one with the same time and id; does nothing where there is none.
    pub fn replace(&mut self, fact: Arc<Fact>) {
        if find(&self.facts, &fact.event).is_ok() {
            self.insert(fact);
        }
    }

    /// All facts, in order of time.
    pub fn facts(&self) -> &[Arc<Fact>] {
        &self.facts
    }

    /// The [rare](is_rare) facts, in order of time.
    pub fn rare(&self) -> &[Arc<Fact>] {
        &self.rare
    }

    /// The sum over all facts of one plus the revision of each.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The sources of the facts that can be evidence, in order.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(|source| &**source)
    }

    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }
}

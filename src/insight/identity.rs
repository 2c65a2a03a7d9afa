//! Which records are one customer: leads that became contacts, merged records, deals and their contacts (N06).
//!
//! Built from link events in any order. Whether a merge holds is decided by the last of the merge and unmerge events of
//! the same two records by (time, source, id), so late and repeated events change nothing. A conversion cannot be
//! undone, only retracted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::event::{Event, EventData, EventId, RecordKey};
use super::precedence::{Fingerprint, Moment, fingerprint};

/// The module of contacts: what a lead becomes, where it becomes several things.
pub const CONTACT_MODULE: &str = "contact";

/// The module of leads.
pub const LEAD_MODULE: &str = "lead";

/// The links between all records of a tenant.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The surviving version of each link event.
    links: BTreeMap<EventId, Link>,
    retracted: BTreeSet<EventId>,
    erased: BTreeMap<RecordKey, Timestamp>,
    /// All that was said about each (from, into), in order of time.
    edges: BTreeMap<(RecordKey, RecordKey), BTreeMap<Moment, Tie>>,
    /// `edges` by either end.
    outgoing: BTreeMap<RecordKey, BTreeSet<RecordKey>>,
    incoming: BTreeMap<RecordKey, BTreeSet<RecordKey>>,
}

#[derive(Clone, Debug)]
struct Link {
    time: Timestamp,
    fingerprint: Fingerprint,
    edges: Vec<(RecordKey, RecordKey, Tie)>,
}

/// What an event says about an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tie {
    Merged,
    Unmerged,
    /// With the place of the record among those that the lead became.
    Converted(u32),
    /// `from` is a contact of the deal `into`.
    Contact,
}

/// Which edges a walk follows.
#[derive(Clone, Copy)]
enum Walk {
    /// Merges and conversions that hold at a time (`None`: now).
    Held(Option<Timestamp>),
    /// Merges and conversions that held at any time.
    Ever,
}

impl Identity {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a link event in (converted, merged, unmerged, deal stage, retraction, erasure); other events say nothing
    /// about identity and are ignored.
    pub fn apply(&mut self, event: &Event) {
        let edges = match &event.data {
            EventData::RecordMerged(m) => vec![(m.from.clone(), m.into.clone(), Tie::Merged)],
            EventData::RecordUnmerged(m) => vec![(m.from.clone(), m.into.clone(), Tie::Unmerged)],
            EventData::RecordConverted(c) => {
                let from = c.from.key();
                let tie = |(place, to): (usize, &RecordKey)| {
                    (from.clone(), to.clone(), Tie::Converted(place as u32))
                };
                c.to.iter().enumerate().map(tie).collect()
            }
            EventData::DealStageChanged(s) => {
                s.contacts.iter().map(|c| (c.clone(), s.record.clone(), Tie::Contact)).collect()
            }
            EventData::InteractionRetracted(r) => return self.retract(&r.interaction),
            EventData::RecordErased(e) => return self.erase(&e.record, event.time),
            _ => return,
        };
        if self.retracted.contains(&event.id) {
            return;
        }
        let fingerprint = fingerprint(event);
        if let Some(known) = self.links.get(&event.id) {
            if known.fingerprint <= fingerprint {
                return;
            }
            self.forget(&event.id);
        }
        let mut link = Link { time: event.time, fingerprint, edges };
        link.edges.retain(|(from, into, _)| {
            from != into && !self.is_erased(from, event.time) && !self.is_erased(into, event.time)
        });
        for (from, into, tie) in &link.edges {
            self.edges.entry((from.clone(), into.clone())).or_default().insert(Moment::of(event), *tie);
            self.outgoing.entry(from.clone()).or_default().insert(into.clone());
            self.incoming.entry(into.clone()).or_default().insert(from.clone());
        }
        self.links.insert(event.id.clone(), link);
    }

    /// Forgets a link event for ever, also one that is still to come.
    pub fn retract(&mut self, id: &EventId) {
        self.forget(id);
        self.retracted.insert(id.clone());
    }

    /// Forgets every link of `key` up to a time, also those still to come.
    fn erase(&mut self, key: &RecordKey, time: Timestamp) {
        let until = self.erased.entry(key.clone()).or_insert(time);
        *until = time.max(*until);
        let until = *until;
        let touched: Vec<EventId> = self
            .edges_of(key)
            .flat_map(|pair| self.edges.get(&pair).into_iter().flatten())
            .filter(|(moment, _)| moment.time <= until)
            .map(|(moment, _)| moment.id.clone())
            .collect();
        for id in touched {
            let Some(mut link) = self.forget(&id) else { continue };
            link.edges.retain(|(from, into, _)| from != key && into != key);
            for (from, into, tie) in &link.edges {
                let moment = Moment { time: link.time, id: id.clone() };
                self.edges.entry((from.clone(), into.clone())).or_default().insert(moment, *tie);
                self.outgoing.entry(from.clone()).or_default().insert(into.clone());
                self.incoming.entry(into.clone()).or_default().insert(from.clone());
            }
            self.links.insert(id, link);
        }
    }

    fn is_erased(&self, key: &RecordKey, time: Timestamp) -> bool {
        self.erased.get(key).is_some_and(|until| time <= *until)
    }

    /// Takes a link out of the edges.
    fn forget(&mut self, id: &EventId) -> Option<Link> {
        let link = self.links.remove(id)?;
        for (from, into, _) in &link.edges {
            let pair = (from.clone(), into.clone());
            let Some(said) = self.edges.get_mut(&pair) else { continue };
            said.remove(&Moment { time: link.time, id: id.clone() });
            if said.is_empty() {
                self.edges.remove(&pair);
                drop_neighbour(&mut self.outgoing, from, into);
                drop_neighbour(&mut self.incoming, into, from);
            }
        }
        Some(link)
    }

    fn edges_of(&self, key: &RecordKey) -> impl Iterator<Item = (RecordKey, RecordKey)> + use<'_> {
        let key = key.clone();
        let other = key.clone();
        let out = self.outgoing.get(&key).into_iter().flatten().map(move |to| (key.clone(), to.clone()));
        let into =
            self.incoming.get(&other).into_iter().flatten().map(move |from| (from.clone(), other.clone()));
        out.chain(into)
    }

    /// The event that makes `from` a part of `into`: the merge that holds, or the conversion.
    fn tie(&self, from: &RecordKey, into: &RecordKey, walk: Walk) -> Option<(&Moment, Tie)> {
        let said = self.edges.get(&(from.clone(), into.clone()))?;
        let mut held = None;
        for (moment, tie) in said {
            match (walk, tie) {
                (Walk::Held(Some(at)), _) if moment.time > at => break,
                (_, Tie::Contact) => {}
                (Walk::Held(_), Tie::Unmerged) => {
                    // Ends a merge, not a conversion.
                    held = held.filter(|(_, tie)| *tie != Tie::Merged);
                }
                (Walk::Ever, Tie::Unmerged) => {}
                (_, Tie::Merged) if matches!(held, Some((_, Tie::Converted(_)))) => {}
                (_, tie) => held = Some((moment, *tie)),
            }
        }
        held
    }

    fn is_contact(&self, contact: &RecordKey, deal: &RecordKey, at: Option<Timestamp>) -> bool {
        self.edges.get(&(contact.clone(), deal.clone())).is_some_and(|said| {
            said.iter().any(|(m, tie)| *tie == Tie::Contact && at.is_none_or(|at| m.time <= at))
        })
    }

    fn contacts(&self, deal: &RecordKey, at: Option<Timestamp>) -> impl Iterator<Item = &RecordKey> {
        self.incoming.get(deal).into_iter().flatten().filter(move |c| self.is_contact(c, deal, at))
    }

    fn deals_of(&self, contact: &RecordKey, at: Option<Timestamp>) -> impl Iterator<Item = &RecordKey> {
        self.outgoing.get(contact).into_iter().flatten().filter(move |d| self.is_contact(contact, d, at))
    }

    /// The record that `key` became in the end: itself, where it was neither merged nor converted. A lead that became
    /// several records is the contact among them. Records merged in a circle are the first of the circle.
    pub fn canonical(&self, key: &RecordKey) -> RecordKey {
        self.canonical_at(key, None)
    }

    /// [`Identity::canonical`] as it was at a time.
    pub fn canonical_at(&self, key: &RecordKey, at: Option<Timestamp>) -> RecordKey {
        let mut path = vec![key.clone()];
        loop {
            let last = &path[path.len() - 1];
            let Some(next) = self.successor(last, at) else { return last.clone() };
            if let Some(start) = path.iter().position(|k| *k == next) {
                // Cannot be empty: it holds the record that closed the circle.
                return path[start..].iter().min().cloned().unwrap_or(next);
            }
            path.push(next);
        }
    }

    /// What a record became by the latest event that holds.
    fn successor(&self, key: &RecordKey, at: Option<Timestamp>) -> Option<RecordKey> {
        let became = self.outgoing.get(key)?.iter().filter_map(|into| {
            let (moment, tie) = self.tie(key, into, Walk::Held(at))?;
            let place = if let Tie::Converted(place) = tie { place } else { 0 };
            let preferred = (into.module == CONTACT_MODULE, std::cmp::Reverse(place));
            Some((moment, preferred, into))
        });
        became.max().map(|(_, _, into)| into.clone())
    }

    /// `key` and, transitively, everything merged or converted into it.
    fn backward(&self, key: &RecordKey, walk: Walk, found: &mut BTreeSet<RecordKey>) {
        let mut open = vec![key.clone()];
        while let Some(key) = open.pop() {
            if !found.insert(key.clone()) {
                continue;
            }
            let sources = self.incoming.get(&key).into_iter().flatten();
            open.extend(sources.filter(|from| self.tie(from, &key, walk).is_some()).cloned());
        }
    }

    /// `key` and, transitively, everything that it was ever merged or converted into.
    fn forward(&self, key: &RecordKey, found: &mut BTreeSet<RecordKey>) {
        let mut open = vec![key.clone()];
        while let Some(key) = open.pop() {
            if !found.insert(key.clone()) {
                continue;
            }
            let targets = self.outgoing.get(&key).into_iter().flatten();
            open.extend(targets.filter(|into| self.tie(&key, into, Walk::Ever).is_some()).cloned());
        }
    }

    /// `key` and everything merged or converted into it at a time (`None`: now), in order.
    pub fn aliases_at(&self, key: &RecordKey, at: Option<Timestamp>) -> Vec<RecordKey> {
        let mut found = BTreeSet::new();
        self.backward(key, Walk::Held(at), &mut found);
        found.into_iter().collect()
    }

    /// The records whose events fold into the document of `key`: itself and, transitively, everything merged or
    /// converted into it; for a deal also its contacts, and who these became. In order, each once.
    pub fn members(&self, key: &RecordKey) -> Vec<RecordKey> {
        self.members_at(key, None)
    }

    /// [`Identity::members`] as they were at a time.
    pub fn members_at(&self, key: &RecordKey, at: Option<Timestamp>) -> Vec<RecordKey> {
        let mut found = BTreeSet::new();
        self.backward(key, Walk::Held(at), &mut found);
        for deal in found.clone() {
            for contact in self.contacts(&deal, at) {
                self.backward(contact, Walk::Held(at), &mut found);
                self.backward(&self.canonical_at(contact, at), Walk::Held(at), &mut found);
            }
        }
        found.into_iter().collect()
    }

    /// Deals that name one of the records that became `key`: their stage changes are read for its deals panel.
    pub fn deals(&self, key: &RecordKey) -> Vec<RecordKey> {
        self.deals_at(key, None)
    }

    /// [`Identity::deals`] as they were at a time.
    pub fn deals_at(&self, key: &RecordKey, at: Option<Timestamp>) -> Vec<RecordKey> {
        let aliases = self.aliases_at(key, at);
        let deals: BTreeSet<RecordKey> =
            aliases.iter().flat_map(|contact| self.deals_of(contact, at)).cloned().collect();
        deals.into_iter().collect()
    }

    /// Every record whose facts a history must hold to render the document of `key` as of now or of any time before:
    /// what ever was among its [`Identity::members`] and [`Identity::deals`].
    pub fn sources(&self, key: &RecordKey) -> Vec<RecordKey> {
        let mut found = BTreeSet::new();
        self.backward(key, Walk::Ever, &mut found);
        for alias in found.clone() {
            found.extend(self.deals_of(&alias, None).cloned());
            for contact in self.contacts(&alias, None) {
                // Whatever the contact ever became may have been its canonical record at some time.
                let mut became = BTreeSet::new();
                self.forward(contact, &mut became);
                became.iter().for_each(|c| self.backward(c, Walk::Ever, &mut found));
            }
        }
        found.into_iter().collect()
    }

    /// The documents to refresh when an event names `key`: a superset of all records that have it among their members
    /// or deals. For a link event ask for every record that it names, before and after it is applied; for a retraction,
    /// for those that the retracted event names; for an erasure, for those that the erased events name
    /// ([`super::history::History::named_beside`]).
    pub fn dependents(&self, key: &RecordKey) -> Vec<RecordKey> {
        let mut found = BTreeSet::new();
        self.forward(key, &mut found);
        let mut deals: BTreeSet<&RecordKey> = BTreeSet::new();
        for became in &found {
            deals.extend(self.deals_of(became, None));
            let mut aliases = BTreeSet::new();
            self.backward(became, Walk::Held(None), &mut aliases);
            for alias in aliases.iter().filter(|a| self.canonical(a) == *became) {
                if let Some(into) = self.outgoing.get(alias) {
                    deals.extend(into.iter().filter(|d| self.is_contact(alias, d, None)));
                }
            }
        }
        let contacts: Vec<&RecordKey> = self.contacts(key, None).collect();
        deals.into_iter().chain(contacts).for_each(|k| self.forward(k, &mut found));
        found.into_iter().collect()
    }
}

fn drop_neighbour(
    neighbours: &mut BTreeMap<RecordKey, BTreeSet<RecordKey>>,
    of: &RecordKey,
    neighbour: &RecordKey,
) {
    if let Some(set) = neighbours.get_mut(of) {
        set.remove(neighbour);
        if set.is_empty() {
            neighbours.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(name: &str) -> RecordKey {
        let (module, id) = name.split_once(':').unwrap();
        RecordKey { module: module.into(), id: id.into() }
    }

    /// An event on a day of March.
    fn event(day: u8, type_: &str, data: Value) -> Event {
        Event {
            id: EventId { source: "crm".into(), id: format!("{day}-{type_}") },
            time: format!("2026-03-{day:02}T00:00:00Z").parse().unwrap(),
            data: EventData::parse(type_, &data.to_string()).unwrap(),
        }
    }

    fn merge(day: u8, from: &str, into: &str) -> Event {
        event(day, "voc.record.merged.v1", json!({"from": key(from), "into": key(into)}))
    }

    fn unmerge(day: u8, from: &str, into: &str) -> Event {
        event(day, "voc.record.unmerged.v1", json!({"from": key(from), "into": key(into)}))
    }

    fn convert(day: u8, from: &str, to: &[&str]) -> Event {
        let to: Vec<RecordKey> = to.iter().map(|t| key(t)).collect();
        event(day, "voc.record.converted.v1", json!({"from": key(from), "to": to}))
    }

    fn stage(day: u8, deal: &str, contact: &str) -> Event {
        let data = json!({"record": key(deal), "contacts": [key(contact)], "to": "won"});
        event(day, "voc.deal.stage_changed.v1", data)
    }

    /// The names of what `ask` finds, after the events in either order.
    fn check(events: &[Event], ask: impl Fn(&Identity) -> Vec<RecordKey>, expected: &[&str]) {
        let (mut forward, mut backward) = (Identity::new(), Identity::new());
        events.iter().for_each(|e| forward.apply(e));
        events.iter().rev().for_each(|e| backward.apply(e));
        let expected: Vec<RecordKey> = expected.iter().map(|e| key(e)).collect();
        assert_eq!(ask(&forward), expected);
        assert_eq!(ask(&backward), expected);
    }

    #[test]
    fn a_lead_is_the_contact_that_it_became() {
        let events = [convert(1, "lead:L", &["account:A", "contact:1"]), merge(2, "contact:1", "contact:2")];
        check(&events, |i| vec![i.canonical(&key("lead:L"))], &["contact:2"]);
        check(&events, |i| i.members(&key("contact:2")), &["contact:1", "contact:2", "lead:L"]);
        check(&events, |i| i.members(&key("account:A")), &["account:A", "lead:L"]);
        check(&events, |i| i.dependents(&key("lead:L")), &["account:A", "contact:1", "contact:2", "lead:L"]);
        let before = "2026-03-01T12:00:00Z".parse().unwrap();
        check(&events, |i| i.members_at(&key("contact:2"), Some(before)), &["contact:2"]);
    }

    #[test]
    fn the_last_word_on_a_merge_holds() {
        let events = [merge(1, "contact:1", "contact:2"), unmerge(2, "contact:1", "contact:2")];
        check(&events, |i| i.members(&key("contact:2")), &["contact:2"]);
        check(&events, |i| vec![i.canonical(&key("contact:1"))], &["contact:1"]);
        let again = [&events[..], &[merge(3, "contact:1", "contact:2")]].concat();
        check(&again, |i| i.members(&key("contact:2")), &["contact:1", "contact:2"]);
    }

    #[test]
    fn a_circle_of_merges_ends() {
        let events = [
            merge(1, "contact:1", "contact:2"),
            merge(2, "contact:2", "contact:3"),
            merge(3, "contact:3", "contact:1"),
        ];
        for name in ["contact:1", "contact:2", "contact:3"] {
            check(&events, |i| vec![i.canonical(&key(name))], &["contact:1"]);
            check(&events, |i| i.members(&key(name)), &["contact:1", "contact:2", "contact:3"]);
        }
    }

    #[test]
    fn a_deal_folds_its_contacts_and_shows_on_theirs() {
        let events = [stage(1, "deal:D", "contact:1"), merge(2, "contact:1", "contact:2")];
        check(&events, |i| i.members(&key("deal:D")), &["contact:1", "contact:2", "deal:D"]);
        check(&events, |i| i.members(&key("contact:2")), &["contact:1", "contact:2"]);
        check(&events, |i| i.deals(&key("contact:2")), &["deal:D"]);
        check(&events, |i| i.dependents(&key("contact:2")), &["contact:2", "deal:D"]);
        check(&events, |i| i.dependents(&key("deal:D")), &["contact:1", "contact:2", "deal:D"]);
    }
}

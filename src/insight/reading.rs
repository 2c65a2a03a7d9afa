//! One pass over the facts of a record before the panels count: which are known, which are shown, what they are called.
//!
//! All panels read this, so they agree. A *response* is a customer interaction with a sentiment; a *conversation* is
//! all responses of one `thread_id`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::digest::Digest;
use super::document::EVIDENCE_IDS_MAX;
use super::event::{EventData, EventId, Interaction, RecordKey, StageChange};
use super::history::{Fact, History};
use super::identity::Identity;
use super::panels::actions::stands;
use super::precedence::Moment;
use super::settings::Settings;
use super::tally::{self, Count};
use super::timeline::{Timeline, is_evidence, is_rare};
use super::view::View;
use crate::scores::{Classified, Intent, Sentiment};

/// The facts of one record under one view.
pub struct Reading<'a> {
    pub key: &'a RecordKey,
    pub identity: &'a Identity,
    pub view: &'a View,
    pub settings: &'a Settings,
    /// The record and what was merged or converted into it.
    pub aliases: Vec<RecordKey>,
    /// What the record's document folds, in order of time.
    pub facts: Vec<&'a Fact>,
    /// The window within `facts`.
    pub shown_facts: Range<usize>,
    /// Customer interactions with a sentiment, in order of time.
    pub responses: Vec<Response<'a>>,
    /// The window within `responses`.
    pub shown: Range<usize>,
    /// The stage changes of each deal of the record, in order of time.
    pub deals: BTreeMap<RecordKey, Vec<(&'a Fact, &'a StageChange)>>,
    /// Labels are judged by what happened before this moment.
    pub end: Timestamp,
    /// Number of conversations; they are numbered from 0.
    pub threads: usize,
    /// Keywords by number: their keys. Some may be of other records.
    pub keywords: &'a [Arc<str>],
    /// Those of `facts` that a record has few of, in order of time; see [`is_rare`].
    pub rare: Vec<&'a Fact>,
    /// The observed behaviour of the window, in order of time.
    pub behaviours: Vec<&'a Fact>,
    /// Channels, products and touchpoints by number. Some may be of other records.
    pub names: &'a [Arc<str>],
    /// The sum over `facts` of one plus the revision of each.
    pub revision: u64,
    /// The keywords of the window, counted once for all panels.
    counts: Vec<Count<'a>>,
    /// Ids that interactions of several sources share.
    ambiguous: BTreeSet<&'a str>,
}

/// A customer interaction with a sentiment.
pub struct Response<'a> {
    pub fact: &'a Fact,
    pub interaction: &'a Interaction,
    pub digest: &'a Digest,
    pub at: Timestamp,
    pub sentiment: Sentiment,
    pub intent: Option<&'a Classified<Intent>>,
    /// Months since year 0.
    pub month: i32,
    /// The conversation, by number.
    pub thread: usize,
    /// The number of each keyword of `digest`, in its order.
    pub keywords: &'a [u32],
}

impl Response<'_> {
    /// The language as the sender or else the model names it: "pt" of "pt-BR", in lower case.
    pub fn language(&self) -> Option<String> {
        let told = self.fact.scores.as_ref().and_then(|s| s.language.as_deref());
        let language = self.interaction.language.as_deref().or(told)?;
        language.split(['-', '_']).next().map(str::to_lowercase).filter(|l| !l.is_empty())
    }
}

impl<'a> Reading<'a> {
    pub fn new(
        key: &'a RecordKey,
        history: &'a History,
        identity: &'a Identity,
        settings: &'a Settings,
        view: &'a View,
    ) -> Self {
        let members = identity.members_at(key, view.as_of);
        let facts = merged(history, &members, view);
        let whole = members.len() == 1 && view.as_of.is_none();
        let (rare, revision) = match history.timeline(&members[0]).filter(|_| whole) {
            Some(timeline) => {
                let rare = timeline.rare().iter().map(|f| &**f);
                let (rare, fallen): (Vec<&Fact>, Vec<&Fact>) = rare.partition(|fact| stands(history, fact));
                (rare, timeline.revision() - fallen.len() as u64)
            }
            None => {
                let rare = facts.iter().copied().filter(|f| is_rare(&f.event.data)).collect();
                (rare, facts.iter().map(|f| 1 + u64::from(f.event.data.revision())).sum())
            }
        };
        let deals = deals(key, history, identity, view);
        let aliases = identity.aliases_at(key, view.as_of);
        let mut reading = Self {
            key,
            identity,
            view,
            settings,
            aliases,
            shown_facts: window(&facts, view),
            ambiguous: ambiguous(history, &members, &facts),
            end: view.end(),
            facts,
            responses: vec![],
            shown: 0..0,
            deals,
            threads: history.threads().len(),
            keywords: history.keywords().names(),
            rare,
            behaviours: vec![],
            names: history.names().names(),
            revision,
            counts: vec![],
        };
        if let (None, None, Some(last)) = (view.from, view.as_of, reading.facts.last()) {
            // A window without bounds also holds what is dated in the future, and judges it.
            let after = last.event.time.checked_add(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MAX);
            reading.end = reading.end.max(after);
        }
        reading.respond();
        let is_behaviour = |fact: &&&Fact| matches!(fact.event.data, EventData::BehaviourObserved(_));
        reading.behaviours = reading.shown_facts().iter().filter(is_behaviour).copied().collect();
        let shown = &reading.shown_facts;
        let bounds = |fact: usize| reading.facts.get(fact).map(|f| Moment::of(&f.event));
        let first = bounds(shown.start);
        let after = bounds(shown.end);
        let place = |bound: Option<Moment>| {
            bound.map_or(reading.responses.len(), |bound| {
                reading.responses.partition_point(|r| (r.at, &r.fact.event.id) < (bound.time, &bound.id))
            })
        };
        reading.shown = place(first)..place(after);
        reading.counts = tally::count(&reading, reading.shown(), |_, _| true);
        reading
    }

    /// Fills `responses`, and numbers conversations that have no id.
    fn respond(&mut self) {
        let view = self.view;
        let mut months = Months { zone: &view.zone, last: None };
        for fact in &self.facts {
            let EventData::InteractionReceived(interaction) = &fact.event.data else { continue };
            let (Some(digest), Some(scores)) = (&fact.digest, &fact.scores) else { continue };
            let Some(sentiment) = &scores.sentiment else { continue };
            let thread = match fact.thread {
                Some(number) => number as usize,
                None => {
                    self.threads += 1;
                    self.threads - 1
                }
            };
            self.responses.push(Response {
                fact,
                interaction,
                digest,
                at: fact.event.time,
                sentiment: sentiment.label,
                intent: scores.intent.as_ref(),
                month: months.of(fact.event.time),
                thread,
                keywords: &fact.keywords,
            });
        }
    }

    /// Whether a record is this one, or became it.
    pub fn is_alias(&self, key: &RecordKey) -> bool {
        self.aliases.binary_search(key).is_ok()
    }

    /// The responses of the window, in order of time.
    pub fn shown(&self) -> &[Response<'a>] {
        &self.responses[self.shown.clone()]
    }

    /// The keywords of the window, in the order in which they first appear.
    pub fn counts(&self) -> &[Count<'a>] {
        &self.counts
    }

    /// The facts of the window, in order of time.
    pub fn shown_facts(&self) -> &[&'a Fact] {
        &self.facts[self.shown_facts.clone()]
    }

    /// The responses of the last `days` days before the end, and the facts likewise.
    pub fn last_days(&self, days: u32) -> (&[Response<'a>], &[&'a Fact]) {
        let from = self.end.checked_sub(days_long(days)).unwrap_or(Timestamp::MIN);
        let until = self.judged();
        let first = self.responses.partition_point(|r| r.at < from).min(until);
        let facts = self.facts.partition_point(|f| f.event.time < self.end);
        let first_fact = self.facts.partition_point(|f| f.event.time < from).min(facts);
        (&self.responses[first..until], &self.facts[first_fact..facts])
    }

    /// Number of responses before the moment at which labels are judged.
    pub fn judged(&self) -> usize {
        self.responses.partition_point(|r| r.at < self.end)
    }

    /// What an event is called in evidence: its id, with the source in front where two sources share it.
    pub fn name(&self, id: &EventId) -> String {
        if self.ambiguous.contains(id.id.as_str()) {
            format!("{}#{}", id.source, id.id)
        } else {
            id.id.clone()
        }
    }

    /// Names of events, newest first, and the number of all of them. Takes them in order of time; repeats in a row
    /// count once.
    pub fn evidence<'e>(&self, ids: impl Iterator<Item = &'e EventId>) -> (Vec<String>, u64) {
        let mut newest: VecDeque<&EventId> = VecDeque::with_capacity(EVIDENCE_IDS_MAX);
        let mut total = 0;
        for id in ids {
            // An event has one id in a history: to compare where it stands spares reading it.
            if newest.back().is_some_and(|last| std::ptr::eq(*last, id)) {
                continue;
            }
            total += 1;
            if newest.len() == EVIDENCE_IDS_MAX {
                newest.pop_front();
            }
            newest.push_back(id);
        }
        (newest.into_iter().rev().map(|id| self.name(id)).collect(), total)
    }
}

/// A number of days, of 24 hours each.
pub fn days_long(days: u32) -> SignedDuration {
    SignedDuration::from_hours(24 * i64::from(days))
}

/// The known facts of some records, in order of time, each once.
fn merged<'a>(history: &'a History, records: &[RecordKey], view: &View) -> Vec<&'a Fact> {
    let mut facts: Vec<&Fact> =
        records.iter().flat_map(|key| history.of_record(key)).filter(|f| view.knows(f.event.time)).collect();
    // Cases that fall are rare: few records have any, and all others are spared a look at each fact.
    let mut rare = records.iter().filter_map(|key| history.timeline(key)).flat_map(Timeline::rare);
    if rare.any(|fact| !stands(history, fact)) {
        facts.retain(|fact| stands(history, fact));
    }
    if records.len() > 1 {
        facts.sort_by(|a, b| (a.event.time, &a.event.id).cmp(&(b.event.time, &b.event.id)));
        facts.dedup_by(|a, b| a.event.id == b.event.id);
    }
    facts
}

fn window(facts: &[&Fact], view: &View) -> Range<usize> {
    let Some(from) = view.from else { return 0..facts.len() };
    let from = view.midnight(from).unwrap_or(Timestamp::MIN);
    let after = view.to.tomorrow().ok().and_then(|date| view.midnight(date)).unwrap_or(Timestamp::MAX);
    let first = facts.partition_point(|f| f.event.time < from);
    first..facts.partition_point(|f| f.event.time < after).max(first)
}

/// The stage changes of the deals that name the record, or of the record itself.
fn deals<'a>(
    key: &RecordKey,
    history: &'a History,
    identity: &Identity,
    view: &View,
) -> BTreeMap<RecordKey, Vec<(&'a Fact, &'a StageChange)>> {
    let mut deals: BTreeMap<RecordKey, Vec<(&Fact, &StageChange)>> = BTreeMap::new();
    let mut records: BTreeSet<RecordKey> = identity.aliases_at(key, view.as_of).into_iter().collect();
    records.extend(identity.deals_at(key, view.as_of));
    for record in records {
        for fact in history.of_record(&record).filter(|f| view.knows(f.event.time)) {
            if let EventData::DealStageChanged(stage) = &fact.event.data
                && stage.record == record
            {
                deals.entry(record.clone()).or_default().push((fact, stage));
            }
        }
    }
    deals
}

/// Ids that two sources use for what can be evidence.
fn ambiguous<'a>(history: &History, members: &[RecordKey], facts: &[&'a Fact]) -> BTreeSet<&'a str> {
    // Most records hear of one source only.
    let all: BTreeSet<&str> =
        members.iter().filter_map(|key| history.timeline(key)).flat_map(Timeline::sources).collect();
    if all.len() < 2 {
        return BTreeSet::new();
    }
    let mut sources: HashMap<&str, &str> = HashMap::new();
    let mut shared = BTreeSet::new();
    for id in facts.iter().filter(|f| is_evidence(&f.event.data)).map(|f| &f.event.id) {
        if *sources.entry(&id.id).or_insert(&id.source) != id.source {
            shared.insert(id.id.as_str());
        }
    }
    shared
}

/// Months of moments that mostly follow each other.
struct Months<'v> {
    zone: &'v TimeZone,
    last: Option<(Timestamp, Timestamp, i32)>,
}

impl Months<'_> {
    fn of(&mut self, time: Timestamp) -> i32 {
        if let Some((from, after, month)) = self.last
            && from <= time
            && time < after
        {
            return month;
        }
        let date = super::view::day_in(time, self.zone);
        let month = i32::from(date.year()) * 12 + i32::from(date.month()) - 1;
        let midnight = |date: jiff::civil::Date| self.zone.to_timestamp(date.at(0, 0, 0, 0)).ok();
        let next = date.last_of_month().tomorrow().ok().and_then(midnight);
        if let (Some(from), Some(after)) = (midnight(date.first_of_month()), next) {
            self.last = Some((from, after, month));
        }
        month
    }
}

/// `YYYY-MM` of a month since year 0.
pub fn month_name(month: i32) -> String {
    format!("{:04}-{:02}", month.div_euclid(12), month.rem_euclid(12) + 1)
}

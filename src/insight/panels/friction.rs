//! Where the customer meets friction, by touchpoint and product, and what they did afterwards (K06-K09, X05).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    event::{EventData, Outcome},
    history::Fact,
    reading::{Reading, Response, days_long},
    segments::digest::Followed,
    statistics::{pct, wilson_pct95},
};
use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Friction {
    /// touchpoint or product.
    pub kind: String,
    pub place: String,
    pub responses: u64,
    pub negatives: u64,
    pub negative_pct: f64,
    pub ci95: Option<[f64; 2]>,
    pub aftermath: Aftermath,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// What followed the negatives within a named number of days.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Aftermath {
    pub within_days: u32,
    /// Negatives that were followed by another contact; of these, by one that was positive.
    pub contacted_again: u64,
    pub recovered: u64,
    pub silent: u64,
    pub churned: u64,
    pub purchased: u64,
}

/// Most places that are listed.
pub const FRICTION_MAX: usize = 10;
/// Days in which something is taken to follow from a negative.
pub const AFTERMATH_DAYS: u32 = 30;

/// Places with negatives in the window, those with most first.
pub fn of(reading: &Reading) -> Vec<Friction> {
    let shown = reading.shown();
    let after = After::of(reading);
    let mut places: Vec<Place> = Vec::new();
    for (kind, place) in [KINDS[0], KINDS[1]] {
        let mut met: Vec<(u64, Vec<usize>)> = vec![(0, vec![]); reading.names.len()];
        for (i, response) in shown.iter().enumerate() {
            let Some(place) = place(response.fact) else { continue };
            let (n, negatives) = &mut met[place as usize];
            *n += 1;
            if response.sentiment == Sentiment::Negative {
                negatives.push(i);
            }
        }
        let named = reading.names.iter().zip(met).filter(|(_, (_, negatives))| !negatives.is_empty());
        places.extend(named.map(|(name, (n, negatives))| Place { kind, name, n, negatives }));
    }
    places.sort_by(|a, b| {
        b.negatives.len().cmp(&a.negatives.len()).then_with(|| (a.kind, a.name).cmp(&(b.kind, b.name)))
    });
    places.truncate(FRICTION_MAX);
    let friction = places.into_iter().map(|Place { kind, name, n, negatives }| {
        let bad = negatives.len() as u64;
        let (evidence, evidence_total) = reading.evidence(negatives.iter().map(|i| &shown[*i].fact.event.id));
        Friction {
            kind: kind.into(),
            place: name.into(),
            responses: n,
            negatives: bad,
            negative_pct: pct(bad, n),
            ci95: wilson_pct95(bad, n),
            aftermath: after.aftermath(shown, &negatives),
            evidence,
            evidence_total,
        }
    });
    friction.collect()
}

/// What places of a kind are called, and the number of the one that a fact names.
type Kind = (&'static str, fn(&Fact) -> Option<u32>);

/// The kinds of places, and where an interaction names them.
const KINDS: [Kind; 2] = [("product", |fact| fact.product), ("touchpoint", |fact| fact.touchpoint)];

/// What happened at one place.
struct Place<'r> {
    kind: &'static str,
    name: &'r str,
    n: u64,
    /// Positions of the negatives in the window.
    negatives: Vec<usize>,
}

/// When the customer left and bought, in order.
pub struct After {
    churned: Vec<Timestamp>,
    purchased: Vec<Timestamp>,
}

impl After {
    pub fn of(reading: &Reading) -> Self {
        let mut after = Self { churned: vec![], purchased: vec![] };
        for fact in &reading.rare {
            let times = match &fact.event.data {
                EventData::CustomerChurned(_) => &mut after.churned,
                EventData::BehaviourObserved(b) if b.kind == "purchase" => &mut after.purchased,
                EventData::DealStageChanged(s) if s.outcome == Outcome::Won => &mut after.purchased,
                _ => continue,
            };
            times.push(fact.event.time);
        }
        after
    }

    fn aftermath(&self, shown: &[Response], negatives: &[usize]) -> Aftermath {
        let mut aftermath = Aftermath { within_days: AFTERMATH_DAYS, ..Aftermath::default() };
        for i in negatives {
            let followed = self.followed(shown, *i);
            aftermath.churned += u64::from(followed.churned);
            aftermath.purchased += u64::from(followed.purchased);
            aftermath.contacted_again += u64::from(followed.contacted_again);
            aftermath.recovered += u64::from(followed.recovered);
            aftermath.silent += u64::from(!followed.contacted_again);
        }
        aftermath
    }

    /// What followed one response; `responses` are in order of time.
    pub fn followed(&self, responses: &[Response], i: usize) -> Followed {
        let within = days_long(AFTERMATH_DAYS);
        let at = responses[i].at;
        let follows = |times: &[Timestamp]| {
            let next = times.get(times.partition_point(|t| *t < at));
            next.is_some_and(|t| t.duration_since(at) <= within)
        };
        let next = responses.get(i + 1).filter(|next| next.at.duration_since(at) <= within);
        Followed {
            contacted_again: next.is_some(),
            recovered: next.is_some_and(|next| next.sentiment == Sentiment::Positive),
            churned: follows(&self.churned),
            purchased: follows(&self.purchased),
        }
    }
}

//! What this customer wants, feels and thinks, what they are worth, and whether they can still be won (Z26, C09, C11,
//! X03, X08).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    emotions::{self, Feeling},
    highlights::Highlights,
    keywords::MentionSentiment,
    sentiment::SentimentCounts,
};
use crate::insight::{
    event::{EventId, Outcome},
    metrics::Metrics,
    reading::Reading,
    rules,
    standing::{self, Segment},
    statistics::round,
    tally::{self, Mentions},
};
use crate::scores::Intent;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    /// Keywords of requests and purchases, most frequent first.
    pub needs: Vec<Topic>,
    /// Net sentiment of the window, -1 to 1.
    pub feeling: Option<f64>,
    /// What they think of each product they speak of.
    pub opinions: Vec<Opinion>,
    /// promoter, passive or detractor.
    pub stance: Option<String>,
    /// nps (their last answer) or sentiment.
    pub stance_basis: Option<String>,
    /// True where a warning label is active and nothing says that the customer has left; null without a warning.
    pub saveable: Option<bool>,
    /// Sum of the amounts of won deals.
    pub value: Option<f64>,
    /// What they may still bring; null without a won deal.
    pub clv: Option<LifetimeValue>,
    /// Emotions that stand out, most frequent first.
    pub emotions: Vec<Feeling>,
    /// What they are like: by demography, place, behaviour, transaction, attitude and stage.
    pub segments: Vec<Segment>,
}

/// Customer lifetime value: what is expected from now on, under an assumption that is named with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LifetimeValue {
    pub value: f64,
    /// Mean yearly amount of the won deals since the first sign of the customer, over at least a year.
    pub yearly: f64,
    pub horizon_years: f64,
    pub assumption: String,
    /// `insufficient_evidence` on a single won deal.
    pub note: Option<String>,
}

/// Years for which what was bought so far is taken to go on.
pub const CLV_HORIZON_YEARS: f64 = 3.0;
/// Below this many won deals a lifetime value carries the note `insufficient_evidence`.
pub const CLV_DEALS_MIN: usize = 2;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Topic {
    pub keyword: String,
    pub count: u64,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Opinion {
    pub product: String,
    pub sentiment: MentionSentiment,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Most needs and opinions that are listed.
pub const TOPICS_MAX: usize = 10;
/// Fewest responses from which a stance is read.
pub const STANCE_RESPONSES_MIN: u64 = 3;
/// Net sentiment from which on a customer counts as promoter, and below which as detractor.
pub const PROMOTER_NET_MIN: f64 = 0.5;
pub const DETRACTOR_NET_MAX: f64 = -0.2;

impl Profile {
    pub fn of(reading: &Reading, highlights: &Highlights, metrics: &Metrics) -> Self {
        let counts = SentimentCounts::of(reading.shown());
        let (stance, stance_basis) = match metrics.nps.latest {
            Some(answer) if answer >= 9.0 => (Some("promoter"), Some("nps")),
            Some(answer) if answer <= 6.0 => (Some("detractor"), Some("nps")),
            Some(_) => (Some("passive"), Some("nps")),
            None if counts.total() < STANCE_RESPONSES_MIN => (None, None),
            None => (counts.net().map(by_sentiment), Some("sentiment")),
        };
        let mut segments = standing::segments(reading);
        if let (Some(stance), Some(basis)) = (stance, stance_basis) {
            segments.push(Segment {
                kind: "attitude".into(),
                name: "stance".into(),
                value: stance.into(),
                basis: basis.into(),
            });
        }
        let amounts = won_amounts(reading);
        Self {
            needs: needs(reading),
            feeling: counts.net().map(|net| round(net, 2)),
            opinions: opinions(reading),
            stance: stance.map(Into::into),
            stance_basis: stance_basis.map(Into::into),
            saveable: saveable(highlights),
            value: (!amounts.is_empty()).then(|| round(amounts.iter().sum(), 2)),
            clv: lifetime_value(reading, highlights, &amounts),
            emotions: emotions::feelings(reading),
            segments,
        }
    }
}

fn by_sentiment(net: f64) -> &'static str {
    match net {
        net if net >= PROMOTER_NET_MIN => "promoter",
        net if net <= DETRACTOR_NET_MAX => "detractor",
        _ => "passive",
    }
}

fn needs(reading: &Reading) -> Vec<Topic> {
    let shown = reading.shown();
    let mut counts = tally::count(reading, shown, |r, _| {
        r.intent.is_some_and(|i| matches!(i.label, Intent::Request | Intent::Purchase))
    });
    tally::by_mentions(reading, &mut counts);
    let topics = counts.iter().take(TOPICS_MAX).map(|count| {
        let (evidence, evidence_total) = reading.evidence(count.ids(shown));
        Topic { keyword: count.form(), count: count.mentions, evidence, evidence_total }
    });
    topics.collect()
}

fn opinions(reading: &Reading) -> Vec<Opinion> {
    let mut products = vec![<(Mentions, Vec<&EventId>)>::default(); reading.names.len()];
    for response in reading.shown() {
        if let Some(product) = response.fact.product {
            let (mentions, ids) = &mut products[product as usize];
            mentions.add(Some(response.sentiment));
            ids.push(&response.fact.event.id);
        }
    }
    let mut named: Vec<_> =
        reading.names.iter().zip(products).filter(|(_, (_, ids))| !ids.is_empty()).collect();
    named.sort_by_key(|(name, _)| *name);
    let mut opinions: Vec<Opinion> = named
        .into_iter()
        .map(|(product, (mentions, ids))| {
            let (evidence, evidence_total) = reading.evidence(ids.into_iter());
            Opinion { product: (&**product).into(), sentiment: mentions.into(), evidence, evidence_total }
        })
        .collect();
    // Stable: equals stay in order of their names.
    opinions.sort_by_key(|o| std::cmp::Reverse(o.evidence_total));
    opinions.truncate(TOPICS_MAX);
    opinions
}

fn saveable(highlights: &Highlights) -> Option<bool> {
    let active = || highlights.labels.iter().filter(|l| l.active);
    let left = active().any(|l| l.id == rules::CHURNED && l.basis.as_deref() == Some("fact"));
    active().next().map(|_| !left)
}

fn won_amounts(reading: &Reading) -> Vec<f64> {
    let won = reading.deals.values().filter_map(|changes| {
        let (_, stage) = super::deals::decisive(changes)?;
        (stage.outcome == Outcome::Won).then(|| changes.iter().rev().find_map(|(_, s)| s.amount)).flatten()
    });
    won.filter(|a| a.is_finite()).collect()
}

fn lifetime_value(reading: &Reading, highlights: &Highlights, amounts: &[f64]) -> Option<LifetimeValue> {
    const DAYS_PER_YEAR: f64 = 365.25;
    if amounts.is_empty() {
        return None;
    }
    let first = reading.facts.first().map_or(reading.end, |f| f.event.time);
    let days = reading.end.duration_since(first).as_hours() as f64 / 24.0;
    let yearly = amounts.iter().sum::<f64>() / (days / DAYS_PER_YEAR).max(1.0);
    let left = saveable(highlights) == Some(false);
    let (value, assumption) = if left {
        (0.0, "the customer has left and buys nothing more".to_owned())
    } else {
        let assumption = format!(
            "won deals go on at their mean yearly amount for {CLV_HORIZON_YEARS} years, without discount or growth"
        );
        (yearly * CLV_HORIZON_YEARS, assumption)
    };
    Some(LifetimeValue {
        value: round(value, 2),
        yearly: round(yearly, 2),
        horizon_years: CLV_HORIZON_YEARS,
        assumption,
        note: (amounts.len() < CLV_DEALS_MIN).then(|| "insufficient_evidence".into()),
    })
}

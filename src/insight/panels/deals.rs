//! Deals: what the customer said before and after the decisive stage change, and why it was won or lost (Z23-Z25).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sentiment::SentimentCounts;
use crate::insight::{
    event::{Outcome, RecordKey, StageChange},
    history::Fact,
    reading::{Reading, Response},
    statistics::{log_odds_z, round},
    tally::{self, Count},
};
use crate::scores::Sentiment;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Deal {
    pub deal_id: String,
    /// The last change to won or lost, or the last change while the deal is open.
    pub transition: Transition,
    pub before: DealSide,
    pub after: DealSide,
    /// Null where sentiment did not turn over.
    pub flip: Option<Flip>,
    pub reasons: Vec<Reason>,
    pub outcome: DealOutcome,
    pub amount: Option<f64>,
    /// All stage changes, oldest first.
    pub transitions: Vec<Transition>,
}

/// open, won or lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DealOutcome {
    #[default]
    Open,
    Won,
    Lost,
}

impl From<Outcome> for DealOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Open => Self::Open,
            Outcome::Won => Self::Won,
            Outcome::Lost => Self::Lost,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Transition {
    pub from: Option<String>,
    pub to: String,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub outcome: DealOutcome,
}

/// The interactions on one side of the transition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DealSide {
    pub responses: u64,
    /// (positive - negative) / responses; null without responses.
    pub net_sentiment: Option<f64>,
    pub keywords: Vec<DealKeyword>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DealKeyword {
    pub keyword: String,
    pub count: u64,
    pub sentiment: Option<Sentiment>,
    /// How much more typical of this side than of the other, in standard deviations.
    pub z: Option<f64>,
}

/// Sentiment turned over at the transition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Flip {
    /// positive_to_negative or negative_to_positive.
    #[serde(rename = "type")]
    pub type_: String,
    pub advice: String,
    /// `insufficient_evidence` where a side has too few responses.
    pub note: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// won or lost.
    pub kind: String,
    /// The reason as the stage change gives it, or a keyword of the interactions before it.
    pub keyword: String,
    pub count: u64,
    /// stage or keywords.
    pub from: String,
}

/// Keywords on each side of a transition.
pub const DEAL_KEYWORDS_MAX: usize = 10;
/// Keywords among the reasons of a deal.
pub const REASON_KEYWORDS_MAX: usize = 3;
/// Below this many responses on a side, a flip carries the note `insufficient_evidence`.
pub const FLIP_RESPONSES_MIN: u64 = 3;

/// All deals of a record, the latest transition first. Reads the whole history, whatever the window.
pub fn of(reading: &Reading) -> Vec<Deal> {
    let mut deals: Vec<Deal> =
        reading.deals.iter().filter_map(|(key, changes)| deal(reading, key, changes)).collect();
    deals.sort_by(|a, b| b.transition.at.cmp(&a.transition.at).then_with(|| a.deal_id.cmp(&b.deal_id)));
    deals
}

/// The change that decided a deal: the last one to won or lost, or else the last one.
pub fn decisive<'a>(changes: &[(&'a Fact, &'a StageChange)]) -> Option<(&'a Fact, &'a StageChange)> {
    changes.iter().rfind(|(_, stage)| stage.outcome != Outcome::Open).or(changes.last()).copied()
}

fn deal(reading: &Reading, key: &RecordKey, changes: &[(&Fact, &StageChange)]) -> Option<Deal> {
    let (fact, stage) = decisive(changes)?;
    let (before, after) =
        reading.responses.split_at(reading.responses.partition_point(|r| r.at < fact.event.time));
    let (counts_before, counts_after) = (counted(reading, before), counted(reading, after));
    let (net_before, net_after) = (SentimentCounts::of(before).net(), SentimentCounts::of(after).net());
    let few = before.len().min(after.len()) < FLIP_RESPONSES_MIN as usize;
    Some(Deal {
        deal_id: key.id.clone(),
        transition: transition(fact, stage),
        before: side(reading, before, &counts_before, &counts_after),
        after: side(reading, after, &counts_after, &counts_before),
        flip: flip(net_before, net_after, stage.outcome, few),
        reasons: reasons(changes, stage.outcome, &counts_before),
        outcome: stage.outcome.into(),
        amount: changes.iter().rev().find_map(|(_, s)| s.amount).filter(|a| a.is_finite()),
        transitions: changes.iter().map(|(fact, stage)| transition(fact, stage)).collect(),
    })
}

fn transition(fact: &Fact, stage: &StageChange) -> Transition {
    Transition {
        from: stage.from.clone(),
        to: stage.to.clone(),
        at: fact.event.time,
        outcome: stage.outcome.into(),
    }
}

fn counted<'a>(reading: &Reading<'a>, responses: &[Response<'a>]) -> Vec<Count<'a>> {
    let mut counts = tally::count(reading, responses, |_, _| true);
    tally::by_mentions(reading, &mut counts);
    counts
}

fn side(reading: &Reading, responses: &[Response], counts: &[Count], other: &[Count]) -> DealSide {
    let mut elsewhere = vec![0; reading.keywords.len()];
    other.iter().for_each(|c| elsewhere[c.keyword as usize] = c.mentions);
    let all = |counts: &[Count]| counts.iter().map(|c| c.mentions).sum::<u64>();
    let (here, there) = (all(counts), all(other));
    let keywords = counts.iter().take(DEAL_KEYWORDS_MAX).map(|count| DealKeyword {
        keyword: count.form(),
        count: count.mentions,
        sentiment: count.sentiment.label(),
        z: log_odds_z((count.mentions, here), (elsewhere[count.keyword as usize], there))
            .map(|z| round(z, 2)),
    });
    DealSide {
        responses: responses.len() as u64,
        net_sentiment: SentimentCounts::of(responses).net().map(|net| round(net, 2)),
        keywords: keywords.collect(),
    }
}

/// What a turn of sentiment at a transition calls for.
fn flip(before: Option<f64>, after: Option<f64>, outcome: Outcome, few: bool) -> Option<Flip> {
    let (before, after) = (before?, after?);
    let (type_, advice) = match outcome {
        Outcome::Won if before > 0.0 && after < 0.0 => ("positive_to_negative", "check_delivery"),
        Outcome::Lost if before > 0.0 && after < 0.0 => ("positive_to_negative", "ask_why_lost"),
        Outcome::Open if before > 0.0 && after < 0.0 => ("positive_to_negative", "check_last_contact"),
        Outcome::Won if before < 0.0 && after > 0.0 => ("negative_to_positive", "ask_for_reference"),
        Outcome::Lost if before < 0.0 && after > 0.0 => ("negative_to_positive", "win_back"),
        Outcome::Open if before < 0.0 && after > 0.0 => ("negative_to_positive", "keep_going"),
        _ => return None,
    };
    Some(Flip {
        type_: type_.into(),
        advice: advice.into(),
        note: few.then(|| "insufficient_evidence".into()),
    })
}

/// Why a closed deal was won or lost: what the stage changes say, then the keywords before it that were liked (won) or
/// disliked (lost) most.
fn reasons(changes: &[(&Fact, &StageChange)], outcome: Outcome, before: &[Count]) -> Vec<Reason> {
    let (kind, wanted) = match outcome {
        Outcome::Open => return vec![],
        Outcome::Won => ("won", Sentiment::Positive),
        Outcome::Lost => ("lost", Sentiment::Negative),
    };
    let mut reasons: Vec<Reason> = Vec::new();
    let said = changes.iter().filter(|(_, s)| s.outcome == outcome).filter_map(|(_, s)| s.reason.as_deref());
    for text in said.map(str::trim).filter(|t| !t.is_empty()) {
        match reasons.iter_mut().find(|r| r.keyword == text) {
            Some(reason) => reason.count += 1,
            None => reasons.push(Reason {
                kind: kind.into(),
                keyword: text.into(),
                count: 1,
                from: "stage".into(),
            }),
        }
    }
    let mut keywords: Vec<(u64, &Count)> = before
        .iter()
        .map(|c| (if wanted == Sentiment::Positive { c.sentiment.positive } else { c.sentiment.negative }, c))
        .filter(|(n, _)| *n > 0)
        .collect();
    // Stable: of equals the more frequent and the more recent one stays in front.
    keywords.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    reasons.extend(keywords.into_iter().take(REASON_KEYWORDS_MAX).map(|(count, c)| Reason {
        kind: kind.into(),
        keyword: c.form(),
        count,
        from: "keywords".into(),
    }));
    reasons
}

//! Competitors that the customer mentions: how often, with what, how they compare to us, and the risk (Z14-Z16).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keywords::MentionSentiment;
use crate::insight::{
    digest::{Digest, Mention},
    event::EventId,
    history::Fact,
    lexicon::Cue,
    reading::{Reading, Response},
    statistics::{Mean, quantile, round, wilson},
    tally::{self, Mentions},
};
use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Competitors {
    pub rows: Vec<CompetitorRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompetitorRow {
    pub competitor: String,
    /// Interactions that mention it.
    pub responses: u64,
    /// Occurrences.
    pub mentions: u64,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_mentioned_at: Option<Timestamp>,
    pub stance: Stance,
    pub switch_risk: SwitchRisk,
    /// Sentiment of the sentences that mention it, by mention.
    pub sentiment: MentionSentiment,
    /// Keywords of the same interactions.
    pub keywords: Vec<CompetitorKeyword>,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Mean of p(positive) - p(negative), from -1 to 1; null where no sentence speaks of the side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stance {
    pub competitor: Option<f64>,
    pub us: Option<f64>,
}

/// The share of the mentioning interactions that lean toward the competitor or speak of switching.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwitchRisk {
    pub p: f64,
    pub ci95: [f64; 2],
    pub n: u64,
    pub leaning: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompetitorKeyword {
    pub keyword: String,
    pub count: u64,
}

/// Keywords that stand beside a competitor.
pub const COMPETITOR_KEYWORDS_MAX: usize = 10;

/// What was said of one competitor in some interactions, scored or not: a name can be caught without a model.
#[derive(Default)]
pub struct Talk<'a> {
    pub facts: Vec<&'a Fact>,
    pub mentions: u64,
    pub sentiment: Mentions,
    /// Valence of the sentences that mention it.
    pub them: Mean,
    /// Valence of us: the other sentences of the same interactions, or, where there are none, the interactions that do
    /// not mention it.
    pub us: Mean,
    /// The interactions that lean toward it.
    pub leaning: Vec<&'a EventId>,
    /// The interactions that mention it and speak of switching.
    pub switching: Vec<&'a EventId>,
}

/// Reads what some facts say of a competitor (an index into the settings).
pub fn talk<'a>(facts: &[&'a Fact], competitor: usize) -> Talk<'a> {
    let mut talk = Talk::default();
    let mut others = Mean::default();
    for fact in facts {
        let Some(digest) = &fact.digest else { continue };
        let mentions = || digest.competitors.iter().filter(|m| m.competitor == competitor);
        if mentions().next().is_none() {
            digest.valence.into_iter().for_each(|v| others.add(v));
            continue;
        }
        talk.facts.push(fact);
        let mut them = Mean::default();
        for mention in mentions() {
            talk.mentions += 1;
            talk.sentiment.add(mention.sentiment);
            mention.valence.filter(|_| mention.first_in_sentence).into_iter().for_each(|v| them.add(v));
        }
        talk.them.merge(them);
        talk.us.merge(digest.elsewhere);
        let switches = digest.says(Cue::Switching) || digest.says(Cue::Leaving);
        if switches {
            talk.switching.push(&fact.event.id);
        }
        if switches || prefers(digest, them, mentions()) {
            talk.leaning.push(&fact.event.id);
        }
    }
    if talk.us.n == 0 {
        talk.us = others;
    }
    talk
}

/// Whether one interaction speaks better of the competitor than of us; without a word on us, whether it speaks well of
/// the competitor.
fn prefers<'m>(digest: &Digest, them: Mean, mut mentions: impl Iterator<Item = &'m Mention>) -> bool {
    match (them.value(), digest.elsewhere.value()) {
        (Some(them), Some(us)) => them > us,
        _ => mentions.any(|m| m.sentiment == Some(Sentiment::Positive)),
    }
}

impl Competitors {
    /// Most recently mentioned first.
    pub fn of(reading: &Reading) -> Self {
        let mut rows: Vec<CompetitorRow> =
            (0..reading.settings.competitors.len()).filter_map(|i| row(reading, i)).collect();
        rows.sort_by(|a, b| {
            b.last_mentioned_at.cmp(&a.last_mentioned_at).then_with(|| a.competitor.cmp(&b.competitor))
        });
        Self { rows }
    }
}

fn row(reading: &Reading, competitor: usize) -> Option<CompetitorRow> {
    let talk = talk(reading.shown_facts(), competitor);
    let last = talk.facts.last()?;
    let (n, leaning) = (talk.facts.len() as u64, talk.leaning.len() as u64);
    let (low, high) = wilson(leaning, n, quantile(0.95))?;
    let (evidence, evidence_total) = reading.evidence(talk.facts.iter().map(|f| &f.event.id));
    Some(CompetitorRow {
        competitor: reading.settings.competitors[competitor].name.clone(),
        responses: n,
        mentions: talk.mentions,
        last_mentioned_at: Some(last.event.time),
        stance: Stance {
            competitor: talk.them.value().map(|v| round(v, 2)),
            us: talk.us.value().map(|v| round(v, 2)),
        },
        switch_risk: SwitchRisk {
            p: round(leaning as f64 / n as f64, 2),
            ci95: [round(low, 2), round(high, 2)],
            n,
            leaning,
        },
        sentiment: talk.sentiment.into(),
        keywords: beside(reading, competitor),
        evidence,
        evidence_total,
    })
}

/// Keywords of the responses that mention a competitor, without its own name.
fn beside(reading: &Reading, competitor: usize) -> Vec<CompetitorKeyword> {
    let mentions = |r: &Response| r.digest.competitors.iter().any(|m| m.competitor == competitor);
    let mut counts =
        tally::count(reading, reading.shown(), |r, keyword| keyword.names != Some(competitor) && mentions(r));
    tally::by_mentions(reading, &mut counts);
    counts
        .iter()
        .take(COMPETITOR_KEYWORDS_MAX)
        .map(|c| CompetitorKeyword { keyword: c.form(), count: c.mentions })
        .collect()
}

//! How a lead became a contact: when, how fast, and what they spoke of before (Z21, Z22).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    event::{Converted, Created, EventData, Interaction, RecordKey},
    history::Fact,
    identity::LEAD_MODULE,
    reading::Reading,
    statistics::round,
    tally,
};
use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conversion {
    /// `converted`, `open` (a lead that is not converted) or `none`.
    pub status: String,
    pub lead_id: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// From the creation of the lead to its conversion, one decimal; null where its creation is not known.
    pub days_to_convert: Option<f64>,
    /// What the lead's interactions before the conversion spoke of, most frequent first.
    pub keywords_before: Vec<KeywordBefore>,
    /// The lead's interactions before the conversion.
    pub responses_before: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KeywordBefore {
    pub keyword: String,
    pub count: u64,
    pub sentiment: Option<Sentiment>,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// Most keywords that are listed.
pub const KEYWORDS_BEFORE_MAX: usize = 10;

const SECONDS_PER_DAY: f64 = 86_400.0;

/// The conversion that made the record: the first, where several leads became it.
pub struct Turn<'a> {
    pub fact: &'a Fact,
    pub converted: &'a Converted,
    /// The lead and what was merged into it.
    pub lead: Vec<RecordKey>,
}

impl<'a> Turn<'a> {
    pub fn of(reading: &Reading<'a>) -> Option<Self> {
        let fact = reading.rare.iter().find(|f| {
            matches!(&f.event.data, EventData::RecordConverted(c)
                if reading.is_alias(&c.from.key()) || c.to.iter().any(|to| reading.is_alias(to)))
        })?;
        let EventData::RecordConverted(converted) = &fact.event.data else { return None };
        let lead = reading.identity.aliases_at(&converted.from.key(), reading.view.as_of);
        Some(Self { fact, converted, lead })
    }

    /// Whether an interaction is of the lead.
    pub fn is_lead(&self, interaction: &Interaction) -> bool {
        std::iter::once(&interaction.record).chain(&interaction.related).any(|key| self.lead.contains(key))
    }
}

impl Conversion {
    /// Reads the whole history, whatever the window.
    pub fn of(reading: &Reading) -> Self {
        let Some(turn) = Turn::of(reading) else {
            let is_lead = reading.key.module == LEAD_MODULE;
            return Self { status: if is_lead { "open" } else { "none" }.into(), ..Self::default() };
        };
        let at = turn.fact.event.time;
        let before = &reading.responses[..reading.responses.partition_point(|r| r.at < at)];
        let mut counts = tally::count(reading, before, |r, _| turn.is_lead(r.interaction));
        tally::by_mentions(reading, &mut counts);
        let keywords_before = counts.iter().take(KEYWORDS_BEFORE_MAX).map(|count| {
            let (evidence, evidence_total) = reading.evidence(count.ids(before));
            KeywordBefore {
                keyword: count.form(),
                count: count.mentions,
                sentiment: count.sentiment.label(),
                evidence,
                evidence_total,
            }
        });
        let created = turn.converted.from.created_at.or_else(|| created(reading, &turn.converted.from.key()));
        let seconds = created.map(|c| at.duration_since(c).as_secs_f64()).filter(|s| *s >= 0.0);
        Self {
            status: "converted".into(),
            lead_id: Some(turn.converted.from.id.clone()),
            at: Some(at),
            days_to_convert: seconds.map(|s| round(s / SECONDS_PER_DAY, 1)),
            keywords_before: keywords_before.collect(),
            responses_before: before.iter().filter(|r| turn.is_lead(r.interaction)).count() as u64,
        }
    }
}

/// When a record was created, as its own event says.
fn created(reading: &Reading, key: &RecordKey) -> Option<Timestamp> {
    reading.rare.iter().find_map(|f| match &f.event.data {
        EventData::RecordCreated(Created { record, .. }) if record == key => Some(f.event.time),
        _ => None,
    })
}

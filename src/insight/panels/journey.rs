//! The journey through conversations: effort that piles up, feelings that escalate, and how the contacts went (K03, K04).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    event::EventData,
    reading::{Reading, Response},
    statistics::{Mean, pct, round},
};
use crate::scores::Sentiment;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Journey {
    /// Conversations of at least three contacts that ended more negative than they began, worst first.
    pub escalation: Vec<Escalation>,
    pub effort: Effort,
    pub operations: Operations,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Escalation {
    pub thread_id: String,
    pub contacts: u64,
    pub channels: Vec<String>,
    /// Mean of p(positive) - p(negative) over the first half of the contacts, and over the second.
    pub net_from: f64,
    pub net_to: f64,
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// What it costs the customer to be heard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Effort {
    /// Interactions per conversation.
    pub contacts_per_response: Option<f64>,
    /// Conversations of more than one contact.
    pub repeated: u64,
    /// Conversations that went over more than one channel.
    pub channel_switches: u64,
}

/// How contacts went, as the telephone or ticket system measured them, beside how the customer felt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Operations {
    pub n: u64,
    pub handle_s_mean: Option<f64>,
    pub wait_s_mean: Option<f64>,
    pub resolved_pct: Option<f64>,
    /// Share of negatives among resolved and among unresolved contacts, in percent.
    pub negative_pct_resolved: Option<f64>,
    pub negative_pct_unresolved: Option<f64>,
}

/// Fewest contacts of a conversation that can escalate.
pub const ESCALATION_CONTACTS_MIN: usize = 3;
/// Least fall of the mean valence from the first half of the contacts to the second.
pub const ESCALATION_FALL_MIN: f64 = 0.4;
/// Most escalations that are listed.
pub const ESCALATIONS_MAX: usize = 10;

impl Journey {
    pub fn of(reading: &Reading) -> Self {
        let mut threads: Vec<Vec<&Response>> = vec![vec![]; reading.threads];
        reading.shown().iter().for_each(|r| threads[r.thread].push(r));
        threads.retain(|t| !t.is_empty());
        let mut escalation: Vec<(f64, Escalation)> =
            threads.iter().filter_map(|contacts| escalation(reading, contacts)).collect();
        escalation.sort_by(|(fall_a, a), (fall_b, b)| {
            fall_b
                .total_cmp(fall_a)
                .then(b.last_at.cmp(&a.last_at))
                .then_with(|| a.thread_id.cmp(&b.thread_id))
        });
        escalation.truncate(ESCALATIONS_MAX);
        Self {
            escalation: escalation.into_iter().map(|(_, e)| e).collect(),
            effort: effort(&threads),
            operations: operations(reading),
        }
    }
}

fn channels(contacts: &[&Response]) -> Vec<String> {
    let mut channels: Vec<String> = Vec::new();
    for contact in contacts {
        if !channels.contains(&contact.interaction.channel) {
            channels.push(contact.interaction.channel.clone());
        }
    }
    channels
}

fn escalation(reading: &Reading, contacts: &[&Response]) -> Option<(f64, Escalation)> {
    let thread_id = contacts.first()?.interaction.thread_id.clone()?;
    if contacts.len() < ESCALATION_CONTACTS_MIN {
        return None;
    }
    let mean =
        |contacts: &[&Response]| contacts.iter().filter_map(|r| r.digest.valence).collect::<Mean>().value();
    let (first, second) = contacts.split_at(contacts.len() / 2);
    let (from, to) = (mean(first)?, mean(second)?);
    if from - to < ESCALATION_FALL_MIN || to >= 0.0 {
        return None;
    }
    let (evidence, evidence_total) = reading.evidence(contacts.iter().map(|r| &r.fact.event.id));
    let escalation = Escalation {
        thread_id,
        contacts: contacts.len() as u64,
        channels: channels(contacts),
        net_from: round(from, 2),
        net_to: round(to, 2),
        since: contacts[0].at,
        last_at: contacts[contacts.len() - 1].at,
        evidence,
        evidence_total,
    };
    Some((from - to, escalation))
}

fn effort(threads: &[Vec<&Response>]) -> Effort {
    let contacts: usize = threads.iter().map(Vec::len).sum();
    let count = |wanted: &dyn Fn(&[&Response]) -> bool| threads.iter().filter(|t| wanted(t)).count() as u64;
    Effort {
        contacts_per_response: (!threads.is_empty())
            .then(|| round(contacts as f64 / threads.len() as f64, 2)),
        repeated: count(&|contacts| contacts.len() > 1),
        channel_switches: count(&|contacts| {
            contacts.iter().any(|r| r.interaction.channel != contacts[0].interaction.channel)
        }),
    }
}

/// Reads all interactions of the window, the company's own included: these carry the measures of a call too.
fn operations(reading: &Reading) -> Operations {
    let (mut handle, mut wait) = (Mean::default(), Mean::default());
    let mut n = 0;
    // (negative, scored, all) of the resolved and of the unresolved contacts.
    let (mut resolved, mut unresolved) = ((0, 0, 0), (0, 0, 0));
    for fact in reading.shown_facts() {
        let EventData::InteractionReceived(interaction) = &fact.event.data else { continue };
        let Some(ops) = &interaction.ops else { continue };
        n += 1;
        ops.handle_s.into_iter().for_each(|s| handle.add(s));
        ops.wait_s.into_iter().for_each(|s| wait.add(s));
        let Some(is_resolved) = ops.resolved else { continue };
        let group = if is_resolved { &mut resolved } else { &mut unresolved };
        group.2 += 1;
        if let Some(sentiment) = fact.scores.as_ref().and_then(|s| s.sentiment.as_ref()) {
            group.0 += u64::from(sentiment.label == Sentiment::Negative);
            group.1 += 1;
        }
    }
    let told = resolved.2 + unresolved.2;
    let share = |count, of| (of > 0).then(|| pct(count, of));
    Operations {
        n,
        handle_s_mean: handle.value().map(|s| round(s, 1)),
        wait_s_mean: wait.value().map(|s| round(s, 1)),
        resolved_pct: share(resolved.2, told),
        negative_pct_resolved: share(resolved.0, resolved.1),
        negative_pct_unresolved: share(unresolved.0, unresolved.1),
    }
}

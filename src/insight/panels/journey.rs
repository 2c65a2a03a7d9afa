//! The journey through conversations: effort that piles up, and feelings that escalate (K03).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::insight::{
    reading::{Reading, Response},
    statistics::{Mean, round},
};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Journey {
    /// Conversations of at least three contacts that ended more negative than they began, worst first.
    pub escalation: Vec<Escalation>,
    pub effort: Effort,
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
        Self { escalation: escalation.into_iter().map(|(_, e)| e).collect(), effort: effort(&threads) }
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

//! Intent: the ring, its months, and what was asked for and whether it was resolved (Z17, Z18).

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sentiment::months;
use crate::insight::{
    event::EventData,
    reading::{Reading, Response, month_name},
    statistics::round,
};
use crate::scores::Intent;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IntentPanel {
    pub distribution: IntentCounts,
    pub series: Vec<IntentPoint>,
    /// Complaints, purchases and requests, newest first.
    pub items: Vec<IntentItem>,
    /// All of them, also those that `items` leaves out.
    pub items_total: u64,
    /// Complaints and requests that are not resolved.
    pub open_total: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntentCounts {
    pub complaint: u64,
    pub purchase: u64,
    pub request: u64,
    pub other: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IntentPoint {
    /// `YYYY-MM`, in UTC.
    pub bucket: String,
    pub complaint: u64,
    pub purchase: u64,
    pub request: u64,
    pub other: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct IntentItem {
    /// The interaction's evidence id.
    pub id: String,
    pub intent: Intent,
    pub confidence: f64,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Its best keyphrase, or the first words.
    pub summary: String,
    pub resolved: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resolved_at: Option<Timestamp>,
    pub channel: String,
    pub thread_id: Option<String>,
}

/// Most items that are listed.
pub const INTENT_ITEMS_MAX: usize = 50;

impl IntentCounts {
    fn of(responses: &[Response]) -> Self {
        let mut counts = Self::default();
        responses.iter().filter_map(|r| r.intent).for_each(|i| counts.add(i.label));
        counts
    }

    pub fn add(&mut self, intent: Intent) {
        match intent {
            Intent::Complaint => self.complaint += 1,
            Intent::Purchase => self.purchase += 1,
            Intent::Request => self.request += 1,
            Intent::Other => self.other += 1,
        }
    }

    pub fn get(self, intent: Intent) -> u64 {
        match intent {
            Intent::Complaint => self.complaint,
            Intent::Purchase => self.purchase,
            Intent::Request => self.request,
            Intent::Other => self.other,
        }
    }

    pub fn total(self) -> u64 {
        self.complaint + self.purchase + self.request + self.other
    }
}

impl IntentPanel {
    pub fn of(reading: &Reading) -> Self {
        let shown = reading.shown();
        let series = months(shown)
            .into_iter()
            .map(|(month, responses)| {
                let IntentCounts { complaint, purchase, request, other } = IntentCounts::of(responses);
                IntentPoint { bucket: month_name(month), complaint, purchase, request, other }
            })
            .collect();
        let resolutions = resolutions(reading);
        let mut items = Vec::new();
        let (mut items_total, mut open_total) = (0, 0);
        for response in shown.iter().rev() {
            let Some(classified) = response.intent.filter(|i| i.label != Intent::Other) else { continue };
            let resolved_at = resolved_at(response, &resolutions);
            items_total += 1;
            open_total += u64::from(resolved_at.is_none() && classified.label != Intent::Purchase);
            if items.len() == INTENT_ITEMS_MAX {
                continue;
            }
            items.push(IntentItem {
                id: reading.name(&response.fact.event.id),
                intent: classified.label,
                confidence: round(f64::from(classified.score()), 4),
                at: response.at,
                summary: response.digest.summary.to_string(),
                resolved: resolved_at.is_some(),
                resolved_at,
                channel: response.interaction.channel.clone(),
                thread_id: response.interaction.thread_id.clone(),
            });
        }
        Self { distribution: IntentCounts::of(shown), series, items, items_total, open_total }
    }
}

/// What was said about the resolution of each conversation, in order of time.
type Resolutions<'a> = HashMap<&'a str, Vec<(Timestamp, bool)>>;

fn resolutions<'a>(reading: &Reading<'a>) -> Resolutions<'a> {
    let mut said = Resolutions::new();
    // What was said before the window is not about what the window shows.
    for fact in &reading.facts[reading.shown_facts.start..] {
        let (thread, resolved) = match &fact.event.data {
            EventData::TicketStatusChanged(t) => {
                (Some(t.thread_id.as_str()), t.resolved.or(t.status.as_deref().and_then(means_resolved)))
            }
            EventData::InteractionReceived(i) => {
                (i.thread_id.as_deref(), i.ops.as_ref().and_then(|ops| ops.resolved))
            }
            _ => continue,
        };
        if let (Some(thread), Some(resolved)) = (thread, resolved) {
            said.entry(thread).or_default().push((fact.event.time, resolved));
        }
    }
    said
}

/// The names that ticket systems give to the end and to the other states of a ticket.
fn means_resolved(status: &str) -> Option<bool> {
    match status.to_lowercase().as_str() {
        "resolved" | "solved" | "closed" | "done" | "completed" => Some(true),
        "new" | "open" | "opened" | "reopened" | "pending" | "on_hold" | "in_progress" | "escalated" => {
            Some(false)
        }
        _ => None,
    }
}

/// When the matter of a response was resolved: the last word on its conversation, said with it or later.
fn resolved_at(response: &Response, resolutions: &Resolutions) -> Option<Timestamp> {
    let Some(thread) = &response.interaction.thread_id else {
        let resolved = response.interaction.ops.as_ref().and_then(|ops| ops.resolved);
        return resolved.filter(|r| *r).map(|_| response.at);
    };
    let said = resolutions.get(thread.as_str())?;
    let since = &said[said.partition_point(|(at, _)| *at < response.at)..];
    // Said several times in a row, the first time counts.
    let run = since.iter().rev().take_while(|(_, resolved)| *resolved).last();
    run.map(|(at, _)| *at)
}

//! What should be done, suggested from the active labels. Cases that somebody works on are kept elsewhere (C10, X11).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::highlights::Highlights;
use crate::insight::{reading::Reading, rules};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Action {
    /// What to do: call_back, save, win_back.
    pub kind: String,
    /// The label that asks for it.
    pub label: String,
    /// `suggested` here.
    pub state: String,
    pub owner_team: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub customer_told_at: Option<Timestamp>,
    pub evidence: Vec<String>,
    pub evidence_total: u64,
}

/// One suggestion for each active label, the most severe first.
pub fn of(reading: &Reading, highlights: &Highlights) -> Vec<Action> {
    let mut active: Vec<_> = highlights.labels.iter().filter(|l| l.active).collect();
    // Stable: equals stay in the order of the labels.
    active.sort_by_key(|l| std::cmp::Reverse(l.severity));
    let suggest = |label: &rules::Label| {
        let kind = match label.id.as_str() {
            rules::CHURNED => "win_back",
            rules::MAY_SWITCH => "save",
            _ => "call_back",
        };
        let route = reading.settings.routing.iter().find(|r| r.label == label.id);
        Action {
            kind: kind.into(),
            label: label.id.clone(),
            state: "suggested".into(),
            owner_team: route.map(|r| r.team.clone()),
            due_at: None,
            customer_told_at: None,
            evidence: label.evidence.clone(),
            evidence_total: label.evidence_total,
        }
    };
    active.into_iter().map(suggest).collect()
}

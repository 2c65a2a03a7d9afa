//! What should be done, suggested from the active labels. Cases that somebody works on are kept elsewhere (C10, X11).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

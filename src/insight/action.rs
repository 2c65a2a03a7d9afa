//! Cases: what the log says about an action that somebody works on, and how changes add up to its state (C10, X11).
//!
//! A case is a row of changes in the log like everything else that happens to a record, so it follows conversions and
//! merges, falls with an erasure, survives restarts, and a document stays a function of its events. No change is ever
//! rewritten: the last word on each field holds.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::event::{EventId, RecordKey};

/// The type of a change in the log. Only the server itself writes it: `POST /v1/events` refuses it.
pub const CHANGED: &str = "hearken.action.changed.v1";
/// The `source` of these events.
pub const SOURCE: &str = "hearken/actions";

/// Most characters of a note, and of a team's or person's name.
pub const NOTE_CHARS_MAX: usize = 4_000;
pub const NAME_CHARS_MAX: usize = 200;

/// How far a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionState {
    Open,
    InProgress,
    Done,
    Dismissed,
}

impl ActionState {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::InProgress => "in_progress",
            Self::Done => "done",
            Self::Dismissed => "dismissed",
        }
    }

    pub fn is_closed(self) -> bool {
        matches!(self, Self::Done | Self::Dismissed)
    }
}

/// What a change sets: an absent field stays as it was, null clears it (RFC 7396).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ActionPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ActionState>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    pub owner_team: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    pub assignee: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Option<Timestamp>>,
    /// When the customer was told that it is fixed.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub customer_told_at: Option<Option<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    pub note: Option<Option<String>>,
}

/// Tells null from absent: what is there at all was said.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(value).map(Some)
}

impl ActionPatch {
    /// Whether it changes nothing, whatever it is applied to.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Names what is too long or empty: a JSON pointer, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for (pointer, text, chars_max) in [
            ("/owner_team", &self.owner_team, NAME_CHARS_MAX),
            ("/assignee", &self.assignee, NAME_CHARS_MAX),
            ("/note", &self.note, NOTE_CHARS_MAX),
        ] {
            let Some(Some(text)) = text else { continue };
            if text.trim().is_empty() {
                return Err((pointer, "give some text, or null to clear it".into()));
            }
            if text.chars().count() > chars_max {
                return Err((pointer, format!("at most {chars_max} characters")));
            }
        }
        Ok(())
    }
}

/// One change of a case, as the log holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionChange {
    pub record: RecordKey,
    /// Id of the case.
    pub action: String,
    pub kind: String,
    /// The label that asks for it, or the rule of the alert that did.
    pub label: String,
    #[serde(default)]
    pub severity: Option<u8>,
    /// What the case rests on.
    #[serde(default)]
    pub cause: Option<EventId>,
    /// Opened by a routing rule. Such a case falls with its cause, unless somebody has changed it since.
    #[serde(default)]
    pub by_rule: bool,
    #[serde(default)]
    pub set: ActionPatch,
}

/// A case as its changes have left it.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub id: String,
    pub kind: String,
    pub label: String,
    pub severity: Option<u8>,
    pub cause: Option<EventId>,
    pub state: ActionState,
    pub owner_team: Option<String>,
    pub assignee: Option<String>,
    pub due_at: Option<Timestamp>,
    pub customer_told_at: Option<Timestamp>,
    pub note: Option<String>,
    pub opened_at: Timestamp,
    pub changed_at: Timestamp,
    pub changes: u64,
}

impl Case {
    fn open(change: &ActionChange, at: Timestamp) -> Self {
        Self {
            id: change.action.clone(),
            kind: change.kind.clone(),
            label: change.label.clone(),
            severity: change.severity,
            cause: change.cause.clone(),
            state: ActionState::Open,
            owner_team: None,
            assignee: None,
            due_at: None,
            customer_told_at: None,
            note: None,
            opened_at: at,
            changed_at: at,
            changes: 0,
        }
    }

    fn apply(&mut self, change: &ActionChange, at: Timestamp) {
        let set = &change.set;
        let text = |field: &mut Option<String>, to: &Option<Option<String>>| {
            if let Some(to) = to {
                field.clone_from(to);
            }
        };
        text(&mut self.owner_team, &set.owner_team);
        text(&mut self.assignee, &set.assignee);
        text(&mut self.note, &set.note);
        self.state = set.state.unwrap_or(self.state);
        self.due_at = set.due_at.unwrap_or(self.due_at);
        self.customer_told_at = set.customer_told_at.unwrap_or(self.customer_told_at);
        self.cause = self.cause.take().or_else(|| change.cause.clone());
        self.changed_at = at;
        self.changes += 1;
    }
}

/// The cases that changes, in order of time, add up to, in the order in which they were opened.
pub fn cases<'a>(changes: impl Iterator<Item = (Timestamp, &'a ActionChange)>) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (at, change) in changes {
        let place = cases.iter().position(|case| case.id == change.action).unwrap_or_else(|| {
            cases.push(Case::open(change, at));
            cases.len() - 1
        });
        cases[place].apply(change, at);
    }
    cases
}

/// The id of the `number`th case of a record for a label: the same whenever it is asked for.
pub fn id(record: &RecordKey, label: &str, number: usize) -> String {
    name("act", &[&record.module, &record.id, label, &number.to_string()])
}

/// A short name made of parts: `prefix_` and 96 bits of their SHA-256.
pub fn name(prefix: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().take(12).map(|b| format!("{b:02x}")).collect();
    format!("{prefix}_{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(set: serde_json::Value) -> ActionChange {
        ActionChange {
            record: RecordKey { module: "contact".into(), id: "1".into() },
            action: "act_1".into(),
            kind: "call_back".into(),
            label: "negative_customer".into(),
            severity: Some(2),
            cause: None,
            by_rule: false,
            set: serde_json::from_value(set).unwrap(),
        }
    }

    #[test]
    fn the_last_word_on_each_field_holds_and_null_clears() {
        let changes = [
            change(serde_json::json!({"owner_team": "care", "note": "called"})),
            change(serde_json::json!({"state": "done"})),
            change(serde_json::json!({"note": null, "customer_told_at": "2026-03-01T00:00:00Z"})),
        ];
        let at = |i: usize| Timestamp::from_second(i as i64).unwrap();
        let found = cases(changes.iter().enumerate().map(|(i, c)| (at(i), c)));
        let case = &found[0];
        assert_eq!(found.len(), 1);
        assert_eq!(
            (case.state, case.owner_team.as_deref(), &case.note),
            (ActionState::Done, Some("care"), &None)
        );
        assert_eq!((case.opened_at, case.changed_at, case.changes), (at(0), at(2), 3));
        assert!(case.customer_told_at.is_some());
    }

    #[test]
    fn a_patch_is_written_as_it_was_said() {
        for json in [r#"{}"#, r#"{"state":"in_progress","due_at":null}"#, r#"{"note":"a"}"#] {
            let patch: ActionPatch = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&patch).unwrap(), json);
        }
        assert!(serde_json::from_str::<ActionPatch>(r#"{"states":"done"}"#).is_err());
        let long = ActionPatch { note: Some(Some("x".repeat(NOTE_CHARS_MAX + 1))), ..ActionPatch::default() };
        assert_eq!(long.check().unwrap_err().0, "/note");
    }
}

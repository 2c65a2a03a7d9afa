//! Texts to scores: the one thing the pipeline wants of the engine, and the form in which its answers are kept.

use std::{collections::BTreeMap, time::Duration};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{Engine, EngineError, Lane, ScoreOptions, Tasks},
    insight::{event::Interaction, history::ModelRevisions},
    scores::Scores,
    text::mail,
};

/// Scores texts behind all interactive work.
pub trait Scorer: Send + Sync + 'static {
    fn score(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Scored, ScorerError>>;
}

/// The answer to one call.
#[derive(Clone, Debug)]
pub struct Scored {
    /// One per text, in order; an error is about that text alone and will not pass.
    pub results: Vec<Result<Scores, String>>,
    /// Slot to revision of the models that answered.
    pub models: ModelRevisions,
}

/// Why a call has no answer; it is made again later.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ScorerError {
    pub reason: String,
    /// When to try again, where the scorer can tell.
    pub retry_after: Option<Duration>,
    /// Whether fewer texts at once might do.
    pub too_much: bool,
}

impl Scorer for Engine {
    fn score(&self, texts: Vec<String>) -> BoxFuture<'static, Result<Scored, ScorerError>> {
        let engine = self.clone();
        Box::pin(async move {
            let options = ScoreOptions { tasks: Tasks::ALL, lane: Lane::Bulk, deadline: None };
            let reply = Engine::score(&engine, texts, options).await.map_err(|error| ScorerError {
                reason: format!("the models do not answer: {error}"),
                retry_after: match &error {
                    EngineError::Overloaded { retry_after, .. } => Some(*retry_after),
                    _ => None,
                },
                too_much: matches!(error, EngineError::Overloaded { .. }),
            })?;
            Ok(Scored {
                results: reply.results.into_iter().map(|r| r.map_err(|e| e.to_string())).collect(),
                models: reply.models.into_iter().map(|(slot, m)| (slot.to_owned(), m.revision)).collect(),
            })
        })
    }
}

/// What the log keeps beside an interaction, so that no document ever asks a model again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredScores {
    /// Version of this form.
    v: u32,
    pub scores: Option<Scores>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: ModelRevisions,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unscored: Option<String>,
}

const STORED_VERSION: u32 = 1;

impl StoredScores {
    pub fn new(result: Result<Scores, String>, models: &ModelRevisions) -> Self {
        match result {
            Ok(scores) => {
                Self { v: STORED_VERSION, scores: Some(scores), models: models.clone(), unscored: None }
            }
            Err(why) => {
                Self { v: STORED_VERSION, scores: None, models: ModelRevisions::new(), unscored: Some(why) }
            }
        }
    }

    pub fn to_json(&self) -> String {
        // Cannot fail: string keys only, and probabilities are finite.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`StoredScores::to_json`] wrote.
    pub fn read(json: &str) -> Result<Self, String> {
        let stored: Self = serde_json::from_str(json).map_err(|e| e.to_string())?;
        match stored.v {
            STORED_VERSION => Ok(stored),
            other => Err(format!("scores of version {other}; this build knows {STORED_VERSION}")),
        }
    }
}

/// The text to score of an interaction: the customer's, as long as [`Interaction::customer_text`] so that offsets hold
/// there, with blanks where an e-mail quotes what it answers or is signed.
pub fn text_to_score(interaction: &Interaction) -> Option<String> {
    let text = interaction.customer_text()?;
    if !matches!(interaction.channel.to_ascii_lowercase().as_str(), "email" | "e-mail" | "mail") {
        return Some(text);
    }
    let mut own = String::with_capacity(text.len());
    let mut at = 0;
    for range in mail::own_words(&text) {
        own.extend(text[at..range.start].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        own.push_str(&text[range.clone()]);
        at = range.end;
    }
    Some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interaction(channel: &str, text: &str) -> Interaction {
        serde_json::from_value(serde_json::json!({
            "record": {"module": "contact", "id": "1"}, "channel": channel, "text": text
        }))
        .unwrap()
    }

    #[test]
    fn quoted_mail_is_not_scored_and_offsets_stay() {
        let text = "> you wrote\nThe line is dead again.\n> and more\nSee you";
        let scored = text_to_score(&interaction("email", text)).unwrap();
        let at = text.find("line").unwrap();
        assert_eq!(&scored[at..at + 4], "line");
        assert!(!scored.contains("wrote") && !scored.contains("more"), "{scored:?}");
        assert_eq!(text_to_score(&interaction("chat", text)).unwrap(), text);
    }

    #[test]
    fn stored_scores_come_back_as_they_went() {
        let models = ModelRevisions::from([("sentiment".into(), "sha256:1".into())]);
        let scores = Scores { language: Some("fr".into()), tokens: 3, ..Scores::default() };
        for stored in [
            StoredScores::new(Ok(scores), &models),
            StoredScores::new(Err("the text is empty".into()), &models),
        ] {
            assert_eq!(StoredScores::read(&stored.to_json()).unwrap(), stored);
        }
        // As version 1 wrote it.
        let old = r#"{"v":1,"scores":{"language":null,"tokens":1,"truncated":false,"sentiment":{"label":"negative","probabilities":[0.9,0.1,0.0]},"intent":null,"keyphrases":null,"sentences":[]},"models":{"sentiment":"sha256:1"}}"#;
        assert_eq!(StoredScores::read(old).unwrap().to_json(), old);
        assert!(StoredScores::read(r#"{"v":9,"scores":null}"#).unwrap_err().contains("version 9"));
    }
}

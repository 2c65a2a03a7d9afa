//! The wire form of what the models said about a text: shared by `/v1/score` and the interactions of a record.

use serde::Serialize;
use utoipa::ToSchema;

use std::collections::BTreeMap;

use crate::scores::{Classified, Emotion, Intent, Label, Scores, Sentiment};

/// What the models said about one text. A task that was not asked for is absent.
#[derive(Serialize, ToSchema)]
pub struct Scored {
    /// ISO 639-1 code, where it could be told.
    #[schema(example = "fr")]
    pub language: Option<String>,
    /// Tokens of the text, without the special ones.
    pub tokens: u32,
    /// True where part of the text did not go through a model.
    pub truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentiment: Option<SentimentResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intent: Option<IntentResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyphrases: Option<Vec<KeyphraseResult>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emotion: Option<EmotionResult>,
}

#[derive(Serialize, ToSchema)]
pub struct SentimentResult {
    pub label: Sentiment,
    /// Probability of the label.
    pub score: f32,
    pub scores: SentimentScores,
}

/// Probabilities; they sum to 1 up to rounding.
#[derive(Serialize, ToSchema)]
pub struct SentimentScores {
    pub negative: f32,
    pub neutral: f32,
    pub positive: f32,
}

#[derive(Serialize, ToSchema)]
pub struct IntentResult {
    pub label: Intent,
    /// Probability of the label.
    pub score: f32,
    pub scores: IntentScores,
}

/// Probabilities; they sum to 1 up to rounding.
#[derive(Serialize, ToSchema)]
pub struct IntentScores {
    pub complaint: f32,
    pub purchase: f32,
    pub request: f32,
    pub other: f32,
}

#[derive(Serialize, ToSchema)]
pub struct EmotionResult {
    pub label: Emotion,
    /// Probability of the label.
    pub score: f32,
    /// Probability of every label by its name; they sum to 1 up to rounding.
    pub scores: BTreeMap<&'static str, f32>,
}

/// A phrase that names what the text is about. Offsets count Unicode scalar values: `text[start:end]` in Python.
#[derive(Serialize, ToSchema)]
pub struct KeyphraseResult {
    #[schema(example = "connection quality")]
    pub text: String,
    pub start: u32,
    pub end: u32,
    pub score: f32,
    pub sentiment: Option<Sentiment>,
}

impl From<Classified<Sentiment>> for SentimentResult {
    fn from(c: Classified<Sentiment>) -> Self {
        let scores = SentimentScores {
            negative: c.probability(Sentiment::Negative),
            neutral: c.probability(Sentiment::Neutral),
            positive: c.probability(Sentiment::Positive),
        };
        Self { label: c.label, score: c.score(), scores }
    }
}

impl From<Classified<Intent>> for IntentResult {
    fn from(c: Classified<Intent>) -> Self {
        let scores = IntentScores {
            complaint: c.probability(Intent::Complaint),
            purchase: c.probability(Intent::Purchase),
            request: c.probability(Intent::Request),
            other: c.probability(Intent::Other),
        };
        Self { label: c.label, score: c.score(), scores }
    }
}

impl From<Classified<Emotion>> for EmotionResult {
    fn from(c: Classified<Emotion>) -> Self {
        let scores = Emotion::ALL.iter().map(|l| (l.name(), c.probability(*l))).collect();
        Self { label: c.label, score: c.score(), scores }
    }
}

impl From<Scores> for Scored {
    fn from(scores: Scores) -> Self {
        let keyphrase = |k: crate::scores::Keyphrase| KeyphraseResult {
            text: k.text,
            start: k.start,
            end: k.end,
            score: k.score,
            sentiment: k.sentiment,
        };
        Self {
            language: scores.language,
            tokens: scores.tokens,
            truncated: scores.truncated,
            sentiment: scores.sentiment.map(Into::into),
            intent: scores.intent.map(Into::into),
            keyphrases: scores.keyphrases.map(|all| all.into_iter().map(keyphrase).collect()),
            emotion: scores.emotion.map(Into::into),
        }
    }
}

/// Every label of a set with its probability, the likeliest first; ties in the order of the set.
pub fn ranked<L: Label>(classified: &Classified<L>) -> Vec<(&'static str, f32)> {
    let mut all: Vec<_> = L::ALL.iter().map(|l| (l.name(), classified.probability(*l))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_order_and_numbers_stay_short() {
        let scores =
            Scores { sentiment: Classified::new(&[0.92999, 0.05, 0.02]), tokens: 3, ..Scores::default() };
        assert_eq!(
            serde_json::to_string(&Scored::from(scores)).unwrap(),
            r#"{"language":null,"tokens":3,"truncated":false,"sentiment":{"label":"negative","score":0.93,"scores":{"negative":0.93,"neutral":0.05,"positive":0.02}}}"#
        );
    }

    #[test]
    fn ranking_puts_the_likeliest_first() {
        let intent = Classified::<Intent>::new(&[0.1, 0.6, 0.1, 0.2]).unwrap();
        let names: Vec<_> = ranked(&intent).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["purchase", "other", "complaint", "request"]);
    }
}

//! What the models said about one text: the only value that passes from the engine to the insight documents.
//!
//! Labels are closed sets here. A model whose labels cannot be mapped onto them is refused when it is loaded, so that
//! nothing further down ever meets an unknown label. Offsets count Unicode scalar values, as in the public API.

use serde::{Deserialize, Serialize};

/// How a customer feels about what they write about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Sentiment {
    Negative,
    Neutral,
    Positive,
}

/// What a customer wants from the company.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    Complaint,
    Purchase,
    Request,
    Other,
}

/// What a customer feels, finer than [`Sentiment`].
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Emotion {
    Neutral,
    Frustration,
    Anger,
    Joy,
    Disappointment,
    Gratitude,
    Trust,
    Anxiety,
    Enthusiasm,
    Confusion,
    Sadness,
}

/// A closed set of labels, in the order in which probabilities are stored.
pub trait Label: Copy + Eq + std::fmt::Debug + 'static {
    const ALL: &'static [Self];
    fn name(self) -> &'static str;
    fn index(self) -> usize {
        // Cannot fail: ALL lists every variant.
        Self::ALL.iter().position(|l| *l == self).unwrap_or(0)
    }
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|l| l.name() == name)
    }
}

impl Label for Sentiment {
    const ALL: &'static [Self] = &[Self::Negative, Self::Neutral, Self::Positive];
    fn name(self) -> &'static str {
        match self {
            Self::Negative => "negative",
            Self::Neutral => "neutral",
            Self::Positive => "positive",
        }
    }
}

impl Label for Intent {
    const ALL: &'static [Self] = &[Self::Complaint, Self::Purchase, Self::Request, Self::Other];
    fn name(self) -> &'static str {
        match self {
            Self::Complaint => "complaint",
            Self::Purchase => "purchase",
            Self::Request => "request",
            Self::Other => "other",
        }
    }
}

impl Label for Emotion {
    const ALL: &'static [Self] = &[
        Self::Neutral,
        Self::Frustration,
        Self::Anger,
        Self::Joy,
        Self::Disappointment,
        Self::Gratitude,
        Self::Trust,
        Self::Anxiety,
        Self::Enthusiasm,
        Self::Confusion,
        Self::Sadness,
    ];
    fn name(self) -> &'static str {
        match self {
            Self::Neutral => "neutral",
            Self::Frustration => "frustration",
            Self::Anger => "anger",
            Self::Joy => "joy",
            Self::Disappointment => "disappointment",
            Self::Gratitude => "gratitude",
            Self::Trust => "trust",
            Self::Anxiety => "anxiety",
            Self::Enthusiasm => "enthusiasm",
            Self::Confusion => "confusion",
            Self::Sadness => "sadness",
        }
    }
}

/// A probability for every label of a set, and the likeliest one.
///
/// Probabilities are rounded to [`PROBABILITY_STEP`] when they are made, so that the value that is stored, served and
/// folded is one and the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classified<L> {
    pub label: L,
    /// One per entry of `L::ALL`, in that order.
    pub probabilities: Vec<f32>,
}

/// Probabilities carry four decimals.
pub const PROBABILITY_STEP: f32 = 1e-4;

impl<L: Label> Classified<L> {
    /// The first of the likeliest labels wins a tie. Returns `None` unless there is one finite probability per label.
    pub fn new(probabilities: &[f32]) -> Option<Self> {
        if probabilities.len() != L::ALL.len() || probabilities.iter().any(|p| !p.is_finite()) {
            return None;
        }
        let rounded: Vec<f32> =
            probabilities.iter().map(|p| (f64::from(*p) * 1e4).round() as f32 / 1e4).collect();
        let mut best = 0;
        for (i, p) in rounded.iter().enumerate() {
            if *p > rounded[best] {
                best = i;
            }
        }
        Some(Self { label: L::ALL[best], probabilities: rounded })
    }

    /// The probability of the likeliest label.
    pub fn score(&self) -> f32 {
        self.probabilities[self.label.index()]
    }

    pub fn probability(&self, label: L) -> f32 {
        self.probabilities[label.index()]
    }
}

/// A phrase that names what the text is about, with the sentiment toward it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Keyphrase {
    pub text: String,
    /// Offset of the first character, in Unicode scalar values.
    pub start: u32,
    /// Offset after the last character.
    pub end: u32,
    pub score: f32,
    pub sentiment: Option<Sentiment>,
}

/// One sentence of a text and the sentiment it expresses: mentions of competitors and watched phrases take theirs from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sentence {
    pub start: u32,
    pub end: u32,
    pub sentiment: Classified<Sentiment>,
}

/// Everything the models said about one text. A task that was not asked for, or has no model, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// ISO 639-1 code, where it could be told.
    pub language: Option<String>,
    /// Tokens of the text itself, without the special ones.
    pub tokens: u32,
    /// True where part of the text did not go through a model.
    pub truncated: bool,
    pub sentiment: Option<Classified<Sentiment>>,
    pub intent: Option<Classified<Intent>>,
    pub keyphrases: Option<Vec<Keyphrase>>,
    #[serde(default)]
    pub sentences: Vec<Sentence>,
    /// Absent in what was stored before models named emotions, and left out where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emotion: Option<Classified<Emotion>>,
}

//! What is asked of one text, and how answers of its windows become its scores.
//!
//! [`TextPlan`] says what to read, [`read`] reads it from an encoded batch, [`TextPlan::merge`] puts the windows of a
//! text together. Sentences and keyphrases get their sentiment from the hidden states of the text's own pass.

pub mod classify;
pub mod keyphrase;

pub mod entities;
pub mod raw;

pub mod plan;

pub mod windows;

use std::{collections::BTreeMap, ops::Range};

use self::{
    classify::{Classifier, classified, weighted_mean},
    keyphrase::{PhraseSpan, PhraseTagger, trimmed, without_overlaps},
    windows::{Window, best_window, windows},
};
use super::{
    Tasks, TextError,
    error::ModelError,
    executor::{Encoded, ExecutorError},
    heads::Pooling,
    model::Served,
    tokenize::{Tokenizer, Tokens, tokens_in},
};
use crate::{
    scores::{Emotion, Intent, Keyphrase, Scores, Sentence, Sentiment},
    text::{language, offsets::ScalarOffsets, sentence},
};

/// The heads of a model that answer a task, each checked against the labels it must have.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    pub sentiment: Option<Classifier>,
    pub intent: Option<Classifier>,
    pub keyphrases: Option<PhraseTagger>,
    pub emotion: Option<Classifier>,
}

impl Slots {
    /// The heads in slots of ours, each checked against the labels that it must have; other slots are left alone.
    pub fn new(served: &BTreeMap<String, Served>) -> Result<Self, ModelError> {
        let mut slots = Self::default();
        for (slot, s) in served {
            let (id, head, map) = (s.id, s.spec(), &s.member.labels);
            match slot.as_str() {
                "sentiment" => slots.sentiment = Some(Classifier::new::<Sentiment>(slot, id, head, map)?),
                "intent" => slots.intent = Some(Classifier::new::<Intent>(slot, id, head, map)?),
                "keyphrases" => slots.keyphrases = Some(PhraseTagger::new(slot, id, head, map)?),
                "emotion" => slots.emotion = Some(Classifier::new::<Emotion>(slot, id, head, map)?),
                _ => {}
            }
        }
        Ok(slots)
    }

    /// Whether a slot is one of ours and filled.
    pub fn fills(&self, slot: &str) -> bool {
        match slot {
            "sentiment" => self.sentiment.is_some(),
            "intent" => self.intent.is_some(),
            "keyphrases" => self.keyphrases.is_some(),
            "emotion" => self.emotion.is_some(),
            _ => false,
        }
    }

    pub fn is_empty(&self) -> bool {
        !Tasks::ALL.slots().any(|slot| self.fills(slot))
    }

    /// The sentiment head, where it can also judge a part of a text: one that reads the first token cannot.
    fn span_sentiment(&self) -> Option<&Classifier> {
        self.sentiment.as_ref().filter(|c| c.pooling == Pooling::Mean)
    }
}

/// One text, ready for the model.
pub struct TextPlan {
    text: String,
    tasks: Tasks,
    tokens: Tokens,
    windows: Vec<Window>,
    sentences: Vec<SentencePlan>,
    language: Option<&'static str>,
}

struct SentencePlan {
    bytes: Range<usize>,
    tokens: Range<usize>,
    window: usize,
}

impl TextPlan {
    /// Tokenises, cuts into windows of at most `window_tokens_max` (special tokens not counted), finds the sentences.
    pub fn new(
        text: String,
        tasks: Tasks,
        tokenizer: &Tokenizer,
        window_tokens_max: usize,
    ) -> Result<Self, TextError> {
        if text.trim().is_empty() {
            return Err(TextError::Empty);
        }
        let tokens = tokenizer.encode(&text)?;
        if tokens.ids.is_empty() && tokenizer.frame_len() == 0 {
            return Err(TextError::Empty);
        }
        let windows = windows(tokens.ids.len(), window_tokens_max);
        let sentences = if tasks.sentiment { sentence_plans(&text, &tokens, &windows) } else { Vec::new() };
        let language = language::detect(&text);
        Ok(Self { text, tasks, tokens, windows, sentences, language })
    }

    pub fn windows(&self) -> usize {
        self.windows.len()
    }

    /// Tokens of the text, special ones left out.
    pub fn tokens(&self) -> usize {
        self.tokens.ids.len()
    }

    /// Token ids of a window, special ones left out.
    pub fn window_ids(&self, window: usize) -> &[u32] {
        &self.tokens.ids[self.windows[window].tokens.clone()]
    }

    /// Puts the readings of all windows together, in their order.
    pub fn merge(&self, slots: &Slots, readings: &[Reading]) -> Result<Scores, TextError> {
        let whole = |classifier: &Classifier, logits: fn(&Reading) -> &[f32]| {
            let parts: Option<Vec<_>> = readings
                .iter()
                .zip(&self.windows)
                .map(|(r, w)| Some((classifier.probabilities(logits(r))?, w.owned.len())))
                .collect();
            parts.and_then(|p| weighted_mean(p.into_iter())).ok_or(TextError::NotFinite)
        };
        let scalars = ScalarOffsets::new(&self.text);
        let mut scores = Scores {
            language: self.language.map(str::to_owned),
            tokens: self.tokens.ids.len() as u32,
            truncated: self.tokens.truncated,
            ..Scores::default()
        };
        if let (true, Some(classifier)) = (self.tasks.sentiment, &slots.sentiment) {
            scores.sentiment = Some(classified(&whole(classifier, |r| &r.sentiment)?)?);
            scores.sentences = self.sentence_scores(classifier, &scalars, readings)?;
        }
        if let (true, Some(classifier)) = (self.tasks.intent, &slots.intent) {
            scores.intent = Some(classified(&whole(classifier, |r| &r.intent)?)?);
        }
        if let (true, Some(classifier)) = (self.tasks.emotion, &slots.emotion) {
            scores.emotion = Some(classified(&whole(classifier, |r| &r.emotion)?)?);
        }
        if self.tasks.keyphrases && slots.keyphrases.is_some() {
            scores.keyphrases = Some(self.phrases(slots, &scalars, readings)?);
        }
        Ok(scores)
    }

    /// Every label that readings of this text decide on, in a fixed order; `None` for one that is not finite.
    pub fn labels(&self, slots: &Slots, readings: &[Reading]) -> Vec<Option<usize>> {
        let likeliest = |classifier: &Classifier, logits: &[f32]| {
            let p = classifier.probabilities(logits)?;
            Some((0..p.len()).fold(0, |best, i| if p[i] > p[best] { i } else { best }))
        };
        let mut labels = Vec::new();
        let mut tokens = vec![Some(0); self.tokens.ids.len()];
        for reading in readings {
            if let Some(classifier) = &slots.sentiment {
                for logits in [&reading.sentiment, &reading.sentences] {
                    labels
                        .extend(logits.chunks_exact(classifier.outputs()).map(|l| likeliest(classifier, l)));
                }
            }
            for (classifier, logits) in [(&slots.intent, &reading.intent), (&slots.emotion, &reading.emotion)]
            {
                if let Some(classifier) = classifier {
                    labels
                        .extend(logits.chunks_exact(classifier.outputs()).map(|l| likeliest(classifier, l)));
                }
            }
            for phrase in reading.phrases.iter().flatten() {
                for (i, token) in phrase.span.tokens.clone().enumerate() {
                    tokens[token] = Some(if i == 0 { 1 } else { 2 });
                }
            }
        }
        if slots.keyphrases.is_some() {
            labels.extend(tokens);
        }
        labels
    }

    fn sentence_scores(
        &self,
        classifier: &Classifier,
        scalars: &ScalarOffsets,
        readings: &[Reading],
    ) -> Result<Vec<Sentence>, TextError> {
        let mut next = vec![0; readings.len()];
        let mut sentences = Vec::with_capacity(self.sentences.len());
        for plan in &self.sentences {
            let labels = classifier.outputs();
            let at = next[plan.window];
            next[plan.window] += labels;
            // A head that does not judge parts of a text has read none.
            let Some(logits) = readings[plan.window].sentences.get(at..at + labels) else { continue };
            sentences.push(Sentence {
                start: scalars.scalar(plan.bytes.start),
                end: scalars.scalar(plan.bytes.end),
                sentiment: classifier.classify(logits)?,
            });
        }
        Ok(sentences)
    }

    fn phrases(
        &self,
        slots: &Slots,
        scalars: &ScalarOffsets,
        readings: &[Reading],
    ) -> Result<Vec<Keyphrase>, TextError> {
        let mut found = Vec::new();
        for reading in readings {
            for phrase in reading.phrases.as_ref().ok_or(TextError::NotFinite)? {
                let tokens = &self.tokens.offsets[phrase.span.tokens.clone()];
                let start = tokens.iter().map(|o| o.start).min().unwrap_or(0);
                let end = tokens.iter().map(|o| o.end).max().unwrap_or(0);
                let sentiment = match (slots.span_sentiment(), &phrase.sentiment) {
                    (Some(classifier), Some(logits)) => Some(classifier.classify::<Sentiment>(logits)?.label),
                    _ => None,
                };
                if let Some(bytes) = trimmed(&self.text, start..end.max(start)) {
                    found.push((bytes, phrase.span.score, sentiment));
                }
            }
        }
        Ok(without_overlaps(found)
            .into_iter()
            .map(|(bytes, score, sentiment)| Keyphrase {
                text: self.text[bytes.clone()].to_owned(),
                start: scalars.scalar(bytes.start),
                end: scalars.scalar(bytes.end),
                score: ((score * 1e4).round() / 1e4) as f32,
                sentiment,
            })
            .collect())
    }
}

/// Sentences that have a token which is read, each with the window that holds it best.
fn sentence_plans(text: &str, tokens: &Tokens, windows: &[Window]) -> Vec<SentencePlan> {
    sentence::sentences(text)
        .into_iter()
        .filter_map(|bytes| {
            let tokens = tokens_in(&tokens.offsets, &bytes);
            let window = best_window(windows, &tokens)?;
            Some(SentencePlan { bytes, tokens, window })
        })
        .collect()
}

/// What one window of a text said. Empty where it was not asked.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    sentiment: Vec<f32>,
    intent: Vec<f32>,
    emotion: Vec<f32>,
    /// Logits of the sentences that this window holds, in order.
    sentences: Vec<f32>,
    /// `None` where a logit was not finite.
    phrases: Option<Vec<Phrase>>,
}

#[derive(Clone, Debug)]
struct Phrase {
    span: PhraseSpan,
    sentiment: Option<Vec<f32>>,
}

/// A window in an encoded batch.
pub struct Placed<'p> {
    pub plan: &'p TextPlan,
    pub window: usize,
    /// Row of the window's first token, special ones included.
    pub first_row: usize,
    /// Special tokens before the text's own.
    pub prefix_len: usize,
    /// Special tokens after them.
    pub suffix_len: usize,
}

impl Placed<'_> {
    fn window(&self) -> &Window {
        &self.plan.windows[self.window]
    }

    /// Rows of the text's own tokens.
    fn rows(&self) -> Range<usize> {
        let start = self.first_row + self.prefix_len;
        start..start + self.window().tokens.len()
    }

    fn first(&self) -> Range<usize> {
        self.first_row..self.first_row + 1
    }

    /// Rows of those of the text's `tokens` that this window reads; its first row where it reads none.
    fn rows_of(&self, tokens: &Range<usize>) -> Range<usize> {
        let read = &self.window().tokens;
        let from = tokens.start.max(read.start);
        let to = tokens.end.min(read.end);
        if from >= to {
            return self.first();
        }
        let base = self.first_row + self.prefix_len;
        base + from - read.start..base + to - read.start
    }

    fn pooled_rows(&self, pooling: Pooling) -> Range<usize> {
        match pooling {
            Pooling::Mean => self.rows_of(&self.window().tokens.clone()),
            Pooling::First => self.first(),
            Pooling::MeanWithSpecial => {
                let own = self.rows();
                self.first_row..own.end + self.suffix_len
            }
        }
    }

    fn sentences(&self) -> impl Iterator<Item = &SentencePlan> {
        self.plan.sentences.iter().filter(|s| s.window == self.window)
    }
}

/// Reads everything that was asked of the windows of a batch, with one product per head and kind of answer.
pub fn read(slots: &Slots, encoded: &dyn Encoded, placed: &[Placed]) -> Result<Vec<Reading>, ExecutorError> {
    let mut readings = vec![Reading::default(); placed.len()];
    let asks =
        |wanted: fn(&Tasks) -> bool| placed.iter().enumerate().filter(move |(_, p)| wanted(&p.plan.tasks));

    if let Some(tagger) = &slots.keyphrases {
        let rows: Vec<Range<usize>> = asks(|t| t.keyphrases).map(|(_, p)| p.rows()).collect();
        let logits = encoded.token_logits(tagger.head, &rows)?;
        let mut at = 0;
        for (i, p) in asks(|t| t.keyphrases) {
            let len = p.rows().len() * tagger.labels();
            let window = p.window();
            readings[i].phrases = tagger.spans(&logits[at..at + len], window.tokens.start).map(|spans| {
                spans
                    .into_iter()
                    .filter(|s| window.owned.contains(&s.tokens.start))
                    .map(|span| Phrase { span, sentiment: None })
                    .collect()
            });
            at += len;
        }
    }

    // Heads with one answer for the whole of a window.
    type Whole<'s> = (&'s Option<Classifier>, fn(&Tasks) -> bool, fn(&mut Reading) -> &mut Vec<f32>);
    let whole: [Whole; 2] = [
        (&slots.intent, |t| t.intent, |r| &mut r.intent),
        (&slots.emotion, |t| t.emotion, |r| &mut r.emotion),
    ];
    for (classifier, wanted, place) in whole {
        let Some(classifier) = classifier else { continue };
        let spans: Vec<Range<usize>> = asks(wanted).map(|(_, p)| p.pooled_rows(classifier.pooling)).collect();
        let logits = encoded.pooled_logits(classifier.head, &spans)?;
        let answers = logits.chunks_exact(classifier.outputs());
        for ((i, _), answer) in asks(wanted).zip(answers) {
            *place(&mut readings[i]) = answer.to_vec();
        }
    }

    if let Some(classifier) = &slots.sentiment {
        let parts = slots.span_sentiment().is_some();
        let mut spans = Vec::new();
        for (p, reading) in placed.iter().zip(&readings) {
            if p.plan.tasks.sentiment {
                spans.push(p.pooled_rows(classifier.pooling));
                if parts {
                    spans.extend(p.sentences().map(|s| p.rows_of(&s.tokens)));
                }
            }
            if parts {
                spans.extend(reading.phrases.iter().flatten().map(|f| p.rows_of(&f.span.tokens)));
            }
        }
        let logits = encoded.pooled_logits(classifier.head, &spans)?;
        let mut answers = logits.chunks_exact(classifier.outputs());
        // One answer was asked for above for each one taken here, in the same order.
        let mut answer = || answers.next().unwrap_or_default();
        for (p, reading) in placed.iter().zip(&mut readings) {
            if p.plan.tasks.sentiment {
                reading.sentiment = answer().to_vec();
                if parts {
                    for _ in p.sentences() {
                        reading.sentences.extend_from_slice(answer());
                    }
                }
            }
            if parts {
                for phrase in reading.phrases.iter_mut().flatten() {
                    phrase.sentiment = Some(answer().to_vec());
                }
            }
        }
    }
    Ok(readings)
}

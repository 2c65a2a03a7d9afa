//! One input of a request, whatever is asked of it: the scheduler and the forward pass know no difference.

use rayon::prelude::*;

use super::{
    Reading as ScoreReading, Slots, TextPlan,
    raw::{RawAnswer, RawAsk, RawInput, RawPlan, RawReading, Tokenised},
};
use crate::{
    engine::{Tasks, TextError, tokenize::Tokenizer},
    scores::Scores,
};

/// The inputs of a request, before they are tokenised.
pub enum Inputs {
    /// Texts for the closed sets of labels.
    Scores { texts: Vec<String>, tasks: Tasks },
    /// Inputs of a model that is asked in its own terms.
    Raw { inputs: Vec<RawInput>, ask: RawAsk },
    /// Every one of the first texts with every one of the second, each tokenised once; first texts are the outer order.
    Pairs { firsts: Vec<String>, seconds: Vec<String>, ask: RawAsk },
}

impl Inputs {
    /// Bytes of each input, for an estimate of its tokens.
    pub fn bytes(&self) -> Vec<usize> {
        match self {
            Inputs::Scores { texts, .. } => texts.iter().map(String::len).collect(),
            Inputs::Raw { inputs, .. } => {
                inputs.iter().map(|i| i.text.len() + i.pair.as_ref().map_or(0, String::len)).collect()
            }
            Inputs::Pairs { firsts, seconds, .. } => {
                firsts.iter().flat_map(|a| seconds.iter().map(|b| a.len() + b.len())).collect()
            }
        }
    }

    /// Tokenises and cuts into windows, inputs side by side.
    pub fn plans(self, tokenizer: &Tokenizer, window_tokens_max: usize) -> Vec<Result<Plan, TextError>> {
        let raw = |plan: Result<RawPlan, TextError>| plan.map(Plan::Raw);
        match self {
            Inputs::Scores { texts, tasks } => {
                each(texts, |text| TextPlan::new(text, tasks, tokenizer, window_tokens_max).map(Plan::Scores))
            }
            Inputs::Raw { inputs, ask } => {
                each(inputs, |input| raw(RawPlan::new(&input, ask.clone(), tokenizer, window_tokens_max)))
            }
            Inputs::Pairs { firsts, seconds, ask } => {
                let tokenised =
                    |texts: Vec<String>| each(texts, |text: String| Tokenised::new(&text, tokenizer));
                let (firsts, seconds) = (tokenised(firsts), tokenised(seconds));
                let pair = |a: &Result<Tokenised, TextError>, b: &Result<Tokenised, TextError>| {
                    RawPlan::of(a.clone()?, Some(b.clone()?), ask.clone(), tokenizer, window_tokens_max)
                };
                firsts
                    .iter()
                    .flat_map(|a| seconds.iter().map(move |b| (a, b)))
                    .map(|(a, b)| raw(pair(a, b)))
                    .collect()
            }
        }
    }
}

/// A single input is not worth another thread.
fn each<T: Send, R: Send>(items: Vec<T>, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    match items.len() {
        1 => items.into_iter().map(f).collect(),
        _ => items.into_par_iter().map(f).collect(),
    }
}

/// An input that is tokenised and cut into windows.
pub enum Plan {
    Scores(TextPlan),
    Raw(RawPlan),
}

/// What one window said.
#[derive(Clone, Debug)]
pub enum Reading {
    Scores(ScoreReading),
    Raw(RawReading),
}

/// What is answered about one input.
pub enum Output {
    Scores(Scores),
    Raw(RawAnswer),
}

impl Plan {
    pub fn windows(&self) -> usize {
        match self {
            Plan::Scores(plan) => plan.windows(),
            Plan::Raw(plan) => plan.windows(),
        }
    }

    /// Tokens of the input, special ones left out.
    pub fn tokens(&self) -> usize {
        match self {
            Plan::Scores(plan) => plan.tokens(),
            Plan::Raw(plan) => plan.tokens(),
        }
    }

    /// Puts the readings of all windows together, in their order.
    pub fn merge(
        &self,
        slots: &Slots,
        tokenizer: &Tokenizer,
        readings: Vec<Reading>,
    ) -> Result<Output, TextError> {
        match self {
            Plan::Scores(plan) => plan.merge(slots, &scored(readings)).map(Output::Scores),
            Plan::Raw(plan) => {
                let readings: Vec<&RawReading> = raw(&readings).collect();
                plan.merge(tokenizer, &readings).map(Output::Raw)
            }
        }
    }

    /// Every label that readings of this input decide on, in a fixed order; `None` for one that is not finite.
    pub fn labels(&self, slots: &Slots, readings: &[Reading]) -> Vec<Option<usize>> {
        match self {
            Plan::Scores(plan) => plan.labels(slots, &scored(readings.to_vec())),
            Plan::Raw(plan) => raw(readings).flat_map(|r| plan.labels(r)).collect(),
        }
    }
}

fn scored(readings: Vec<Reading>) -> Vec<ScoreReading> {
    let own = |r| match r {
        Reading::Scores(reading) => Some(reading),
        Reading::Raw(_) => None,
    };
    readings.into_iter().filter_map(own).collect()
}

fn raw(readings: &[Reading]) -> impl Iterator<Item = &RawReading> {
    readings.iter().filter_map(|r| match r {
        Reading::Raw(reading) => Some(reading),
        Reading::Scores(_) => None,
    })
}

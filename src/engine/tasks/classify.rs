//! From logits to the probabilities of a closed set of labels.

use crate::{
    engine::{
        TextError,
        error::ModelError,
        executor::HeadId,
        heads::{HeadSpec, HeadTask, Pooling},
    },
    scores::{Classified, Label},
};

/// A head whose labels are known to be those of `L`.
#[derive(Clone, Debug)]
pub struct Classifier {
    pub head: HeadId,
    pub pooling: Pooling,
    temperature: f32,
    /// For each label of the set, its place among the head's logits.
    places: Vec<usize>,
}

impl Classifier {
    /// Refuses a head whose task or labels do not fit.
    pub fn new<L: Label>(head: HeadId, spec: &HeadSpec) -> Result<Self, ModelError> {
        if spec.task != HeadTask::TextClassification {
            return Err(ModelError::head(&spec.name, "is not a text classifier"));
        }
        let places: Option<Vec<usize>> =
            L::ALL.iter().map(|label| spec.labels.iter().position(|l| l == label.name())).collect();
        match places {
            Some(places) if spec.labels.len() == L::ALL.len() => {
                Ok(Self { head, pooling: spec.pooling, temperature: spec.temperature, places })
            }
            _ => Err(ModelError::head(
                &spec.name,
                format!(
                    "has the labels {}; it must have {}",
                    spec.labels.join(", "),
                    L::ALL.iter().map(|l| l.name()).collect::<Vec<_>>().join(", ")
                ),
            )),
        }
    }

    pub fn labels(&self) -> usize {
        self.places.len()
    }

    /// Probabilities in the order of the label set; `None` where a logit is not finite.
    pub fn probabilities(&self, logits: &[f32]) -> Option<Vec<f64>> {
        let scaled: Vec<f64> =
            self.places.iter().map(|p| f64::from(logits[*p]) / f64::from(self.temperature)).collect();
        softmax(&scaled)
    }

    pub fn classify<L: Label>(&self, logits: &[f32]) -> Result<Classified<L>, TextError> {
        classified(&self.probabilities(logits).ok_or(TextError::NotFinite)?)
    }
}

pub fn classified<L: Label>(probabilities: &[f64]) -> Result<Classified<L>, TextError> {
    let probabilities: Vec<f32> = probabilities.iter().map(|p| *p as f32).collect();
    Classified::new(&probabilities).ok_or(TextError::NotFinite)
}

/// `None` where a logit is not finite.
pub fn softmax(logits: &[f64]) -> Option<Vec<f64>> {
    if logits.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|x| (x - max).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    Some(exponentials.into_iter().map(|e| e / sum).collect())
}

/// The mean of several windows' probabilities, weighted by the tokens each answers for.
pub fn weighted_mean(parts: impl Iterator<Item = (Vec<f64>, usize)>) -> Option<Vec<f64>> {
    let mut sum: Vec<f64> = Vec::new();
    let mut weight = 0.0;
    for (probabilities, tokens) in parts {
        // A text without tokens still has one window, and one answer.
        let w = tokens.max(1) as f64;
        sum.resize(probabilities.len(), 0.0);
        sum.iter_mut().zip(&probabilities).for_each(|(s, p)| *s += w * p);
        weight += w;
    }
    (weight > 0.0).then(|| sum.into_iter().map(|s| s / weight).collect())
}

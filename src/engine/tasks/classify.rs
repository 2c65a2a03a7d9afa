//! From logits to the probabilities of a closed set of labels.

use crate::{
    engine::{
        TextError,
        error::ModelError,
        executor::HeadId,
        heads::{Activation, HeadSpec, HeadTask, Pooling},
        mapping,
        source::LabelMap,
    },
    scores::{Classified, Label},
};

/// A head whose labels are known to be those of `L`.
#[derive(Clone, Debug)]
pub struct Classifier {
    pub head: HeadId,
    pub pooling: Pooling,
    temperature: f32,
    activation: Activation,
    /// For each label of the set, the places among the head's logits that mean it.
    places: Vec<Vec<usize>>,
    /// Logits of an answer.
    outputs: usize,
}

impl Classifier {
    /// Refuses a head whose task or labels do not fit. Labels are mapped as [`mapping`] says.
    pub fn new<L: Label>(
        slot: &str,
        head: HeadId,
        spec: &HeadSpec,
        map: &LabelMap,
    ) -> Result<Self, ModelError> {
        if spec.task != HeadTask::TextClassification {
            return Err(ModelError::head(slot, "is not a text classifier"));
        }
        if spec.activation == Activation::Identity {
            return Err(ModelError::head(slot, "is a regression, which has no labels"));
        }
        Ok(Self {
            head,
            pooling: spec.pooling,
            temperature: spec.temperature,
            activation: spec.activation,
            places: mapping::places::<L>(slot, &spec.labels, map)?,
            outputs: spec.labels.len(),
        })
    }

    /// Logits of an answer.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Probabilities in the order of the label set; `None` where a logit is not finite. Labels of the head that mean the
    /// same are added up. Where the head judges each label by itself, its scores are taken as shares of their sum.
    pub fn probabilities(&self, logits: &[f32]) -> Option<Vec<f64>> {
        let scaled: Vec<f64> = logits.iter().map(|l| f64::from(*l) / f64::from(self.temperature)).collect();
        let own = match self.activation {
            Activation::Sigmoid => {
                let sigmoids: Vec<f64> = scaled.iter().map(|l| 1.0 / (1.0 + (-l).exp())).collect();
                let sum: f64 = sigmoids.iter().sum();
                (sum.is_finite() && sum > 0.0).then(|| sigmoids.into_iter().map(|s| s / sum).collect())?
            }
            _ => softmax(&scaled)?,
        };
        Some(self.places.iter().map(|places| places.iter().map(|p| own[*p]).sum()).collect())
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

//! Zero-shot classification by natural language inference: does "This example is LABEL." follow from the text?
//!
//! Yin, Hay and Roth 2019, "Benchmarking Zero-shot Text Classification"; scores as the pipeline of `transformers` makes
//! them: over the entailment logits of all labels, or, where several labels may hold, entailment against contradiction
//! for each by itself.

use super::{ModelInfo, RawOutput, RawReply, TextError, Timing, tasks::classify::softmax};

/// The labels that a caller asks about.
#[derive(Clone, Debug)]
pub struct ZeroShot {
    labels: Vec<String>,
    template: String,
    multi_label: bool,
}

/// Labels of one question.
const LABELS_MAX: usize = 200;
/// What stands for the label in a template.
const GAP: &str = "{}";

/// Why a question cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZeroShotError {
    #[error("there is no label to choose from")]
    NoLabels,
    #[error("{0} labels are more than {LABELS_MAX}")]
    TooManyLabels(usize),
    #[error("label number {0} is empty")]
    EmptyLabel(usize),
    #[error("the template {0:?} has no {{}} where the label goes")]
    NoGap(String),
}

/// The labels with their scores, in the order of the question.
#[derive(Clone, Debug, PartialEq)]
pub struct ZeroShotResult {
    pub scores: Vec<f64>,
    pub tokens: u32,
    pub truncated: bool,
}

pub struct ZeroShotReply {
    /// One per text, in order.
    pub results: Vec<Result<ZeroShotResult, TextError>>,
    pub model: ModelInfo,
    /// Tokens over all pairs.
    pub tokens: usize,
    pub timing: Timing,
}

impl ZeroShot {
    pub const TEMPLATE: &str = "This example is {}.";

    pub fn new(
        labels: Vec<String>,
        template: Option<String>,
        multi_label: bool,
    ) -> Result<Self, ZeroShotError> {
        let template = template.unwrap_or_else(|| Self::TEMPLATE.into());
        if labels.is_empty() {
            return Err(ZeroShotError::NoLabels);
        }
        if labels.len() > LABELS_MAX {
            return Err(ZeroShotError::TooManyLabels(labels.len()));
        }
        if let Some(empty) = labels.iter().position(|l| l.trim().is_empty()) {
            return Err(ZeroShotError::EmptyLabel(empty + 1));
        }
        if !template.contains(GAP) {
            return Err(ZeroShotError::NoGap(template));
        }
        Ok(Self { labels, template, multi_label })
    }

    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    pub(super) fn hypotheses(&self) -> Vec<String> {
        self.labels.iter().map(|label| self.template.replacen(GAP, label, 1)).collect()
    }

    /// Puts the answers about the pairs of each text together.
    pub(super) fn read(&self, reply: RawReply, entailment: usize) -> ZeroShotReply {
        let RawReply { results, model, tokens, timing } = reply;
        let results = results.chunks(self.labels.len()).map(|pairs| self.result(pairs, entailment)).collect();
        ZeroShotReply { results, model, tokens, timing }
    }

    fn result(
        &self,
        pairs: &[Result<super::RawAnswer, TextError>],
        entailment: usize,
    ) -> Result<ZeroShotResult, TextError> {
        let mut all = Vec::with_capacity(pairs.len());
        let mut result = ZeroShotResult { scores: Vec::new(), tokens: 0, truncated: false };
        for answer in pairs {
            let answer = answer.clone()?;
            let RawOutput::Labels { logits, .. } = answer.output else { return Err(TextError::NotFinite) };
            all.push(logits.into_iter().map(f64::from).collect::<Vec<f64>>());
            result.tokens += answer.tokens;
            result.truncated |= answer.truncated;
        }
        result.scores = scores(&all, entailment, self.multi_label).ok_or(TextError::NotFinite)?;
        Ok(result)
    }
}

/// Scores of the labels from the logits of their pairs; `None` where one is not finite.
fn scores(logits: &[Vec<f64>], entailment: usize, multi_label: bool) -> Option<Vec<f64>> {
    if multi_label || logits.len() == 1 {
        return logits
            .iter()
            .map(|l| {
                let contradiction = if entailment == 0 { l.len() - 1 } else { 0 };
                Some(softmax(&[l[contradiction], *l.get(entailment)?])?[1])
            })
            .collect();
    }
    softmax(&logits.iter().map(|l| l.get(entailment).copied()).collect::<Option<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_compete_or_stand_alone() {
        let logits = vec![vec![0.0, 1.0, 2.0], vec![2.0, 1.0, 2.0]];
        assert_eq!(scores(&logits, 2, false).unwrap(), [0.5, 0.5]);
        let alone = scores(&logits, 2, true).unwrap();
        assert!((alone[0] - 1.0 / (1.0 + (-2f64).exp())).abs() < 1e-12 && alone[1] == 0.5);
        assert_eq!(scores(&logits[1..], 0, false).unwrap(), [0.5]);
        assert_eq!(scores(&[vec![f64::NAN, 0.0], vec![0.0, 0.0]], 0, false), None);
    }

    #[test]
    fn questions_that_cannot_be_asked_are_refused_in_words() {
        let refused = |labels: &[&str], template: Option<&str>| {
            let labels = labels.iter().map(|l| l.to_string()).collect();
            ZeroShot::new(labels, template.map(str::to_owned), false).unwrap_err().to_string()
        };
        assert_eq!(refused(&[], None), "there is no label to choose from");
        assert_eq!(refused(&["a", " "], None), "label number 2 is empty");
        assert_eq!(
            refused(&["a"], Some("About it.")),
            "the template \"About it.\" has no {} where the label goes"
        );
        assert!(refused(&["a"; 201], None).contains("more than 200"));
        let asked = ZeroShot::new(vec!["billing".into()], None, false).unwrap();
        assert_eq!(asked.hypotheses(), ["This example is billing."]);
    }
}

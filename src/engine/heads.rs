//! Heads: the small layers that turn hidden states into logits, found in `config.json` and read from the checkpoint.
//!
//! A pack names its heads under `hearken.heads`; a plain Hugging Face checkpoint has one, named by its architecture.
//! What the logits mean is decided in [`tasks`](super::tasks).

use serde_json::Value;

use super::{
    error::ModelError,
    spec::{EncoderSpec, Family},
    weights::Checkpoint,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadTask {
    /// One answer for a span of tokens.
    TextClassification,
    /// One answer for every token.
    TokenClassification,
    /// The hidden states themselves: an encoder without a head.
    Embedding,
}

impl HeadTask {
    /// The name that Hugging Face has for it.
    pub fn name(self) -> &'static str {
        match self {
            HeadTask::TextClassification => "text-classification",
            HeadTask::TokenClassification => "token-classification",
            HeadTask::Embedding => "feature-extraction",
        }
    }
}

/// How logits become scores, by a checkpoint's `problem_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// One of the labels holds: `single_label_classification`.
    Softmax,
    /// Each label holds or does not: `multi_label_classification`, and a model with one label.
    Sigmoid,
    /// The number itself: `regression`.
    Identity,
}

/// What a text's own logits are read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over the text's tokens, special ones left out.
    Mean,
    /// The mean over the whole sequence, special tokens included, as sentence-transformers does it.
    MeanWithSpecial,
    /// The first token (`[CLS]`, `<s>`).
    First,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HeadSpec {
    pub name: String,
    pub task: HeadTask,
    pub pooling: Pooling,
    /// None for an embedding.
    pub labels: Vec<String>,
    pub activation: Activation,
    /// Logits are divided by it before the softmax (Guo et al. 2017, "On Calibration of Modern Neural Networks").
    pub temperature: f32,
    dense: Option<TensorName>,
    dense_activation: HeadActivation,
    /// `None` where the hidden states are the answer.
    out: Option<TensorName>,
}

/// What stands between the two layers of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadActivation {
    Tanh,
    Relu,
    Gelu,
}

/// `NAME.weight` and `NAME.bias`, read with or without the encoder's prefix.
#[derive(Clone, Debug, PartialEq)]
enum TensorName {
    Exact(String),
    Encoder(&'static str),
}

/// An affine layer: `weight` is outputs x inputs, row-major.
#[derive(Clone)]
pub struct Affine {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// `dense -> activation -> out`, or `out` alone.
#[derive(Clone)]
pub struct HeadWeights {
    pub dense: Option<Affine>,
    pub activation: HeadActivation,
    pub out: Affine,
    pub labels: usize,
}

/// Labels of one head, at most.
const LABELS_MAX: usize = 10_000;

/// Every head that the configuration names. `checkpoint` tells whether a pack's head has a dense layer.
pub fn heads(
    config: &Value,
    spec: &EncoderSpec,
    checkpoint: &Checkpoint,
) -> Result<Vec<HeadSpec>, ModelError> {
    match &config["hearken"]["heads"] {
        Value::Object(heads) => {
            heads.iter().map(|(name, head)| HeadSpec::of_pack(name, head, checkpoint)).collect()
        }
        _ => Ok(vec![match HeadSpec::of_architecture(config, spec)? {
            Some(head) => head,
            None => HeadSpec::embedding(Pooling::MeanWithSpecial),
        }]),
    }
}

impl HeadSpec {
    fn of_pack(name: &str, head: &Value, checkpoint: &Checkpoint) -> Result<Self, ModelError> {
        let task = match head["task"].as_str() {
            Some("text-classification") => HeadTask::TextClassification,
            Some("token-classification") => HeadTask::TokenClassification,
            other => {
                return Err(ModelError::head(
                    name,
                    format!("task {other:?} is not one of text-classification, token-classification"),
                ));
            }
        };
        let pooling = match head["pooling"].as_str() {
            None | Some("mean") => Pooling::Mean,
            Some("cls") => Pooling::First,
            Some(other) => {
                return Err(ModelError::head(name, format!("pooling {other:?} is not one of mean, cls")));
            }
        };
        let labels: Vec<String> = head["labels"]
            .as_array()
            .map(|labels| labels.iter().filter_map(|l| l.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        let temperature = head["temperature"].as_f64().unwrap_or(1.0) as f32;
        let dense = format!("heads.{name}.dense");
        Self {
            name: name.into(),
            task,
            pooling,
            labels,
            activation: Activation::Softmax,
            temperature,
            dense: checkpoint.has_exactly(&format!("{dense}.weight")).then_some(TensorName::Exact(dense)),
            dense_activation: HeadActivation::Tanh,
            out: Some(TensorName::Exact(format!("heads.{name}.out_proj"))),
        }
        .checked()
    }

    /// The hidden states of an encoder without a head.
    pub fn embedding(pooling: Pooling) -> Self {
        Self {
            name: "embedding".into(),
            task: HeadTask::Embedding,
            pooling,
            labels: Vec::new(),
            activation: Activation::Identity,
            temperature: 1.0,
            dense: None,
            dense_activation: HeadActivation::Tanh,
            out: None,
        }
    }

    /// The label that says that a hypothesis follows, in a model trained for natural language inference.
    pub fn entailment(&self) -> Option<usize> {
        self.labels.iter().position(|l| l.to_lowercase().starts_with("entail"))
    }

    /// Numbers for each answer of an encoder of this width.
    pub fn outputs(&self, hidden: usize) -> usize {
        if self.task == HeadTask::Embedding { hidden } else { self.labels.len() }
    }

    /// The head of a plain checkpoint; `None` for a bare encoder.
    fn of_architecture(config: &Value, spec: &EncoderSpec) -> Result<Option<Self>, ModelError> {
        let architecture = config["architectures"][0].as_str().unwrap_or("");
        let exact = |name: &str| TensorName::Exact(name.into());
        let (task, dense, dense_activation, out) = if architecture.ends_with("ForSequenceClassification") {
            let (dense, activation, out) = match spec.family {
                Family::Bert => (TensorName::Encoder("pooler.dense"), HeadActivation::Tanh, "classifier"),
                Family::Albert => (TensorName::Encoder("pooler"), HeadActivation::Tanh, "classifier"),
                Family::DistilBert => (exact("pre_classifier"), HeadActivation::Relu, "classifier"),
                Family::Electra => (exact("classifier.dense"), HeadActivation::Gelu, "classifier.out_proj"),
                Family::Camembert | Family::Roberta | Family::XlmRoberta => {
                    (exact("classifier.dense"), HeadActivation::Tanh, "classifier.out_proj")
                }
            };
            (HeadTask::TextClassification, Some(dense), activation, exact(out))
        } else if architecture.ends_with("ForTokenClassification") {
            (HeadTask::TokenClassification, None, HeadActivation::Tanh, exact("classifier"))
        } else {
            return Ok(None);
        };
        let labels = labels_of(config)?;
        Self {
            name: "classifier".into(),
            task,
            pooling: Pooling::First,
            activation: activation_of(config, labels.len())?,
            labels,
            temperature: 1.0,
            dense,
            dense_activation,
            out: Some(out),
        }
        .checked()
        .map(Some)
    }

    fn checked(self) -> Result<Self, ModelError> {
        if self.labels.is_empty() || self.labels.len() > LABELS_MAX {
            return Err(ModelError::head(&self.name, "has no usable list of labels"));
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(ModelError::head(&self.name, "temperature must be above 0"));
        }
        Ok(self)
    }

    pub fn weights(&self, checkpoint: &Checkpoint, hidden: usize) -> Result<HeadWeights, ModelError> {
        let affine = |name: &TensorName, outputs: usize| -> Result<Affine, ModelError> {
            Ok(match name {
                TensorName::Exact(name) => Affine {
                    weight: checkpoint.values_exactly(&format!("{name}.weight"), &[outputs, hidden])?,
                    bias: checkpoint.values_exactly(&format!("{name}.bias"), &[outputs])?,
                },
                TensorName::Encoder(name) => Affine {
                    weight: checkpoint.values(&format!("{name}.weight"), &[outputs, hidden])?,
                    bias: checkpoint.values(&format!("{name}.bias"), &[outputs])?,
                },
            })
        };
        Ok(HeadWeights {
            dense: self.dense.as_ref().map(|name| affine(name, hidden)).transpose()?,
            activation: self.dense_activation,
            out: match &self.out {
                Some(out) => affine(out, self.labels.len())?,
                None => Affine::identity(hidden),
            },
            labels: self.outputs(hidden),
        })
    }
}

impl Affine {
    /// Gives back what goes in, exactly: how hidden states leave an executor.
    fn identity(width: usize) -> Self {
        let mut weight = vec![0.0; width * width];
        weight.iter_mut().step_by(width + 1).for_each(|w| *w = 1.0);
        Self { weight, bias: vec![0.0; width] }
    }
}

/// As the pipelines of `transformers` choose it.
fn activation_of(config: &Value, labels: usize) -> Result<Activation, ModelError> {
    match config["problem_type"].as_str() {
        Some("multi_label_classification") => Ok(Activation::Sigmoid),
        Some("regression") => Ok(Activation::Identity),
        Some("single_label_classification") | None if labels > 1 => Ok(Activation::Softmax),
        Some("single_label_classification") | None => Ok(Activation::Sigmoid),
        Some(other) => Err(ModelError::Config(format!(
            "problem_type {other:?} is none of single_label_classification, multi_label_classification, regression"
        ))),
    }
}

/// `id2label` in the order of its ids; without one, `LABEL_0`, `LABEL_1`, ... as Hugging Face names them.
fn labels_of(config: &Value) -> Result<Vec<String>, ModelError> {
    match &config["id2label"] {
        Value::Object(map) => {
            let mut labels: Vec<(usize, String)> = map
                .iter()
                .filter_map(|(id, label)| Some((id.parse().ok()?, label.as_str()?.to_owned())))
                .collect();
            labels.sort();
            if labels.len() != map.len() || labels.iter().enumerate().any(|(i, (id, _))| i != *id) {
                return Err(ModelError::Config("id2label does not count its labels from 0".into()));
            }
            Ok(labels.into_iter().map(|(_, label)| label).collect())
        }
        _ => {
            let count = config["num_labels"].as_u64().unwrap_or(2).min(LABELS_MAX as u64);
            Ok((0..count).map(|i| format!("LABEL_{i}")).collect())
        }
    }
}

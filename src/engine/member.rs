//! A model as it was read from its folder: its heads, its trunk and where it came from.
//!
//! A trunk is an encoder with its tokenizer. Models whose trunks are the same to the last bit are served by one
//! forward pass (see [`Model`](super::model::Model)), so a trunk is known by its hash.

use std::{path::Path, sync::Arc};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    ModelRef, Tasks,
    error::ModelError,
    heads::{HeadSpec, HeadTask, HeadWeights, Pooling},
    model::Parts,
    pack,
    source::{LabelMap, ModelRequest, ModelSource},
    spec::EncoderSpec,
    tokenize::Tokenizer,
    vocabulary,
    weights::Checkpoint,
};

/// Hash of an encoder, its tokenizer and the length of its sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrunkId([u8; 32]);

impl std::fmt::Display for TrunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // As many digits as tell trunks apart in a list.
        self.0[..8].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// What stays of a model once its trunk is packed: its heads, which are small.
pub struct Member {
    pub reference: ModelRef,
    pub source: ModelSource,
    pub labels: LabelMap,
    pub trunk: TrunkId,
    pub family: String,
    /// Whether the folder says how one vector of a text is made, as sentence-transformers does.
    pub pools: bool,
    pub heads: Vec<Arc<HeadSpec>>,
    /// One per head, in the same order.
    pub weights: Vec<HeadWeights>,
}

/// A model folder that is open, before an executor is built from it.
pub struct Candidate {
    pub member: Arc<Member>,
    pub trunk: Trunk,
}

/// What an executor is built from.
pub struct Trunk {
    pub spec: EncoderSpec,
    pub checkpoint: Checkpoint,
    pub tokenizer: Tokenizer,
    /// Tokens of a text that one sequence holds, special ones not counted.
    pub window_tokens_max: usize,
}

/// Windows shorter than this leave no room for a text.
const WINDOW_TOKENS_MIN: usize = 8;

impl Candidate {
    /// Reads and checks a folder. `reference` is the name of a model of the hub; a folder names itself.
    pub fn read(dir: &Path, request: &ModelRequest, reference: Option<ModelRef>) -> Result<Self, ModelError> {
        let Parts { config, spec, checkpoint, mut heads, weights } = Parts::read(dir)?;
        let pooling = sentence_pooling(dir)?;
        if let ([head], Some(pooling)) = (&mut heads[..], pooling)
            && head.task == HeadTask::Embedding
        {
            head.pooling = pooling;
        }
        let tokenizer = tokenizer(dir, &config)?;
        if tokenizer.id_max() as usize >= spec.vocabulary {
            return Err(ModelError::Tokenizer(format!(
                "has the token id {} where config.json has a vocab_size of {}",
                tokenizer.id_max(),
                spec.vocabulary
            )));
        }
        let window_tokens_max = window_tokens_max(&config, &spec, &tokenizer)?;
        let mut hash = Sha256::new();
        hash.update(format!("{spec:?} {window_tokens_max} "));
        hash.update(tokenizer.canonical()?);
        hash.update(checkpoint.trunk_digest());
        let reference = match reference {
            Some(reference) => reference,
            None => ModelRef { name: pack::name(dir, &config), revision: pack::revision(dir)? },
        };
        let member = Member {
            reference,
            source: request.source.clone(),
            labels: request.labels.clone(),
            trunk: TrunkId(hash.finalize().into()),
            family: config["model_type"].as_str().unwrap_or_default().to_owned(),
            pools: pooling.is_some(),
            heads: heads.into_iter().map(Arc::new).collect(),
            weights,
        };
        let trunk = Trunk { spec, checkpoint, tokenizer, window_tokens_max };
        Ok(Self { member: Arc::new(member), trunk })
    }
}

impl Candidate {
    /// In a slot that is not one of ours, `labels` are new names for the model's own.
    pub fn renamed_for(self, slot: &str) -> Result<Self, ModelError> {
        let Self { member, trunk } = self;
        if member.labels.is_empty() || Tasks::only(slot) != Tasks::NONE {
            return Ok(Self { member, trunk });
        }
        let head = member.head_for(slot)?;
        let spec = &member.heads[head];
        if let Some(unknown) = member.labels.keys().find(|l| !spec.labels.contains(l)) {
            return Err(ModelError::head(
                slot,
                format!(
                    "`labels` names {unknown:?}, which the model does not have; it has {}",
                    spec.labels.join(", ")
                ),
            ));
        }
        let mut spec = HeadSpec::clone(spec);
        for label in &mut spec.labels {
            if let Some(name) = member.labels.get(label) {
                label.clone_from(name);
            }
        }
        let renamed = Member {
            reference: member.reference.clone(),
            source: member.source.clone(),
            labels: member.labels.clone(),
            trunk: member.trunk,
            family: member.family.clone(),
            pools: member.pools,
            heads: vec![Arc::new(spec)],
            weights: vec![member.weights[head].clone()],
        };
        Ok(Self { member: Arc::new(renamed), trunk })
    }
}

impl Member {
    /// The head that fills a slot: the one of its name, or the only one.
    pub fn head_for(&self, slot: &str) -> Result<usize, ModelError> {
        match self.heads.iter().position(|h| h.name == slot) {
            Some(head) => Ok(head),
            None if self.heads.len() == 1 => Ok(0),
            None => Err(ModelError::head(
                slot,
                format!(
                    "the model has the heads {}; none is named {slot}",
                    self.heads.iter().map(|h| h.name.as_str()).collect::<Vec<_>>().join(", ")
                ),
            )),
        }
    }
}

/// `tokenizer.json`, or what its parts say.
fn tokenizer(dir: &Path, config: &Value) -> Result<Tokenizer, ModelError> {
    let file = dir.join(pack::TOKENIZER);
    if file.is_file() { Tokenizer::open(&file) } else { Tokenizer::new(vocabulary::tokenizer(dir, config)?) }
}

/// How sentence-transformers makes one vector of a text, where the folder says so.
fn sentence_pooling(dir: &Path) -> Result<Option<Pooling>, ModelError> {
    let path = dir.join(pack::POOLING);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(ModelError::file(&path, e)),
    };
    let config: Value = serde_json::from_str(&text).map_err(|e| ModelError::file(&path, e))?;
    let on = |key: &str| config[key].as_bool().unwrap_or(false);
    match (on("pooling_mode_cls_token"), on("pooling_mode_mean_tokens")) {
        (true, false) => Ok(Some(Pooling::First)),
        (false, true) => Ok(Some(Pooling::MeanWithSpecial)),
        _ => Err(ModelError::file(&path, "asks for a pooling other than cls or mean")),
    }
}

/// `hearken.max_tokens`, as far as the position table reaches, less the special tokens.
fn window_tokens_max(config: &Value, spec: &EncoderSpec, tokenizer: &Tokenizer) -> Result<usize, ModelError> {
    let asked = config["hearken"]["max_tokens"].as_u64().map_or(usize::MAX, |n| n as usize);
    let tokens = asked.min(spec.tokens_max());
    match tokens.checked_sub(tokenizer.frame_len()) {
        Some(window) if window >= WINDOW_TOKENS_MIN => Ok(window),
        _ => Err(ModelError::Config(format!("sequences of {tokens} tokens leave no room for a text"))),
    }
}

//! What an encoder is made of, read from `config.json`: data, not code.
//!
//! An executor runs a spec; it never looks at `config.json` itself. Heads are described in [`heads`](super::heads).

pub use hearken_kernels::vector::activation::Activation;
use serde_json::Value;

use super::error::ModelError;

/// The families whose layers this engine runs: learned absolute positions, norm after each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Albert,
    Bert,
    Camembert,
    DistilBert,
    Electra,
    Roberta,
    XlmRoberta,
}

impl Family {
    const ALL: [(&'static str, Family); 7] = [
        ("albert", Family::Albert),
        ("bert", Family::Bert),
        ("camembert", Family::Camembert),
        ("distilbert", Family::DistilBert),
        ("electra", Family::Electra),
        ("roberta", Family::Roberta),
        ("xlm-roberta", Family::XlmRoberta),
    ];

    fn from_model_type(model_type: &str) -> Result<Self, ModelError> {
        Self::ALL.iter().find(|(name, _)| *name == model_type).map(|(_, family)| *family).ok_or_else(|| {
            ModelError::UnknownFamily {
                found: model_type.into(),
                known: Self::ALL.iter().map(|(name, _)| *name).collect(),
            }
        })
    }

    /// The prefix of the encoder's tensors in a checkpoint that also holds a head.
    pub fn prefix(self) -> &'static str {
        match self {
            Family::Albert => "albert.",
            Family::Bert => "bert.",
            Family::DistilBert => "distilbert.",
            Family::Electra => "electra.",
            Family::Roberta | Family::XlmRoberta | Family::Camembert => "roberta.",
        }
    }
}

/// Shape and arithmetic of one encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderSpec {
    pub family: Family,
    pub layers: usize,
    pub hidden: usize,
    /// Width of the embeddings; where it is not `hidden`, a product leads from one to the other.
    pub embedding: usize,
    /// One set of weights for all layers.
    pub shared_layers: bool,
    pub heads: usize,
    pub intermediate: usize,
    pub vocabulary: usize,
    /// Rows of the position table.
    pub positions: usize,
    /// Row of the position table that the first token takes: 0 in BERT; in the RoBERTa family the padding token's id
    /// plus one, because that table's first rows belong to padding.
    pub position_offset: usize,
    /// Rows of the table of token types; 0 where there is none.
    pub token_types: usize,
    pub norm_epsilon: f32,
    pub activation: Activation,
}

/// Sizes above these are taken for a damaged file.
const DIMENSION_MAX: u64 = 1 << 22;
const LAYERS_MAX: usize = 512;

impl EncoderSpec {
    pub fn from_config(config: &Value) -> Result<Self, ModelError> {
        let model_type = config["model_type"]
            .as_str()
            .ok_or_else(|| ModelError::Config("model_type is missing or not a string".into()))?;
        let family = Family::from_model_type(model_type)?;

        if let Some(kind) = config["position_embedding_type"].as_str()
            && kind != "absolute"
        {
            return Err(ModelError::Config(format!(
                "position_embedding_type {kind:?} is not supported; supported: absolute"
            )));
        }
        let distil = family == Family::DistilBert;
        let named = |usual: &'static str, distilled: &'static str| if distil { distilled } else { usual };
        let act = named("hidden_act", "activation");
        let activation = match config[act].as_str().unwrap_or("gelu") {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return Err(ModelError::Config(format!(
                    "{act} {other:?} is not supported; supported: gelu, gelu_new, gelu_pytorch_tanh, \
                     gelu_fast, relu"
                )));
            }
        };
        let position_offset = match family {
            Family::Albert | Family::Bert | Family::DistilBert | Family::Electra => 0,
            _ => match &config["pad_token_id"] {
                Value::Null => 2,
                pad => {
                    pad.as_u64()
                        .filter(|pad| *pad < DIMENSION_MAX)
                        .ok_or_else(|| ModelError::Config("pad_token_id is not a token".into()))?
                        as usize
                        + 1
                }
            },
        };
        if let Some(key) = ["num_hidden_groups", "inner_group_num"]
            .into_iter()
            .find(|key| family == Family::Albert && config[*key].as_u64().is_some_and(|n| n != 1))
        {
            return Err(ModelError::Config(format!("{key} other than 1 is not supported")));
        }
        let hidden = dimension(config, named("hidden_size", "dim"))?;
        let spec = Self {
            family,
            layers: dimension(config, named("num_hidden_layers", "n_layers"))?,
            hidden,
            embedding: match family {
                Family::Albert | Family::Electra => dimension(config, "embedding_size")?,
                _ => hidden,
            },
            shared_layers: family == Family::Albert,
            heads: dimension(config, named("num_attention_heads", "n_heads"))?,
            intermediate: dimension(config, named("intermediate_size", "hidden_dim"))?,
            vocabulary: dimension(config, "vocab_size")?,
            positions: dimension(config, "max_position_embeddings")?,
            position_offset,
            token_types: if distil { 0 } else { dimension(config, "type_vocab_size")? },
            norm_epsilon: config["layer_norm_eps"].as_f64().unwrap_or(1e-12) as f32,
            activation,
        };
        if !spec.hidden.is_multiple_of(spec.heads) {
            return Err(ModelError::Config(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                spec.hidden, spec.heads
            )));
        }
        if spec.layers > LAYERS_MAX {
            return Err(ModelError::Config(format!("num_hidden_layers {} is too many", spec.layers)));
        }
        if spec.positions <= spec.position_offset + 2 {
            return Err(ModelError::Config(format!(
                "max_position_embeddings {} leaves no room for a text",
                spec.positions
            )));
        }
        Ok(spec)
    }

    /// Width of one attention head.
    pub fn head_width(&self) -> usize {
        self.hidden / self.heads
    }

    /// Most tokens of one sequence, special ones included.
    pub fn tokens_max(&self) -> usize {
        self.positions - self.position_offset
    }

    /// Multiplications and additions of the matrix products of one token, without attention.
    pub fn flops_per_token(&self) -> usize {
        2 * self.layers * (4 * self.hidden * self.hidden + 2 * self.hidden * self.intermediate)
    }
}

fn dimension(config: &Value, key: &str) -> Result<usize, ModelError> {
    config[key]
        .as_u64()
        .filter(|n| (1..=DIMENSION_MAX).contains(n))
        .map(|n| n as usize)
        .ok_or_else(|| ModelError::Config(format!("{key} is missing or not a sensible number")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Value {
        json!({"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4,
               "intermediate_size": 64, "vocab_size": 100, "max_position_embeddings": 64, "type_vocab_size": 2,
               "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0})
    }

    #[test]
    fn roberta_counts_positions_from_behind_the_padding_token() {
        let mut c = config();
        assert_eq!(EncoderSpec::from_config(&c).unwrap().tokens_max(), 64);
        c["model_type"] = json!("xlm-roberta");
        c["pad_token_id"] = json!(1);
        let spec = EncoderSpec::from_config(&c).unwrap();
        assert_eq!((spec.position_offset, spec.tokens_max()), (2, 62));
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let refused = |key: &str, value: Value| {
            let mut c = config();
            c[key] = value;
            EncoderSpec::from_config(&c).unwrap_err().to_string()
        };
        assert_eq!(
            refused("model_type", json!("gpt2")),
            "model type \"gpt2\" is not supported; supported: albert, bert, camembert, distilbert, electra, roberta, \
             xlm-roberta"
        );
        assert!(refused("hidden_size", json!(33)).contains("not a multiple of num_attention_heads"));
        assert!(refused("vocab_size", json!(-1)).contains("vocab_size is missing"));
        assert!(refused("hidden_act", json!("swish")).contains("\"swish\" is not supported"));
        assert!(refused("position_embedding_type", json!("relative_key")).contains("relative_key"));
        assert!(refused("max_position_embeddings", json!(2)).contains("leaves no room"));
    }
}

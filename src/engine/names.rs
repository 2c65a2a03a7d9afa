//! What a family calls the tensors of its encoder, prefix aside.

use super::spec::Family;

/// Names of a layer's tensors, without `.weight` and `.bias`.
pub struct LayerNames {
    pub query: String,
    pub key: String,
    pub value: String,
    pub attention_out: String,
    pub attention_norm: String,
    pub up: String,
    pub down: String,
    pub norm: String,
}

impl LayerNames {
    pub fn of(family: Family, layer: usize) -> Self {
        let (prefix, names) = match family {
            Family::DistilBert => (
                format!("transformer.layer.{layer}."),
                [
                    "attention.q_lin",
                    "attention.k_lin",
                    "attention.v_lin",
                    "attention.out_lin",
                    "sa_layer_norm",
                    "ffn.lin1",
                    "ffn.lin2",
                    "output_layer_norm",
                ],
            ),
            // One group of one layer, used again and again.
            Family::Albert => (
                "encoder.albert_layer_groups.0.albert_layers.0.".to_owned(),
                [
                    "attention.query",
                    "attention.key",
                    "attention.value",
                    "attention.dense",
                    "attention.LayerNorm",
                    "ffn",
                    "ffn_output",
                    "full_layer_layer_norm",
                ],
            ),
            Family::Bert | Family::Camembert | Family::Electra | Family::Roberta | Family::XlmRoberta => (
                format!("encoder.layer.{layer}."),
                [
                    "attention.self.query",
                    "attention.self.key",
                    "attention.self.value",
                    "attention.output.dense",
                    "attention.output.LayerNorm",
                    "intermediate.dense",
                    "output.dense",
                    "output.LayerNorm",
                ],
            ),
        };
        let [query, key, value, attention_out, attention_norm, up, down, norm] =
            names.map(|name| format!("{prefix}{name}"));
        Self { query, key, value, attention_out, attention_norm, up, down, norm }
    }
}

/// The product between embeddings of one width and hidden states of another.
pub fn embedding_projection(family: Family) -> &'static str {
    match family {
        Family::Albert => "encoder.embedding_hidden_mapping_in",
        _ => "embeddings_project",
    }
}

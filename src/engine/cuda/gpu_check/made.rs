//! Models of usual sizes with random weights, for machines that have no checkpoint and no network.
//!
//! Weights are wide enough that attention and activations matter; their labels mean nothing.

use std::{collections::BTreeMap, path::Path};

use half::f16;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use crate::engine::cuda::random::Random;

/// Layers, hidden, heads, intermediate, vocabulary.
pub struct Made {
    pub name: &'static str,
    layers: usize,
    hidden: usize,
    heads: usize,
    intermediate: usize,
    vocabulary: usize,
}

/// By name.
pub const MADE: [Made; 3] = [
    Made { name: "xlm-r-base", layers: 12, hidden: 768, heads: 12, intermediate: 3_072, vocabulary: 250_002 },
    Made {
        name: "xlm-r-large",
        layers: 24,
        hidden: 1_024,
        heads: 16,
        intermediate: 4_096,
        vocabulary: 250_002,
    },
    Made { name: "tiny", layers: 2, hidden: 64, heads: 2, intermediate: 96, vocabulary: 500 },
];

const POSITIONS: usize = 514;
const LABELS: usize = 5;
/// Random values that a large tensor repeats from some place on: making 200 million anew would take longer than the check.
const POOL: usize = 1 << 20;

/// Writes `config.json` and `model.safetensors` (f16) of a made model into `dir`.
pub fn write_made(name: &str, dir: &Path) -> Result<(), String> {
    let names: Vec<&str> = MADE.iter().map(|m| m.name).collect();
    let made = MADE
        .iter()
        .find(|m| m.name == name)
        .ok_or_else(|| format!("no made model is called {name:?}; there are {}", names.join(", ")))?;
    std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let config = json!({
        "architectures": ["XLMRobertaForSequenceClassification"], "model_type": "xlm-roberta",
        "num_hidden_layers": made.layers, "hidden_size": made.hidden, "num_attention_heads": made.heads,
        "intermediate_size": made.intermediate, "vocab_size": made.vocabulary,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
        "hidden_act": "gelu", "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "num_labels": LABELS,
        "id2label": (0..LABELS).map(|i| (i.to_string(), format!("label {i}"))).collect::<BTreeMap<_, _>>(),
        "torch_dtype": "float16",
    });
    std::fs::write(dir.join("config.json"), config.to_string()).map_err(|e| format!("config.json: {e}"))?;

    let mut random = Random::new(23);
    let pool = random.normals(POOL, 1.0);
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let mut add = |name: String, shape: &[usize], scale: f32, shift: f32| {
        let start = random.below(POOL);
        let values = pool.iter().cycle().skip(start).take(shape.iter().product());
        let bytes = values.flat_map(|x| f16::from_f32(x * scale + shift).to_le_bytes()).collect();
        tensors.insert(name, (shape.to_vec(), bytes));
    };
    let (hidden, wide) = (made.hidden, made.intermediate);
    let mut norms = vec!["roberta.embeddings.LayerNorm".to_string()];
    for (table, rows, scale) in [
        ("word_embeddings", made.vocabulary, 1.0),
        ("position_embeddings", POSITIONS, 0.3),
        ("token_type_embeddings", 1, 0.3),
    ] {
        add(format!("roberta.embeddings.{table}.weight"), &[rows, hidden], scale, 0.0);
    }
    let mut affine = vec![
        ("classifier.dense".to_string(), hidden, hidden),
        ("classifier.out_proj".to_string(), LABELS, hidden),
    ];
    for layer in (0..made.layers).map(|i| format!("roberta.encoder.layer.{i}")) {
        for (part, outputs, inputs) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", wide, hidden),
            ("output.dense", hidden, wide),
        ] {
            affine.push((format!("{layer}.{part}"), outputs, inputs));
        }
        norms.extend([format!("{layer}.attention.output.LayerNorm"), format!("{layer}.output.LayerNorm")]);
    }
    for (name, outputs, inputs) in affine {
        add(format!("{name}.weight"), &[outputs, inputs], 1.2 / (inputs as f32).sqrt(), 0.0);
        add(format!("{name}.bias"), &[outputs], 0.1, 0.0);
    }
    for norm in norms {
        add(format!("{norm}.weight"), &[hidden], 0.1, 1.0);
        add(format!("{norm}.bias"), &[hidden], 0.1, 0.0);
    }
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| {
            TensorView::new(Dtype::F16, shape.clone(), bytes).map(|view| (name.clone(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| e.to_string())?;
    safetensors::serialize_to_file(views, None, &dir.join("model.safetensors")).map_err(|e| e.to_string())
}

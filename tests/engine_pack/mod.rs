//! A small model pack with random weights, made anew from a seed: what the engine's tests run on.
//!
//! Its labels mean nothing, but they are firm: they depend on the text and on every weight.

#![allow(dead_code)] // each test file uses a part

use std::{collections::BTreeMap, path::Path};

use hearken::engine::{Engine, EngineOptions, Lane, ScoreOptions, Tasks};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizers::{
    AddedToken, Tokenizer, models::unigram::Unigram, pre_tokenizers::metaspace::Metaspace,
    processors::template::TemplateProcessing,
};

pub const LAYERS: usize = 2;
pub const HIDDEN: usize = 48;
pub const HEADS: usize = 4;
pub const INTERMEDIATE: usize = 96;
pub const MAX_TOKENS: usize = 64;

/// Tensors by name, with their shapes.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// xorshift64 (Marsaglia 2003) and the sum of uniforms, near enough to a normal distribution.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }

    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.below(1 << 20) as f32 / (1 << 20) as f32).sum::<f32>() - 6.0
    }

    fn tensor(&mut self, shape: &[usize], scale: f32, shift: f32) -> (Vec<usize>, Vec<f32>) {
        let n = shape.iter().product();
        (shape.to_vec(), (0..n).map(|_| self.normal() * scale + shift).collect())
    }
}

/// Every character the tests write, as one-character tokens, and some longer pieces.
fn vocabulary() -> Vec<(String, f64)> {
    let mut pieces: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(String::from).to_vec();
    let characters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'éèàüßñ\n\
                      网络又断了这周已经第三次我要退款客服态度很好。，خدمةالعملاءسيئجدوشكر😭👍🏽❤️日本語テスト";
    for c in characters.chars() {
        if !pieces.contains(&c.to_string()) {
            pieces.push(c.to_string());
        }
    }
    for piece in ["▁the", "▁connection", "▁quality", "ing", "▁is", "网络", "退款", "▁خدمة", "العملاء"]
    {
        pieces.push(piece.into());
    }
    pieces.into_iter().enumerate().map(|(i, p)| (p, -(i as f64) * 0.01 - 1.0)).collect()
}

pub fn tokenizer() -> Tokenizer {
    let mut tokenizer = Tokenizer::new(Unigram::from(vocabulary(), Some(1), false).unwrap());
    tokenizer.with_pre_tokenizer(Some(Metaspace::default()));
    tokenizer.with_post_processor(Some(
        TemplateProcessing::builder()
            .try_single("[CLS] $A [SEP]")
            .unwrap()
            .special_tokens(vec![("[CLS]", 2), ("[SEP]", 3)])
            .build()
            .unwrap(),
    ));
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(|t| AddedToken::from(t, true));
    tokenizer.add_special_tokens(special).unwrap();
    tokenizer
}

pub fn config() -> Value {
    let classifier = |labels: &[&str]| json!({"task": "text-classification", "pooling": "mean", "labels": labels, "temperature": 1.5});
    json!({
        "model_type": "bert", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE, "vocab_size": vocabulary().len(), "max_position_embeddings": MAX_TOKENS,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0,
        "hidden_dropout_prob": 0.0, "initializer_range": 0.02, "classifier_dropout": null,
        "hearken": {"version": 1, "name": "random", "max_tokens": MAX_TOKENS, "heads": {
            "sentiment": classifier(&["negative", "neutral", "positive"]),
            // In another order than the engine keeps them.
            "intent": classifier(&["other", "complaint", "request", "purchase"]),
            "keyphrases": {"task": "token-classification", "labels": ["O", "B-KEY", "I-KEY"]},
        }},
    })
}

/// Tensors of a BERT encoder in the layout of a Hugging Face checkpoint, with wide enough weights that attention and
/// activations matter.
pub fn encoder(
    random: &mut Random,
    prefix: &str,
    vocabulary: usize,
    positions: usize,
    types: usize,
) -> Tensors {
    let mut tensors = Tensors::new();
    let mut add = |name: &str, tensor| tensors.insert(format!("{prefix}{name}"), tensor);
    add("embeddings.word_embeddings.weight", random.tensor(&[vocabulary, HIDDEN], 1.0, 0.0));
    add("embeddings.position_embeddings.weight", random.tensor(&[positions, HIDDEN], 0.3, 0.0));
    add("embeddings.token_type_embeddings.weight", random.tensor(&[types, HIDDEN], 0.3, 0.0));
    let mut norms = vec!["embeddings.LayerNorm".to_string()];
    for layer in 0..LAYERS {
        let layer = format!("encoder.layer.{layer}");
        for (name, outputs, inputs) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INTERMEDIATE, HIDDEN),
            ("output.dense", HIDDEN, INTERMEDIATE),
        ] {
            add(&format!("{layer}.{name}.weight"), random.tensor(&[outputs, inputs], 0.25, 0.0));
            add(&format!("{layer}.{name}.bias"), random.tensor(&[outputs], 0.1, 0.0));
        }
        norms.push(format!("{layer}.attention.output.LayerNorm"));
        norms.push(format!("{layer}.output.LayerNorm"));
    }
    for norm in norms {
        add(&format!("{norm}.weight"), random.tensor(&[HIDDEN], 0.1, 1.0));
        add(&format!("{norm}.bias"), random.tensor(&[HIDDEN], 0.1, 0.0));
    }
    tensors
}

pub fn tensors(seed: u64) -> Tensors {
    let mut random = Random::new(seed);
    let mut tensors = encoder(&mut random, "", vocabulary().len(), MAX_TOKENS, 2);
    for (head, labels, dense) in [("sentiment", 3, true), ("intent", 4, true), ("keyphrases", 3, false)] {
        if dense {
            tensors.insert(format!("heads.{head}.dense.weight"), random.tensor(&[HIDDEN, HIDDEN], 0.25, 0.0));
            tensors.insert(format!("heads.{head}.dense.bias"), random.tensor(&[HIDDEN], 0.1, 0.0));
        }
        tensors.insert(format!("heads.{head}.out_proj.weight"), random.tensor(&[labels, HIDDEN], 0.4, 0.0));
        tensors.insert(format!("heads.{head}.out_proj.bias"), random.tensor(&[labels], 0.1, 0.0));
    }
    tensors
}

pub fn save_tensors(tensors: &Tensors, path: &Path) {
    let bytes: BTreeMap<&String, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(name, (shape, _))| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A whole pack in a folder of its own.
pub fn pack(seed: u64) -> TempDir {
    pack_of(&config(), &tensors(seed))
}

pub fn pack_of(config: &Value, tensors: &Tensors) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    save_tensors(tensors, &dir.path().join("model.safetensors"));
    tokenizer().save(dir.path().join("tokenizer.json"), false).unwrap();
    dir
}

pub fn options(dir: &Path) -> EngineOptions {
    EngineOptions {
        pack: Some(dir.to_owned()),
        device: "cpu".into(),
        precision: "f32".into(),
        threads: 2,
        batch_tokens_max: 2048,
        queue_tokens_max: 100_000,
    }
}

pub fn engine(seed: u64) -> Engine {
    let dir = pack(seed);
    Engine::open(&options(dir.path())).unwrap()
}

pub fn interactive() -> ScoreOptions {
    ScoreOptions { tasks: Tasks::ALL, lane: Lane::Interactive, deadline: None }
}

/// Words of several scripts, in random order.
pub fn words(random: &mut Random, count: usize) -> String {
    const WORDS: [&str; 16] = [
        "the",
        "connection",
        "quality",
        "is",
        "bad.",
        "support",
        "网络又断了。",
        "退款",
        "خدمة",
        "العملاء",
        "😭",
        "thanks!",
        "café",
        "again?",
        "第三次",
        "I",
    ];
    (0..count).map(|_| WORDS[random.below(WORDS.len())]).collect::<Vec<_>>().join(" ")
}

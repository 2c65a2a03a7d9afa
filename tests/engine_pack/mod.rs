//! A small model pack with random weights, made anew from a seed: what the engine's tests run on.
//!
//! Its labels mean nothing, but they are firm: they depend on the text and on every weight.

#![allow(dead_code)] // each test file uses a part

use std::{collections::BTreeMap, ops::Range, path::Path};

use hearken::engine::{
    Engine, EngineOptions, Lane, ScoreOptions, Tasks,
    batch::PackedBatch,
    cpu::{CpuExecutor, Precision},
    executor::HeadId,
    heads,
    hub::HubOptions,
    spec::EncoderSpec,
    weights::Checkpoint,
};
use hearken::scores::{Emotion, Label};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokenizers::{
    AddedToken, Tokenizer, models::unigram::Unigram, pre_tokenizers::metaspace::Metaspace,
    processors::template::TemplateProcessing,
};

/// The size of an encoder.
#[derive(Clone, Copy)]
pub struct Shape {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub vocabulary: usize,
    pub positions: usize,
    pub token_types: usize,
}

/// Sequences of the small pack hold this many tokens, so that long texts need not be long.
pub const MAX_TOKENS: usize = 64;

pub fn small() -> Shape {
    Shape {
        layers: 2,
        hidden: 48,
        heads: 4,
        intermediate: 96,
        vocabulary: vocabulary().len(),
        positions: MAX_TOKENS,
        token_types: 2,
    }
}

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
            .try_pair("[CLS] $A [SEP] $B [SEP]")
            .unwrap()
            .special_tokens(vec![("[CLS]", 2), ("[SEP]", 3)])
            .build()
            .unwrap(),
    ));
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(|t| AddedToken::from(t, true));
    tokenizer.add_special_tokens(special).unwrap();
    tokenizer
}

/// What every `config.json` says about a shape.
pub fn encoder_config(model_type: &str, shape: Shape) -> Value {
    json!({
        "model_type": model_type, "num_hidden_layers": shape.layers, "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads, "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary, "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.token_types, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        "pad_token_id": if model_type == "bert" { 0 } else { 1 }, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02, "classifier_dropout": null,
        "position_embedding_type": "absolute",
    })
}

pub fn config() -> Value {
    let classifier = |labels: &[&str]| json!({"task": "text-classification", "pooling": "mean", "labels": labels, "temperature": 1.5});
    let mut config = encoder_config("bert", small());
    config["hearken"] = json!({"version": 1, "name": "random", "max_tokens": MAX_TOKENS, "heads": {
        "sentiment": classifier(&["negative", "neutral", "positive"]),
        // In another order than the engine keeps them.
        "intent": classifier(&["other", "complaint", "request", "purchase"]),
        "keyphrases": {"task": "token-classification", "labels": ["O", "B-KEY", "I-KEY"]},
        "emotion": classifier(&Emotion::ALL.iter().map(|e| e.name()).collect::<Vec<_>>()),
    }});
    config
}

/// Tensors of an encoder in the layout of a Hugging Face checkpoint, with wide enough weights that attention and
/// activations matter.
pub fn encoder(random: &mut Random, prefix: &str, shape: Shape) -> Tensors {
    let (hidden, intermediate) = (shape.hidden, shape.intermediate);
    let mut tensors = Tensors::new();
    let mut add = |name: &str, tensor| tensors.insert(format!("{prefix}{name}"), tensor);
    add("embeddings.word_embeddings.weight", random.tensor(&[shape.vocabulary, hidden], 1.0, 0.0));
    add("embeddings.position_embeddings.weight", random.tensor(&[shape.positions, hidden], 0.3, 0.0));
    add("embeddings.token_type_embeddings.weight", random.tensor(&[shape.token_types, hidden], 0.3, 0.0));
    let mut norms = vec!["embeddings.LayerNorm".to_string()];
    for layer in 0..shape.layers {
        let layer = format!("encoder.layer.{layer}");
        for (name, outputs, inputs) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", intermediate, hidden),
            ("output.dense", hidden, intermediate),
        ] {
            let scale = 1.7 / (inputs as f32).sqrt();
            add(&format!("{layer}.{name}.weight"), random.tensor(&[outputs, inputs], scale, 0.0));
            add(&format!("{layer}.{name}.bias"), random.tensor(&[outputs], 0.1, 0.0));
        }
        norms.push(format!("{layer}.attention.output.LayerNorm"));
        norms.push(format!("{layer}.output.LayerNorm"));
    }
    for norm in norms {
        add(&format!("{norm}.weight"), random.tensor(&[hidden], 0.1, 1.0));
        add(&format!("{norm}.bias"), random.tensor(&[hidden], 0.1, 0.0));
    }
    tensors
}

/// Adds an affine layer.
pub fn add_affine(tensors: &mut Tensors, random: &mut Random, name: &str, outputs: usize, inputs: usize) {
    let scale = 1.7 / (inputs as f32).sqrt();
    tensors.insert(format!("{name}.weight"), random.tensor(&[outputs, inputs], scale, 0.0));
    tensors.insert(format!("{name}.bias"), random.tensor(&[outputs], 0.1, 0.0));
}

pub fn tensors(seed: u64) -> Tensors {
    let (mut random, shape) = (Random::new(seed), small());
    let mut tensors = encoder(&mut random, "", shape);
    let heads = [
        ("sentiment", 3, true),
        ("intent", 4, true),
        ("keyphrases", 3, false),
        ("emotion", Emotion::ALL.len(), false),
    ];
    for (head, labels, dense) in heads {
        if dense {
            add_affine(&mut tensors, &mut random, &format!("heads.{head}.dense"), shape.hidden, shape.hidden);
        }
        add_affine(&mut tensors, &mut random, &format!("heads.{head}.out_proj"), labels, shape.hidden);
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

/// A plain BERT in the form of a Hugging Face checkpoint, with the small pack's trunk of seed `trunk`: a classifier, a
/// tagger (`ForTokenClassification`) or, without labels, an encoder alone.
pub fn plain(trunk: u64, architecture: &str, labels: &[&str], seed: u64) -> TempDir {
    let hidden = small().hidden;
    let mut plain = Tensors::new();
    for (name, tensor) in tensors(trunk).into_iter().filter(|(name, _)| !name.starts_with("heads.")) {
        plain.insert(format!("bert.{name}"), tensor);
    }
    let mut random = Random::new(seed);
    if architecture.ends_with("ForSequenceClassification") {
        add_affine(&mut plain, &mut random, "bert.pooler.dense", hidden, hidden);
    }
    let mut config = encoder_config("bert", small());
    if !labels.is_empty() {
        add_affine(&mut plain, &mut random, "classifier", labels.len(), hidden);
        config["id2label"] = labels.iter().enumerate().map(|(i, l)| (i.to_string(), json!(l))).collect();
    }
    config["architectures"] = json!([architecture]);
    pack_of(&config, &plain)
}

pub fn options(dir: &Path) -> EngineOptions {
    EngineOptions {
        pack: Some(dir.to_owned()),
        device: "cpu".into(),
        precision: "f32".into(),
        threads: 2,
        batch_tokens_max: 2048,
        queue_tokens_max: 100_000,
        hub: HubOptions::default(),
    }
}

pub fn engine(seed: u64) -> Engine {
    let dir = pack(seed);
    Engine::open(&options(dir.path())).unwrap()
}

pub fn interactive() -> ScoreOptions {
    ScoreOptions { tasks: Tasks::ALL, lane: Lane::Interactive, deadline: None }
}

/// An encoder of any shape with random weights and two heads, and no tokenizer: what executors are tried on.
pub struct Bare {
    folder: TempDir,
    config: Value,
    pub shape: Shape,
}

/// The heads of [`Bare`]: labels of the pooled text, and labels of its tokens; three of each.
pub const POOLED: HeadId = HeadId(0);
pub const TOKENS: HeadId = HeadId(1);

impl Bare {
    pub fn new(seed: u64, shape: Shape) -> Bare {
        let mut random = Random::new(seed);
        let mut tensors = encoder(&mut random, "", shape);
        add_affine(&mut tensors, &mut random, "heads.s.dense", shape.hidden, shape.hidden);
        add_affine(&mut tensors, &mut random, "heads.s.out_proj", 3, shape.hidden);
        add_affine(&mut tensors, &mut random, "heads.t.out_proj", 3, shape.hidden);
        let folder = tempfile::tempdir().unwrap();
        save_tensors(&tensors, &folder.path().join("model.safetensors"));
        let mut config = encoder_config("bert", shape);
        config["hearken"] = json!({"heads": {
            "s": {"task": "text-classification", "labels": ["a", "b", "c"]},
            "t": {"task": "token-classification", "labels": ["O", "B-KEY", "I-KEY"]},
        }});
        Bare { folder, config, shape }
    }

    /// 0 threads mean one per core.
    pub fn executor(&self, arithmetic: Precision, threads: usize) -> CpuExecutor {
        let spec = EncoderSpec::from_config(&self.config).unwrap();
        let checkpoint = Checkpoint::open(&self.folder.path().join("model.safetensors"), "bert.").unwrap();
        let weights: Vec<_> = heads::heads(&self.config, &spec, &checkpoint)
            .unwrap()
            .iter()
            .map(|head| head.weights(&checkpoint, spec.hidden).unwrap())
            .collect();
        CpuExecutor::new(&spec, &checkpoint, &weights, arithmetic, threads).unwrap()
    }
}

/// Sequences of random ids.
pub fn sequences(random: &mut Random, lengths: &[usize], vocabulary: usize) -> Vec<Vec<u32>> {
    lengths.iter().map(|n| (0..*n).map(|_| random.below(vocabulary) as u32).collect()).collect()
}

/// A batch of sequences, and the rows of each.
pub fn packed(sequences: &[&Vec<u32>]) -> (PackedBatch, Vec<Range<usize>>) {
    let mut batch = PackedBatch::new();
    let rows = sequences
        .iter()
        .map(|ids| {
            let first = batch.push(ids.iter().copied());
            first..first + ids.len()
        })
        .collect();
    (batch, rows)
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

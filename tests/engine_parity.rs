//! The engine's numbers against other implementations of the same models: candle on random weights, and the logits
//! that the default pack's training wrote down. Not covered here: what is made of the numbers (`engine_serving.rs`).

mod engine_pack;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bert, xlm_roberta};
use engine_pack::{Random, Shape, add_affine, encoder, encoder_config, save_tensors, small, tensors};
use hearken::engine::check::{CheckOptions, CheckReport, check};
use serde_json::{Value, json};

/// Token ids of ragged lengths, the same every time.
fn inputs(lengths: &[usize], vocabulary: usize) -> Vec<Vec<u32>> {
    let mut random = Random::new(11);
    lengths.iter().map(|n| (0..*n).map(|_| (4 + random.below(vocabulary - 4)) as u32).collect()).collect()
}

fn report(dir: &Path, precision: &str) -> CheckReport {
    let scratch = tempfile::tempdir().unwrap();
    let lengths = scratch.path().join("lengths.json");
    std::fs::write(&lengths, "[3, 5]").unwrap();
    check(
        dir,
        &CheckOptions {
            device: "cpu".into(),
            precision: precision.into(),
            threads: 2,
            lengths: Some(lengths),
        },
    )
    .unwrap()
}

fn variables(dir: &Path) -> VarBuilder<'static> {
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap()
}

fn row(ids: &[u32]) -> Tensor {
    Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap()
}

/// candle's BERT and the pack's heads, one text at a time.
fn candle_pack(dir: &Path, config: &Value, inputs: &[Vec<u32>]) -> Value {
    let config: bert::Config = serde_json::from_value(config.clone()).unwrap();
    let vb = variables(dir);
    let model = bert::BertModel::load(vb.clone(), &config).unwrap();
    let head = |name: &str, labels: usize, dense: bool| {
        let vb = vb.pp("heads").pp(name);
        let width = config.hidden_size;
        let dense = dense.then(|| candle_nn::linear(width, width, vb.pp("dense")).unwrap());
        let out = candle_nn::linear(width, labels, vb.pp("out_proj")).unwrap();
        move |x: &Tensor| -> Vec<Vec<f32>> {
            let x = match &dense {
                Some(dense) => x.apply(dense).unwrap().tanh().unwrap(),
                None => x.clone(),
            };
            x.apply(&out).unwrap().to_vec2().unwrap()
        }
    };
    let sentiment = head("sentiment", 3, true);
    let intent = head("intent", 4, true);
    let keyphrases = head("keyphrases", 3, false);
    let (mut by_sentiment, mut by_intent, mut by_token) = (Vec::new(), Vec::new(), Vec::new());
    for ids in inputs {
        let x = row(ids);
        let hidden = model.forward(&x, &x.zeros_like().unwrap(), None).unwrap().squeeze(0).unwrap();
        let pooled = match ids.len() {
            0..=2 => hidden.narrow(0, 0, 1).unwrap(),
            n => hidden.narrow(0, 1, n - 2).unwrap().mean_keepdim(0).unwrap(),
        };
        by_sentiment.push(sentiment(&pooled).remove(0));
        by_intent.push(intent(&pooled).remove(0));
        by_token.push(keyphrases(&hidden));
    }
    json!({"input_ids": inputs, "logits": {"sentiment": by_sentiment, "intent": by_intent, "keyphrases": by_token}})
}

#[test]
fn a_pack_gives_the_logits_that_candle_gives() {
    let dir = engine_pack::pack(3);
    let inputs = inputs(&[1, 2, 3, 7, 16, 33, 63, 64], small().vocabulary);
    let expected = candle_pack(dir.path(), &engine_pack::config(), &inputs);
    std::fs::write(dir.path().join("expected.json"), expected.to_string()).unwrap();

    let f32 = report(dir.path(), "f32");
    assert!(f32.max_logit_diff.unwrap() < 1e-4, "{f32:?}");
    assert_eq!(f32.labels_agree, Some(1.0));

    // Random weights are the hardest case for 8 bits: nothing in them is redundant.
    let int8 = report(dir.path(), "int8");
    assert_eq!(int8.precision, "int8");
    assert!(int8.max_logit_diff.unwrap() < 0.5 && int8.labels_agree.unwrap() > 0.9, "{int8:?}");
    assert!(int8.max_logit_diff > f32.max_logit_diff);
}

#[test]
fn a_plain_classifier_gives_the_logits_that_candle_gives() {
    // More than one depth block (256) and column block (128) of the matrix kernels, and no tokenizer.
    let shape = Shape {
        layers: 2,
        hidden: 288,
        heads: 6,
        intermediate: 600,
        vocabulary: 500,
        positions: 132,
        token_types: 1,
    };
    let mut random = Random::new(5);
    let mut tensors = encoder(&mut random, "roberta.", shape);
    add_affine(&mut tensors, &mut random, "classifier.dense", shape.hidden, shape.hidden);
    add_affine(&mut tensors, &mut random, "classifier.out_proj", 3, shape.hidden);
    let mut config = encoder_config("xlm-roberta", shape);
    config["architectures"] = json!(["XLMRobertaForSequenceClassification"]);
    config["id2label"] = json!({"0": "a", "1": "b", "2": "c"});
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    save_tensors(&tensors, &dir.path().join("model.safetensors"));

    let inputs = inputs(&[1, 2, 9, 40, 97, 130], shape.vocabulary);
    let candle_config: xlm_roberta::Config = serde_json::from_value(config).unwrap();
    let model =
        xlm_roberta::XLMRobertaForSequenceClassification::new(3, &candle_config, variables(dir.path()))
            .unwrap();
    let logits: Vec<Vec<f32>> = inputs
        .iter()
        .map(|ids| {
            let x = row(ids);
            let types = x.zeros_like().unwrap();
            model.forward(&x, &x.ones_like().unwrap(), &types).unwrap().to_vec2().unwrap().remove(0)
        })
        .collect();
    let expected = json!({"input_ids": inputs, "logits": logits});
    std::fs::write(dir.path().join("expected.json"), expected.to_string()).unwrap();

    let f32 = report(dir.path(), "f32");
    assert!(f32.max_logit_diff.unwrap() < 1e-4 && f32.labels_agree == Some(1.0), "{f32:?}");
    assert_eq!((f32.device.as_str(), f32.tokens), ("cpu", 8));
    let int8 = report(dir.path(), "int8");
    assert!(int8.max_logit_diff.unwrap() < 0.5, "{int8:?}");

    // What this processor cannot run falls back, and says so.
    let bf16 = report(dir.path(), "bf16");
    match bf16.precision.as_str() {
        "bf16" => assert!(bf16.max_logit_diff.unwrap() < 0.1, "{bf16:?}"),
        _ => assert!(bf16.precision_reason.unwrap().contains("no bf16 arithmetic")),
    }
    let f16 = report(dir.path(), "f16");
    assert_eq!(f16.precision, "f32");
    assert!(f16.precision_reason.unwrap().contains("f16 is not built"));
}

#[test]
fn a_damaged_weight_shows() {
    let dir = engine_pack::pack(3);
    let inputs = inputs(&[5, 20], small().vocabulary);
    let expected = candle_pack(dir.path(), &engine_pack::config(), &inputs);
    let mut damaged = tensors(3);
    damaged.get_mut("encoder.layer.1.output.dense.bias").unwrap().1[7] += 0.5;
    save_tensors(&damaged, &dir.path().join("model.safetensors"));
    std::fs::write(dir.path().join("expected.json"), expected.to_string()).unwrap();
    assert!(report(dir.path(), "f32").max_logit_diff.unwrap() > 1e-3);
}

#[test]
fn the_default_pack_gives_the_logits_that_its_training_wrote_down() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
    let f32 = report(&dir, "f32");
    assert!(f32.max_logit_diff.unwrap() < 1e-4, "{f32:?}");
    assert_eq!((f32.labels_agree, f32.tokenizer_agrees), (Some(1.0), Some(true)));
    let int8 = report(&dir, "int8");
    // A processor without int8 dot products has 7-bit weights; the bound holds for those too.
    assert!(int8.max_logit_diff.unwrap() < 0.5 && int8.labels_agree.unwrap() > 0.97, "{int8:?}");
}

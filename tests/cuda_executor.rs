//! The CUDA executor's host side, with every launch run by its plain reference on the processor: layout of batches, parts,
//! recordings, heads, memory, and what happens when a device runs out of memory or is lost. The CPU executor is the oracle.
//! Not covered here: the kernels (`cuda_emulated.rs`, `cuda_compile.rs`) and the driver (`hearken gpu-check`).

mod engine_pack;

use std::{ops::Range, path::Path, sync::Arc};

use engine_pack::{Random, Shape, add_affine, encoder, encoder_config, save_tensors};
use hearken::engine::{
    batch::PackedBatch,
    cpu::{CpuExecutor, Precision},
    cuda::{
        CudaExecutor, CudaOptions, NEIGHBOURS, Numbers, driver::DriverError, host::HostDriver,
        kernels::KernelShape, parity, same_bits,
    },
    executor::{Executor, ExecutorError, HeadId},
    heads::{self, HeadWeights},
    spec::EncoderSpec,
    standby::WithStandby,
    weights::Checkpoint,
};
use serde_json::{Value, json};

const MEMORY_BYTES: usize = 1 << 30;
const SHAPE: Shape = Shape {
    layers: 2,
    hidden: 64,
    heads: 4,
    intermediate: 96,
    vocabulary: 60,
    positions: 80,
    token_types: 2,
};
/// Two layers, one layer, tokens; tokens with two layers.
const HEADS: [(&str, usize, bool); 4] =
    [("dense", 3, true), ("plain", 4, false), ("tokens", 3, false), ("deep", 5, true)];

struct Model {
    spec: EncoderSpec,
    checkpoint: Checkpoint,
    heads: Vec<HeadWeights>,
}

impl Model {
    fn new(model_type: &str, activation: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config: Value = encoder_config(model_type, SHAPE);
        config["hidden_act"] = json!(activation);
        let of = |(name, labels, _): (&str, usize, bool)| {
            let task = if ["tokens", "deep"].contains(&name) { "token" } else { "text" };
            let labels: Vec<String> = (0..labels).map(|i| format!("{name}{i}")).collect();
            (name.to_string(), json!({"task": format!("{task}-classification"), "labels": labels}))
        };
        let named: serde_json::Map<String, Value> = HEADS.map(of).into_iter().collect();
        config["hearken"] = json!({"heads": named});
        let mut random = Random::new(17);
        let mut tensors = encoder(&mut random, "", SHAPE);
        for (name, labels, dense) in HEADS {
            if dense {
                add_affine(
                    &mut tensors,
                    &mut random,
                    &format!("heads.{name}.dense"),
                    SHAPE.hidden,
                    SHAPE.hidden,
                );
            }
            add_affine(&mut tensors, &mut random, &format!("heads.{name}.out_proj"), labels, SHAPE.hidden);
        }
        let file = dir.path().join("model.safetensors");
        save_tensors(&tensors, &file);
        Self::read(&config, &file)
    }

    fn read(config: &Value, file: &Path) -> Self {
        let spec = EncoderSpec::from_config(config).unwrap();
        let checkpoint = Checkpoint::open(file, spec.family.prefix()).unwrap();
        let heads = heads::heads(config, &spec, &checkpoint)
            .unwrap()
            .iter()
            .map(|h| h.weights(&checkpoint, spec.hidden).unwrap())
            .collect();
        Self { spec, checkpoint, heads }
    }

    fn cpu(&self) -> CpuExecutor {
        CpuExecutor::new(&self.spec, &self.checkpoint, &self.heads, Precision::F32, 2).unwrap()
    }

    fn on(&self, driver: &Arc<HostDriver>, options: CudaOptions) -> Result<CudaExecutor<HostDriver>, String> {
        let shape = self.shape(Numbers::F16);
        CudaExecutor::new(driver.clone(), shape, &self.spec, &self.checkpoint, &self.heads, options)
            .map_err(|e| e.to_string())
    }

    fn shape(&self, numbers: Numbers) -> KernelShape {
        KernelShape::new(&self.spec, numbers).unwrap()
    }

    fn driver(&self, memory_bytes: usize) -> Arc<HostDriver> {
        Arc::new(HostDriver::new(self.shape(Numbers::F16), memory_bytes))
    }
}

fn options() -> CudaOptions {
    CudaOptions { part_tokens_max: 256, slots: 2, recorded_rows_max: 64, warm: false }
}

fn batch(random: &mut Random, lengths: &[usize]) -> (PackedBatch, Vec<Range<usize>>) {
    let mut batch = PackedBatch::new();
    let rows = lengths
        .iter()
        .map(|n| {
            let first = batch.push((0..*n).map(|_| random.below(SHAPE.vocabulary) as u32));
            first..first + n
        })
        .collect();
    (batch, rows)
}

/// Everything that can be read of a batch: all heads over rows and over spans.
fn logits(
    executor: &dyn Executor,
    batch: &PackedBatch,
    spans: &[Range<usize>],
) -> Result<Vec<f32>, ExecutorError> {
    let encoded = executor.encode(batch)?;
    let mut all = Vec::new();
    for head in 0..HEADS.len() {
        all.extend(encoded.token_logits(HeadId(head), spans)?);
        all.extend(encoded.pooled_logits(HeadId(head), spans)?);
    }
    // Several heads at once say the same as one after another.
    let asked: Vec<_> = (0..HEADS.len()).map(|h| (HeadId(h), spans.to_vec())).collect();
    for (head, together) in encoded.pooled_logits_of(&asked)?.into_iter().enumerate() {
        // Not bit for bit: a device may be lost in between.
        let alone = encoded.pooled_logits(HeadId(head), spans)?;
        assert!(apart(&together, &alone) < 0.1, "{together:?} {alone:?}");
        all.extend(together);
    }
    Ok(all)
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |m, (x, y)| if (x - y).is_nan() { f32::MAX } else { m.max((x - y).abs()) })
}

#[test]
fn hidden_states_and_heads_are_those_of_the_cpu_executor() {
    for (model_type, activation) in [("bert", "gelu"), ("roberta", "gelu_new"), ("xlm-roberta", "relu")] {
        let model = Model::new(model_type, activation);
        let driver = model.driver(MEMORY_BYTES);
        let (cpu, gpu) = (model.cpu(), model.on(&driver, options()).unwrap());
        let mut random = Random::new(3);
        let (batch, rows) = batch(&mut random, &[1, 30, 17, 2, 64, 70, 5]);
        let (wanted, got) = (logits(&cpu, &batch, &rows).unwrap(), logits(&gpu, &batch, &rows).unwrap());
        let largest = wanted.iter().fold(0f32, |m, x| m.max(x.abs()));
        assert!(largest > 1.0, "logits so small would agree by themselves");
        let difference = apart(&wanted, &got);
        assert!(difference < 0.02 * largest, "{model_type}: {difference} of {largest}");
        assert!(difference > 0.0, "16-bit numbers cannot give the bits of f32");
    }
}

#[test]
fn parts_recordings_and_neighbours_change_no_bit() {
    let model = Model::new("bert", "gelu");
    let whole = model.on(&model.driver(MEMORY_BYTES), options()).unwrap();
    let driver = model.driver(MEMORY_BYTES);
    let parts = model.on(&driver, CudaOptions { part_tokens_max: 80, ..options() }).unwrap();
    assert_eq!(parts.part_tokens_max(), 80);
    let mut random = Random::new(5);
    let (batch, rows) = batch(&mut random, &[40, 9, 70, 1, 33, 33, 60]);
    let wanted = logits(&whole, &batch, &rows).unwrap();
    for _ in 0..3 {
        // The second time launches are recorded, the third time replayed.
        assert_eq!(logits(&parts, &batch, &rows).unwrap(), wanted);
    }
    assert!(driver.recordings() > 0);
    assert!(same_bits(&whole, &model.spec, HEADS.len(), &NEIGHBOURS[..3]).unwrap());
    drop(parts);
    assert_eq!(driver.recordings(), 0);
}

#[test]
fn nothing_to_read_and_nothing_to_encode_are_no_errors() {
    let model = Model::new("bert", "gelu");
    let gpu = model.on(&model.driver(MEMORY_BYTES), options()).unwrap();
    assert_eq!(logits(&gpu, &PackedBatch::new(), &[]).unwrap(), Vec::<f32>::new());
    let too_long = batch(&mut Random::new(1), &[81]).0;
    assert!(matches!(
        gpu.encode(&too_long),
        Err(ExecutorError::SequenceTooLong { tokens: 81, tokens_max: 80 })
    ));
    let mut unknown = PackedBatch::new();
    unknown.push([3, 60]);
    assert!(matches!(gpu.encode(&unknown), Err(ExecutorError::TokenOutsideVocabulary { id: 60, .. })));
}

#[test]
fn batches_are_under_way_at_once_from_many_threads() {
    let model = Model::new("bert", "gelu");
    let gpu = model.on(&model.driver(MEMORY_BYTES), options()).unwrap();
    assert_eq!(gpu.batches_at_once(), 2);
    let (batch, rows) = batch(&mut Random::new(8), &[12, 50]);
    let wanted = logits(&gpu, &batch, &rows).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..3).for_each(|_| assert_eq!(logits(&gpu, &batch, &rows).unwrap(), wanted)));
        }
    });
}

#[test]
fn little_memory_means_smaller_parts_and_too_little_is_said() {
    let model = Model::new("bert", "gelu");
    let large = CudaOptions { part_tokens_max: 65_536, ..options() };
    let roomy = model.on(&model.driver(MEMORY_BYTES), large).unwrap();
    let driver = model.driver(100 << 20);
    let tight = model.on(&driver, large).unwrap();
    assert!(tight.part_tokens_max() < roomy.part_tokens_max());
    let (batch, rows) = batch(&mut Random::new(2), &[70; 9]);
    assert_eq!(logits(&tight, &batch, &rows).unwrap(), logits(&roomy, &batch, &rows).unwrap());
    let error = model.on(&model.driver(20 << 20), large).err().unwrap();
    assert!(error.contains("device_memory_bytes_max"), "{error}");
    drop(tight);
    assert_eq!(driver.bytes(), 0, "everything is given back");
}

#[test]
fn out_of_memory_while_serving_is_an_answer_and_not_the_end() {
    let model = Model::new("bert", "gelu");
    let driver = model.driver(MEMORY_BYTES);
    let gpu = model.on(&driver, CudaOptions { part_tokens_max: 80, ..options() }).unwrap();
    let (large, rows) = batch(&mut Random::new(4), &[50, 60, 70]);
    let wanted = logits(&gpu, &large, &rows).unwrap();
    drop(gpu);
    let gpu = model.on(&driver, CudaOptions { part_tokens_max: 80, slots: 1, ..options() }).unwrap();
    // A batch of several parts needs memory of its own: the synchronization comes first.
    driver.fail_after(2, DriverError::OutOfMemory { bytes: 1 });
    assert!(matches!(gpu.encode(&large), Err(ExecutorError::OutOfMemory { .. })));
    assert_eq!(logits(&gpu, &large, &rows).unwrap(), wanted);
}

#[test]
fn a_device_lost_at_any_call_is_replaced_by_the_standby_without_a_lost_answer() {
    let model = Model::new("bert", "gelu");
    let (large, rows) = batch(&mut Random::new(6), &[33, 20]);
    let wanted = logits(&model.cpu(), &large, &rows).unwrap();
    let driver = model.driver(MEMORY_BYTES);
    let calls = {
        let gpu = model.on(&driver, options()).unwrap();
        let before = driver.calls();
        logits(&gpu, &large, &rows).unwrap();
        driver.calls() - before
    };
    assert!(calls > 30);
    for at in (1..=calls).step_by(3) {
        let driver = model.driver(MEMORY_BYTES);
        let gpu = model.on(&driver, options()).unwrap();
        driver.fail_after(at, DriverError::Failed("an uncorrectable error".into()));
        let served = WithStandby::new(Box::new(gpu), Box::new(model.cpu()), "cuda:0");
        assert_eq!(served.lost(), None);
        let got = logits(&served, &large, &rows).unwrap();
        assert!(apart(&got, &wanted) < 0.1, "lost at call {at} of {calls}");
        assert_eq!(served.lost().unwrap(), "cuda:0 was lost: an uncorrectable error");
        assert_eq!(served.info().device, "cpu");
        assert_eq!(logits(&served, &large, &rows).unwrap(), wanted, "from then on the processor answers");
        drop(served);
        assert_eq!(driver.bytes(), 0);
    }
}

#[test]
fn the_comparison_of_kernels_notices_a_wrong_one() {
    let shape = Model::new("bert", "gelu").shape(Numbers::Bf16);
    let right = parity::compare(Arc::new(HostDriver::new(shape, MEMORY_BYTES)), &shape, 40, 1).unwrap();
    assert!(right.iter().all(|p| p.passed), "{right:?}");
    let silent = HostDriver::new(shape, MEMORY_BYTES).with_launch(Box::new(|_| Ok(())));
    let wrong = parity::compare(Arc::new(silent), &shape, 40, 1).unwrap();
    for parity in wrong.iter().filter(|p| !p.kernel.starts_with("product")) {
        assert!(!parity.passed, "{parity:?}");
    }
}

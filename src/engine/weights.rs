//! Tensors of a model folder: mapped, checked, and copied out in the type an executor wants.
//!
//! A folder holds `model.safetensors`, shards of it with an index, or `pytorch_model.bin` (see [`pytorch`](super::pytorch)).
//! Nothing is served from the mapping itself, so a file that is replaced later cannot touch a running model.

use std::{collections::BTreeSet, fs::File, ops::Range, path::Path};

use half::{bf16, f16, slice::HalfFloatSliceExt};
use memmap2::Mmap;
use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorInfo},
};
use sha2::{Digest, Sha256};

use super::{error::ModelError, pack, pytorch};

/// The open files of a model.
pub struct Checkpoint {
    shards: Vec<Shard>,
    prefix: &'static str,
}

/// One file of tensors.
struct Shard {
    bytes: Bytes,
    metadata: Metadata,
    data_start: usize,
}

enum Bytes {
    Mapped(Mmap),
    Held(Vec<u8>),
}

/// A two-dimensional table whose rows are looked up, kept in the file's own precision.
pub enum Table {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Shard {
    fn map(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(|e| ModelError::file(path, e))?;
        // SAFETY: the mapping is read-only and lives only while the model is loaded; a file that another process
        // shortens meanwhile is outside what a reader can guard against.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| ModelError::file(path, e))?;
        Self::new(path, Bytes::Mapped(map))
    }

    fn new(path: &Path, bytes: Bytes) -> Result<Self, ModelError> {
        let (header_len, metadata) = SafeTensors::read_metadata(bytes.all())
            .map_err(|e| ModelError::file(path, format!("not a whole safetensors file: {e}")))?;
        Ok(Self { bytes, metadata, data_start: header_len + 8 })
    }

    fn open(path: &Path) -> Result<Self, ModelError> {
        if path.extension().is_some_and(|e| e == "bin") {
            return Self::new(path, Bytes::Held(pytorch::as_safetensors(path)?));
        }
        Self::map(path)
    }
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Held(bytes) => bytes,
        }
    }
}

/// Files of one model, at most.
const SHARDS_MAX: usize = 1_000;

impl Checkpoint {
    /// Opens the weights of a model folder, whatever form they have. Encoder tensors may carry `prefix`.
    pub fn open_dir(dir: &Path, prefix: &'static str) -> Result<Self, ModelError> {
        let paths = match pack::weights_in(dir) {
            Some(name) if name.ends_with(".index.json") => shards_of(dir, name)?,
            Some(name) => vec![name.to_owned()],
            None => {
                return Err(ModelError::file(
                    dir,
                    format!("holds no weights; looked for {}", pack::WEIGHT_FILES.join(", ")),
                ));
            }
        };
        let shards = paths.iter().map(|name| Shard::open(&dir.join(name))).collect::<Result<_, _>>()?;
        Ok(Self::of(shards, prefix))
    }

    /// Opens a file and checks that it is whole. Encoder tensors may carry `prefix` (`bert.`, `roberta.`).
    pub fn open(path: &Path, prefix: &'static str) -> Result<Self, ModelError> {
        Ok(Self::of(vec![Shard::open(path)?], prefix))
    }

    fn of(shards: Vec<Shard>, prefix: &'static str) -> Self {
        let mut checkpoint = Self { shards, prefix: "" };
        if !checkpoint.has(WORD_EMBEDDINGS) {
            checkpoint.prefix = prefix;
        }
        checkpoint
    }

    /// Whether the encoder has a tensor of this name, prefix aside.
    pub fn has(&self, name: &str) -> bool {
        self.has_exactly(&self.full_name(name))
    }

    /// Whether the file has a tensor of exactly this name.
    pub fn has_exactly(&self, name: &str) -> bool {
        self.shards.iter().any(|s| s.metadata.info(name).is_some())
    }

    fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        self.shards.iter().find_map(|shard| {
            let info = shard.metadata.info(name)?;
            let (start, end) = info.data_offsets;
            Some((info, shard.bytes.all().get(shard.data_start + start..shard.data_start + end)?))
        })
    }

    /// The values of an encoder tensor, in row-major order.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.values_exactly(&self.full_name(name), shape)
    }

    /// The values of the tensor of exactly this name, in row-major order.
    pub fn values_exactly(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let (dtype, bytes) = self.bytes(name, shape)?;
        Ok(match dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => {
                bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
            }
            other => return Err(ModelError::tensor(name, unsupported(other))),
        })
    }

    /// An encoder table in the precision of the file.
    pub fn table(&self, name: &str, shape: [usize; 2]) -> Result<Table, ModelError> {
        let name = self.full_name(name);
        let (dtype, bytes) = self.bytes(&name, &shape)?;
        Ok(match dtype {
            Dtype::F32 => {
                Table::F32(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
            Dtype::F16 => {
                Table::F16(bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b)).collect())
            }
            Dtype::BF16 => {
                Table::Bf16(bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b)).collect())
            }
            other => return Err(ModelError::tensor(&name, unsupported(other))),
        })
    }

    /// A hash of the encoder's tensors, whatever heads stand beside them: names without the prefix, types, shapes and
    /// bytes. Checkpoints with the same one give the same hidden states.
    pub fn trunk_digest(&self) -> [u8; 32] {
        let full = self.shards.iter().flat_map(|s| s.metadata.tensors().into_keys());
        let mut names: Vec<String> = full
            .filter_map(|name| name.strip_prefix(self.prefix).filter(|n| is_trunk(n)).map(str::to_owned))
            .collect();
        names.sort();
        let mut hash = Sha256::new();
        for name in names {
            let Some((info, bytes)) = self.tensor(&self.full_name(&name)) else { continue };
            hash.update(format!("{name} {:?} {:?} ", info.dtype, info.shape));
            hash.update(bytes);
        }
        hash.finalize().into()
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn bytes(&self, name: &str, shape: &[usize]) -> Result<(Dtype, &[u8]), ModelError> {
        let (info, bytes) = self.tensor(name).ok_or_else(|| ModelError::tensor(name, "missing"))?;
        if info.shape != shape {
            return Err(ModelError::tensor(
                name,
                format!("has shape {:?} where config.json asks for {shape:?}", info.shape),
            ));
        }
        Ok((info.dtype, bytes))
    }
}

/// The files that an index names, all of them there.
pub fn shards_of(dir: &Path, index: &str) -> Result<Vec<String>, ModelError> {
    let path = dir.join(index);
    let text = std::fs::read_to_string(&path).map_err(|e| ModelError::file(&path, e))?;
    let names = shard_names(&text).map_err(|e| ModelError::file(&path, e))?;
    match names.iter().find(|name| !dir.join(name).is_file()) {
        Some(missing) => Err(ModelError::file(&path, format!("names {missing}, which is not there"))),
        None => Ok(names),
    }
}

/// The files that the text of an index names; an error says what is wrong with it.
pub fn shard_names(index: &str) -> Result<Vec<String>, String> {
    let index: serde_json::Value = serde_json::from_str(index).map_err(|e| e.to_string())?;
    let map = index["weight_map"].as_object().ok_or("has no weight_map")?;
    let names: BTreeSet<&str> = map.values().filter_map(|v| v.as_str()).collect();
    if names.is_empty() || names.len() > SHARDS_MAX {
        return Err(format!("names {} files", names.len()));
    }
    match names.iter().find(|n| n.contains(['/', '\\']) || n.starts_with('.')) {
        Some(outside) => Err(format!("names the file {outside:?}, outside its folder")),
        None => Ok(names.into_iter().map(str::to_owned).collect()),
    }
}

/// Whether a tensor, prefix aside, is a part of the encoder: not of a head, and no buffer that is computed anyway.
fn is_trunk(name: &str) -> bool {
    const APART: [&str; 9] = [
        "pooler.",
        "classifier.",
        "heads.",
        "cls.",
        "lm_head.",
        "head.",
        "qa_outputs.",
        "pre_classifier.",
        "score.",
    ];
    !APART.iter().any(|p| name.starts_with(p))
        && !name.ends_with("position_ids")
        && !name.ends_with("token_type_ids")
}

/// The tensor by which a prefix is recognised.
pub const WORD_EMBEDDINGS: &str = "embeddings.word_embeddings.weight";

fn unsupported(dtype: Dtype) -> String {
    format!("has type {dtype:?}; supported: F32, F16, BF16")
}

impl Table {
    /// Copies the values at `range` to `row`.
    pub fn copy_to(&self, range: Range<usize>, row: &mut [f32]) {
        match self {
            Table::F32(values) => row.copy_from_slice(&values[range]),
            Table::F16(values) => values[range].convert_to_f32_slice(row),
            Table::Bf16(values) => values[range].convert_to_f32_slice(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::TensorView;

    use super::*;

    fn write(path: &Path, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) {
        let views: HashMap<String, TensorView> = tensors
            .iter()
            .map(|(name, dtype, shape, data)| {
                (name.to_string(), TensorView::new(*dtype, shape.clone(), data).unwrap())
            })
            .collect();
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    fn example(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("model.safetensors");
        let f16s: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        let bf16s: Vec<u8> = [0.25f32, 3.0].iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
        let f32s: Vec<u8> = [7.0f32, 8.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        write(
            &path,
            &[
                ("bert.embeddings.word_embeddings.weight", Dtype::F16, vec![1, 2], f16s),
                ("bert.b", Dtype::BF16, vec![2], bf16s),
                ("bert.f", Dtype::F32, vec![2], f32s),
                ("bert.i", Dtype::I64, vec![1], vec![0; 8]),
            ],
        );
        path
    }

    #[test]
    fn reads_every_float_type_with_and_without_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let c = Checkpoint::open(&example(dir.path()), "bert.").unwrap();
        assert_eq!(c.values(WORD_EMBEDDINGS, &[1, 2]).unwrap(), [1.5, -2.0]);
        assert_eq!(c.values("b", &[2]).unwrap(), [0.25, 3.0]);
        assert_eq!(c.values_exactly("bert.f", &[2]).unwrap(), [7.0, 8.0]);
        let mut row = [0.0, 0.0];
        c.table(WORD_EMBEDDINGS, [1, 2]).unwrap().copy_to(0..2, &mut row);
        assert_eq!(row, [1.5, -2.0]);
    }

    #[test]
    fn refusals_name_the_tensor() {
        let dir = tempfile::tempdir().unwrap();
        let c = Checkpoint::open(&example(dir.path()), "bert.").unwrap();
        let text = |r: Result<Vec<f32>, ModelError>| r.unwrap_err().to_string();
        assert_eq!(text(c.values("x", &[1])), "tensor bert.x: missing");
        assert_eq!(text(c.values("b", &[3])), "tensor bert.b: has shape [2] where config.json asks for [3]");
        assert_eq!(text(c.values("i", &[1])), "tensor bert.i: has type I64; supported: F32, F16, BF16");
    }

    #[test]
    fn a_file_cut_anywhere_or_filled_with_noise_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let whole = std::fs::read(example(dir.path())).unwrap();
        let path = dir.path().join("cut.safetensors");
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(Checkpoint::open(&path, "bert.").is_err(), "cut at {len}");
        }
        std::fs::write(&path, vec![0xA5; 4096]).unwrap();
        let error = Checkpoint::open(&path, "bert.").err().unwrap().to_string();
        assert!(error.contains("cut.safetensors: not a whole safetensors file"), "{error}");
    }

    #[test]
    fn shards_are_one_model_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let f32s = |x: f32| x.to_le_bytes().to_vec();
        write(&dir.path().join("a.safetensors"), &[(WORD_EMBEDDINGS, Dtype::F32, vec![1], f32s(1.0))]);
        write(&dir.path().join("b.safetensors"), &[("x", Dtype::F32, vec![1], f32s(2.0))]);
        let index = |names: [&str; 2]| {
            let map = serde_json::json!({"weight_map": {WORD_EMBEDDINGS: names[0], "x": names[1]}});
            std::fs::write(dir.path().join("model.safetensors.index.json"), map.to_string()).unwrap();
            Checkpoint::open_dir(dir.path(), "bert.")
        };
        let c = index(["a.safetensors", "b.safetensors"]).unwrap();
        assert_eq!(
            (c.values("x", &[1]).unwrap(), c.values(WORD_EMBEDDINGS, &[1]).unwrap()),
            (vec![2.0], vec![1.0])
        );
        let refused = |names| index(names).err().unwrap().to_string();
        assert!(
            refused(["a.safetensors", "c.safetensors"]).ends_with("names c.safetensors, which is not there")
        );
        assert!(refused(["a.safetensors", "../b.safetensors"]).contains("outside its folder"));
    }

    #[test]
    fn the_trunk_is_the_same_under_other_heads_and_another_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let one = |x: f32| x.to_le_bytes().to_vec();
        let digest = |tensors: &[(&str, f32)]| {
            let path = dir.path().join("t.safetensors");
            let tensors: Vec<_> = tensors.iter().map(|(n, x)| (*n, Dtype::F32, vec![1], one(*x))).collect();
            write(&path, &tensors);
            Checkpoint::open(&path, "bert.").unwrap().trunk_digest()
        };
        let plain = digest(&[(WORD_EMBEDDINGS, 1.0), ("encoder.w", 2.0), ("pooler.w", 3.0)]);
        let name = format!("bert.{WORD_EMBEDDINGS}");
        assert_eq!(plain, digest(&[(&name, 1.0), ("bert.encoder.w", 2.0), ("classifier.w", 9.0)]));
        assert_ne!(plain, digest(&[(&name, 1.0), ("bert.encoder.w", 2.5)]));
    }
}

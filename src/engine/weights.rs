//! Tensors of a safetensors file: mapped, checked, and copied out in the type an executor wants.
//!
//! Nothing is served from the mapping itself, so a file that is replaced later cannot touch a running model.

use std::{fs::File, ops::Range, path::Path};

use half::{bf16, f16, slice::HalfFloatSliceExt};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::Metadata};

use super::error::ModelError;

/// An open model file.
pub struct Checkpoint {
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
    prefix: &'static str,
}

/// A two-dimensional table whose rows are looked up, kept in the file's own precision.
pub enum Table {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Checkpoint {
    /// Opens a file and checks that it is whole. Encoder tensors may carry `prefix` (`bert.`, `roberta.`).
    pub fn open(path: &Path, prefix: &'static str) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(|e| ModelError::file(path, e))?;
        // SAFETY: the mapping is read-only and lives only while the model is loaded; a file that another process
        // shortens meanwhile is outside what a reader can guard against.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| ModelError::file(path, e))?;
        let (header_len, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|e| ModelError::file(path, format!("not a whole safetensors file: {e}")))?;
        let mut checkpoint = Self { map, metadata, data_start: header_len + 8, prefix: "" };
        if !checkpoint.has(WORD_EMBEDDINGS) {
            checkpoint.prefix = prefix;
        }
        Ok(checkpoint)
    }

    /// Whether the encoder has a tensor of this name, prefix aside.
    pub fn has(&self, name: &str) -> bool {
        self.metadata.info(&self.full_name(name)).is_some()
    }

    /// Whether the file has a tensor of exactly this name.
    pub fn has_exactly(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
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

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn bytes(&self, name: &str, shape: &[usize]) -> Result<(Dtype, &[u8]), ModelError> {
        let info = self.metadata.info(name).ok_or_else(|| ModelError::tensor(name, "missing"))?;
        if info.shape != shape {
            return Err(ModelError::tensor(
                name,
                format!("has shape {:?} where config.json asks for {shape:?}", info.shape),
            ));
        }
        let (start, end) = info.data_offsets;
        self.map
            .get(self.data_start + start..self.data_start + end)
            .map(|bytes| (info.dtype, bytes))
            .ok_or_else(|| ModelError::tensor(name, "lies outside the file"))
    }
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
}

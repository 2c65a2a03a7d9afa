//! `pytorch_model.bin`: tensors of a pickled checkpoint, read without running anything that stands in it.
//!
//! candle's reader knows the few instructions that a state dictionary is made of and refuses all others, so a file
//! cannot make this program do what it says. The tensors come out as one safetensors buffer in memory.

use std::path::Path;

use candle_core::{DType, Tensor, pickle};
use safetensors::{Dtype, tensor::TensorView};

use super::error::ModelError;

/// The tensors of a pickled file in safetensors form. Numbers that are not floats (position ids) are left out.
pub fn as_safetensors(path: &Path) -> Result<Vec<u8>, ModelError> {
    let broken = |e: String| ModelError::file(path, format!("not a whole PyTorch checkpoint: {e}"));
    let tensors = pickle::read_all(path).map_err(|e| broken(e.to_string()))?;
    if tensors.is_empty() {
        return Err(broken("it holds no tensors".into()));
    }
    let mut parts = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        if let Some((dtype, bytes)) = bytes(&tensor).map_err(|e| broken(e.to_string()))? {
            parts.push((name, dtype, tensor.dims().to_vec(), bytes));
        }
    }
    let views = parts
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| broken(e.to_string()))?;
    safetensors::serialize(views, None).map_err(|e| broken(e.to_string()))
}

fn bytes(tensor: &Tensor) -> candle_core::Result<Option<(Dtype, Vec<u8>)>> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => {
            Some((Dtype::F32, flat.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect()))
        }
        DType::F16 => {
            Some((Dtype::F16, flat.to_vec1::<half::f16>()?.iter().flat_map(|x| x.to_le_bytes()).collect()))
        }
        DType::BF16 => {
            Some((Dtype::BF16, flat.to_vec1::<half::bf16>()?.iter().flat_map(|x| x.to_le_bytes()).collect()))
        }
        _ => None,
    })
}

//! The shapes of other servers, so that their clients work unchanged.

pub mod hugging_face;

pub mod tei;

pub mod vllm;

pub mod oip;
pub mod oip_tensor;

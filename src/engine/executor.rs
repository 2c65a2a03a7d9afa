//! What runs a forward pass: the seam between the tasks and the hardware.
//!
//! An executor encodes a packed batch once; heads are then read from what it returns, so that hidden states can stay
//! where they were made.

use std::ops::Range;

use super::batch::PackedBatch;

/// Where and how forward passes run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorInfo {
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// `f32`, `int8`, ...
    pub precision: &'static str,
    /// Threads of a forward pass on a CPU.
    pub threads: usize,
    /// Name of the instructions in use, for the log.
    pub kernel: String,
}

/// A head that was handed to an executor: its place in the list it was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadId(pub usize);

/// Runs the encoder of one model. A text's result does not depend on what shares its batch, nor on the threads.
pub trait Executor: Send + Sync {
    fn info(&self) -> ExecutorInfo;

    /// One forward pass. Ids beyond the vocabulary and sequences longer than the model reads are errors.
    fn encode(&self, batch: &PackedBatch) -> Result<Box<dyn Encoded + '_>, ExecutorError>;
}

/// Hidden states of one batch.
pub trait Encoded {
    /// Logits of a head for each row of `rows`, in order: one entry per label, row after row.
    fn token_logits(&self, head: HeadId, rows: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError>;

    /// Logits of a head over the mean of the hidden states of each span (never empty): one entry per label, span after
    /// span.
    fn pooled_logits(&self, head: HeadId, spans: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError>;
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    TokenOutsideVocabulary { id: u32, vocabulary: usize },
    #[error("a sequence of {tokens} tokens is longer than the model's {tokens_max}")]
    SequenceTooLong { tokens: usize, tokens_max: usize },
    #[error("matrix product: {0}")]
    Product(String),
}

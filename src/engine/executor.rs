//! What runs a forward pass: the seam between the tasks and the hardware.
//!
//! An executor encodes a packed batch once; heads are then read from what it returns, so that hidden states can stay
//! where they were made.

use std::ops::Range;

use super::{batch::PackedBatch, spec::EncoderSpec};

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

    /// Batches that are worth having under way at once, each in a thread of its own: more than one where a batch can be sent
    /// and read back while another is computed.
    fn batches_at_once(&self) -> usize {
        1
    }

    /// Why something else runs than at the start, where that is so.
    fn lost(&self) -> Option<String> {
        None
    }
}

/// Hidden states of one batch.
pub trait Encoded {
    /// Logits of a head for each row of `rows`, in order: one entry per label, row after row.
    fn token_logits(&self, head: HeadId, rows: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError>;

    /// Logits of a head over the mean of the hidden states of each span (never empty): one entry per label, span after
    /// span.
    fn pooled_logits(&self, head: HeadId, spans: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError>;

    /// The same for several heads, each over spans of its own: one answer for each entry, in order.
    fn pooled_logits_of(
        &self,
        asked: &[(HeadId, Vec<Range<usize>>)],
    ) -> Result<Vec<Vec<f32>>, ExecutorError> {
        asked.iter().map(|(head, spans)| self.pooled_logits(*head, spans)).collect()
    }
}

/// Whether a model can read a batch: no id beyond its vocabulary, no sequence beyond its positions.
pub fn check_batch(spec: &EncoderSpec, batch: &PackedBatch) -> Result<(), ExecutorError> {
    let (vocabulary, tokens_max) = (spec.vocabulary, spec.tokens_max());
    if let Some(id) = batch.ids.iter().find(|id| **id as usize >= vocabulary) {
        return Err(ExecutorError::TokenOutsideVocabulary { id: *id, vocabulary });
    }
    match batch.sequences().map(|(_, len)| len).max() {
        Some(tokens) if tokens > tokens_max => Err(ExecutorError::SequenceTooLong { tokens, tokens_max }),
        _ => Ok(()),
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecutorError {
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    TokenOutsideVocabulary { id: u32, vocabulary: usize },
    #[error("a sequence of {tokens} tokens is longer than the model's {tokens_max}")]
    SequenceTooLong { tokens: usize, tokens_max: usize },
    #[error("matrix product: {0}")]
    Product(String),
    /// A smaller batch may fit.
    #[error("the device has no {bytes} bytes of memory left for a batch")]
    OutOfMemory { bytes: usize },
    /// Every later call will fail too.
    #[error("the device was lost: {0}")]
    DeviceLost(String),
}

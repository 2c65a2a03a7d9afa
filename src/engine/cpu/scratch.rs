//! Buffers that outlive a forward pass, so that a warm executor allocates nothing in its inner loops.

use std::sync::{Mutex, PoisonError};

use hearken_kernels::{
    attention::AttentionScratch,
    dense::{DenseScratch, Operand},
    memory::Aligned,
};

/// Buffers that are handed out and taken back; there are never more than were in use at once.
pub struct Pool<T> {
    free: Mutex<Vec<T>>,
}

impl<T: Default> Pool<T> {
    pub fn new() -> Self {
        Self { free: Mutex::new(Vec::new()) }
    }

    pub fn take(&self) -> T {
        self.lock().pop().unwrap_or_default()
    }

    pub fn give(&self, item: T) {
        self.lock().push(item);
    }

    /// Lends a buffer to `f`. A task that is begun on the same thread meanwhile gets another one.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let mut item = self.take();
        let result = f(&mut item);
        self.give(item);
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<T>> {
        // A panic elsewhere cannot leave the list half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What some rows need on their way through a layer.
#[derive(Default)]
pub struct RowScratch {
    /// rows x some of the columns between the products of a feed-forward block
    pub wide: Aligned<f32>,
    pub operand: Operand,
    pub wide_operand: Operand,
    pub dense: DenseScratch,
    pub attention: AttentionScratch,
}

/// What a group of sequences needs on its way through the layers.
#[derive(Default)]
pub struct GroupScratch {
    /// rows x 3 hidden: query, key and value side by side, in the numbers that attention multiplies.
    pub qkv: Aligned<f32>,
    pub qkv_bf16: Aligned<u16>,
    /// rows x hidden
    pub context: Aligned<f32>,
}

/// What a batch needs as long as its hidden states are read.
#[derive(Default)]
pub struct BatchScratch {
    /// tokens x hidden
    pub hidden: Aligned<f32>,
}

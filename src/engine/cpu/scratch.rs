//! Buffers that outlive a forward pass, so that a warm executor allocates nothing in its inner loops.

use std::sync::{Mutex, PoisonError};

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

/// The first `len` items of a buffer that grows when it must. What they hold is left over from earlier use.
pub fn sized<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
    &mut buffer[..len]
}

/// What an int8 product needs beside its input and output.
#[derive(Default)]
pub struct IntegerScratch {
    pub quantised: Vec<u8>,
    pub scales: Vec<f32>,
    pub zeros: Vec<u8>,
    pub sums: Vec<i32>,
}

/// What a block of rows needs on its way through a layer.
#[derive(Default)]
pub struct RowScratch {
    pub narrow: Vec<f32>,
    pub wide: Vec<f32>,
    pub integer: IntegerScratch,
}

/// What one attention head of one sequence needs.
#[derive(Default)]
pub struct AttentionScratch {
    pub scores: Vec<f32>,
    pub inverse_sums: Vec<f32>,
    pub mixed: Vec<f32>,
}

/// What a batch needs as long as its hidden states are read.
#[derive(Default)]
pub struct BatchScratch {
    /// tokens x hidden
    pub hidden: Vec<f32>,
    /// tokens x 3 hidden: query, key and value side by side
    pub qkv: Vec<f32>,
    /// tokens x hidden, by sequence, then by attention head
    pub context: Vec<f32>,
}

//! Everything that one batch needs on its way: a stream, staging, an arena, and recordings of small forward passes.
//!
//! An executor has two, so that one batch is sent, read back and put together while the other is computed.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    CudaOptions,
    driver::{Address, Driver, DriverError, HostAddress, Recording, Stream, Work},
    forward::{self, Arena},
    kernels::KernelShape,
    memory::{Buffer, Memory, Pinned},
    plan::{self, InputLayout},
    weights::DeviceWeights,
};
use crate::engine::{batch::PackedBatch, spec::Activation};

/// Rows or spans that a head reads in one launch.
pub const ASKS_MAX: usize = 8_192;
/// Logits that come back in one piece.
pub const LOGITS_MAX: usize = 1 << 20;
/// Recordings of one slot; each costs some device memory.
const RECORDINGS_MAX: usize = 64;

pub struct Slot<D: Driver> {
    memory: Arc<Memory<D>>,
    pub stream: Stream,
    staged_inputs: Pinned<D>,
    inputs: Buffer<D>,
    arena: Buffer<D>,
    /// Hidden states of a batch of several parts; made when there is one.
    whole: Option<Buffer<D>>,
    pub staged_asks: Pinned<D>,
    pub asks: Buffer<D>,
    pub pooled: Buffer<D>,
    pub dense: Buffer<D>,
    pub logits: Buffer<D>,
    pub staged_logits: Pinned<D>,
    recordings: BTreeMap<InputLayout, Recorded>,
}

enum Recorded {
    /// Seen once: the next time it is worth a recording.
    Seen,
    As(Recording),
}

impl<D: Driver> Slot<D> {
    pub fn new(memory: &Arc<Memory<D>>, shape: &KernelShape, tokens_max: usize) -> Result<Self, DriverError> {
        let inputs = InputLayout::bytes_max(tokens_max);
        let asked_rows = 2 * ASKS_MAX * shape.hidden;
        Ok(Self {
            memory: memory.clone(),
            stream: memory.driver.stream()?,
            staged_inputs: memory.pinned(inputs)?,
            inputs: memory.buffer(inputs)?,
            arena: memory.buffer(Arena::new(Address::NULL, shape, tokens_max).bytes)?,
            whole: None,
            staged_asks: memory.pinned(16 * ASKS_MAX)?,
            asks: memory.buffer(16 * ASKS_MAX)?,
            pooled: memory.buffer(asked_rows)?,
            dense: memory.buffer(asked_rows)?,
            logits: memory.buffer(4 * LOGITS_MAX)?,
            staged_logits: memory.pinned(4 * LOGITS_MAX)?,
            recordings: BTreeMap::new(),
        })
    }

    pub fn enqueue(&self, work: &Work) -> Result<(), DriverError> {
        // SAFETY: whoever builds work for a slot uses the slot's own buffers, sized for the largest part, and the model's
        // weights, which outlive its slots; staging is written only after `synchronize`.
        unsafe { self.memory.driver.enqueue(self.stream, work) }
    }

    pub fn synchronize(&self) -> Result<(), DriverError> {
        self.memory.driver.synchronize(self.stream)
    }

    /// Brings `bytes` of the staged asks to the device.
    pub fn send_asks(&self, bytes: usize) -> Result<(), DriverError> {
        self.enqueue(&Work::Upload { to: self.asks.address, from: self.staged_asks.address, bytes })
    }

    /// Waits for the first `count` logits.
    pub fn fetch_logits(&self, count: usize) -> Result<Vec<f32>, DriverError> {
        let to: HostAddress = self.staged_logits.address;
        self.enqueue(&Work::Download { to, from: self.logits.address, bytes: 4 * count })?;
        self.synchronize()?;
        let read = self.staged_logits.bytes()[..4 * count].as_chunks::<4>().0;
        Ok(read.iter().map(|b| f32::from_ne_bytes(*b)).collect())
    }

    /// Starts a batch's forward pass and returns where its hidden states will be.
    pub fn start(
        &mut self,
        options: &CudaOptions,
        shape: &KernelShape,
        activation: Activation,
        weights: &DeviceWeights<D>,
        batch: &PackedBatch,
    ) -> Result<Address, DriverError> {
        let row_bytes = 2 * shape.hidden;
        let parts = plan::parts(batch, options.part_tokens_max);
        if let [_, _, ..] = &parts[..] {
            self.make_whole(batch.tokens() * row_bytes)?;
        }
        for part in &parts {
            // What an earlier batch or part has staged is on its way until then.
            self.synchronize()?;
            let layout = InputLayout::of(part);
            layout.write(batch, part, self.staged_inputs.bytes_mut());
            let (to, from) = (self.inputs.address, self.staged_inputs.address);
            self.enqueue(&Work::Upload { to, from, bytes: layout.bytes() })?;
            let arena = Arena::new(self.arena.address, shape, layout.rows);
            let work = || forward::forward(shape, activation, weights, to, layout, &arena);
            if layout.rows <= options.recorded_rows_max {
                self.run_recorded(layout, work)?;
            } else {
                work().iter().try_for_each(|w| self.enqueue(w))?;
            }
            if let (Some(whole), true) = (&self.whole, parts.len() > 1) {
                let to = whole.address.plus(part.rows.start * row_bytes);
                self.enqueue(&Work::Copy { to, from: arena.hidden, bytes: part.rows.len() * row_bytes })?;
            }
        }
        Ok(match &self.whole {
            Some(whole) if parts.len() > 1 => whole.address,
            _ => self.arena.address,
        })
    }

    fn make_whole(&mut self, bytes: usize) -> Result<(), DriverError> {
        if self.whole.as_ref().is_none_or(|w| w.bytes < bytes) {
            self.synchronize()?;
            self.whole = None;
            self.whole = Some(self.memory.buffer(bytes)?);
        }
        Ok(())
    }

    fn run_recorded(&mut self, layout: InputLayout, work: impl Fn() -> Vec<Work>) -> Result<(), DriverError> {
        let driver = &self.memory.driver;
        match self.recordings.get(&layout) {
            Some(Recorded::As(recording)) => {
                // SAFETY: recorded below from this slot's own buffers, which never move.
                return unsafe { driver.replay(self.stream, *recording) };
            }
            Some(Recorded::Seen) => {
                driver.begin_recording(self.stream)?;
                let outcome = work().iter().try_for_each(|w| self.enqueue(w));
                // Ended in either case, so that the stream is usable again.
                let recording = driver.end_recording(self.stream);
                outcome?;
                let recording = recording?;
                self.recordings.insert(layout, Recorded::As(recording));
                // SAFETY: as above.
                return unsafe { driver.replay(self.stream, recording) };
            }
            None if self.recordings.len() < RECORDINGS_MAX => {
                self.recordings.insert(layout, Recorded::Seen);
            }
            None => {}
        }
        work().iter().try_for_each(|w| self.enqueue(w))
    }
}

impl<D: Driver> Drop for Slot<D> {
    fn drop(&mut self) {
        // A device that was lost answers with an error; nothing runs on it any more.
        let _ = self.synchronize();
        for recorded in self.recordings.values() {
            if let Recorded::As(recording) = recorded {
                self.memory.driver.drop_recording(*recording);
            }
        }
    }
}

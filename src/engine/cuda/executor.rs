//! The executor: slots, the batch's way through one of them, and heads read from what is there.

use std::{
    ops::Range,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{
    CudaOptions, Numbers,
    driver::{Address, Driver, DriverError, Epilogue, Product, ProductShape, Work},
    kernels::{self, KernelShape},
    memory::Memory,
    plan,
    slot::{ASKS_MAX, LOGITS_MAX, Slot},
    weights::{DeviceHead, DeviceWeights},
};
use crate::engine::{
    batch::PackedBatch,
    error::ModelError,
    executor::{Encoded, Executor, ExecutorError, ExecutorInfo, HeadId, check_batch},
    heads::HeadWeights,
    spec::EncoderSpec,
    weights::Checkpoint,
};

pub struct CudaExecutor<D: Driver> {
    spec: EncoderSpec,
    shape: KernelShape,
    options: CudaOptions,
    /// Before the weights, because what runs in a slot may still read them when it is dropped.
    slots: Mutex<Vec<Slot<D>>>,
    slot_free: Condvar,
    weights: DeviceWeights<D>,
    memory: Arc<Memory<D>>,
    lost: OnceLock<String>,
}

impl<D: Driver> CudaExecutor<D> {
    /// Puts a checkpoint's weights on the device and takes all memory that batches will need, in parts as large as fit.
    pub fn new(
        driver: Arc<D>,
        shape: KernelShape,
        spec: &EncoderSpec,
        checkpoint: &Checkpoint,
        heads: &[HeadWeights],
        mut options: CudaOptions,
    ) -> Result<Self, ModelError> {
        let failed = |e: DriverError| ModelError::Executor(e.to_string());
        let memory = Memory::new(driver).map_err(failed)?;
        let weights = DeviceWeights::load(&memory, spec, checkpoint, heads)?;
        let part_tokens_min = plan::bucket(spec.tokens_max());
        options.part_tokens_max = plan::bucket(options.part_tokens_max.max(part_tokens_min));
        let slots = loop {
            let slots: Result<Vec<_>, _> = (0..options.slots.max(1))
                .map(|_| Slot::new(&memory, &shape, options.part_tokens_max))
                .collect();
            match slots {
                Ok(slots) => break slots,
                Err(DriverError::OutOfMemory { .. }) if options.part_tokens_max > part_tokens_min => {
                    let half = plan::bucket(options.part_tokens_max / 2);
                    options.part_tokens_max = half.max(part_tokens_min);
                }
                Err(DriverError::OutOfMemory { .. }) if options.slots > 1 => options.slots = 1,
                Err(error) => return Err(ModelError::Executor(memory.explain(&error))),
            }
        };
        let executor = Self {
            spec: spec.clone(),
            shape,
            options,
            slots: Mutex::new(slots),
            slot_free: Condvar::new(),
            weights,
            memory,
            lost: OnceLock::new(),
        };
        executor.warm().map_err(|e| ModelError::Executor(format!("a first forward failed: {e}")))?;
        Ok(executor)
    }

    /// Most tokens that go through the layers together.
    pub fn part_tokens_max(&self) -> usize {
        self.options.part_tokens_max
    }

    /// Runs the largest part once in every slot, so that no later batch meets a product that was never planned.
    fn warm(&self) -> Result<(), ExecutorError> {
        if !self.options.warm {
            return Ok(());
        }
        let mut batch = PackedBatch::new();
        while batch.tokens() + self.spec.tokens_max() <= self.options.part_tokens_max {
            batch.push(std::iter::repeat_n(0, self.spec.tokens_max()));
        }
        let held = (0..self.options.slots).map(|_| self.encode(&batch)).collect::<Result<Vec<_>, _>>()?;
        drop(held);
        let slots = self.lock();
        slots.iter().try_for_each(Slot::synchronize).map_err(|e| self.error(e))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot<D>>> {
        // A panic elsewhere cannot leave the list half changed.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_slot(&self) -> Slot<D> {
        let mut slots = self.lock();
        loop {
            match slots.pop() {
                Some(slot) => return slot,
                None => slots = self.slot_free.wait(slots).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn give_slot(&self, slot: Slot<D>) {
        self.lock().push(slot);
        self.slot_free.notify_one();
    }

    fn error(&self, error: DriverError) -> ExecutorError {
        match error {
            DriverError::OutOfMemory { bytes } => ExecutorError::OutOfMemory { bytes },
            DriverError::Failed(reason) => {
                ExecutorError::DeviceLost(self.lost.get_or_init(|| reason).clone())
            }
        }
    }
}

impl<D: Driver> Executor for CudaExecutor<D> {
    fn info(&self) -> ExecutorInfo {
        let device = self.memory.driver.info();
        ExecutorInfo {
            device: device.name.clone(),
            precision: match self.shape.numbers {
                Numbers::Bf16 => "bf16",
                Numbers::F16 => "f16",
            },
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!(
                "{} (sm_{}{}), {}, {} MiB of device memory, parts of {} tokens",
                device.model,
                device.capability.0,
                device.capability.1,
                device.software,
                self.memory.bytes() >> 20,
                self.options.part_tokens_max
            ),
        }
    }

    fn batches_at_once(&self) -> usize {
        self.options.slots
    }

    /// Waits while every slot is in use; what holds one is what this returned before.
    fn encode(&self, batch: &PackedBatch) -> Result<Box<dyn Encoded + '_>, ExecutorError> {
        check_batch(&self.spec, batch)?;
        if !batch.token_types.is_empty() {
            return Err(ExecutorError::Product(
                "pairs with token types are not read on a GPU yet; use --device cpu".into(),
            ));
        }
        if let Some(reason) = self.lost.get() {
            return Err(ExecutorError::DeviceLost(reason.clone()));
        }
        let mut slot = self.take_slot();
        let started = slot.start(&self.options, &self.shape, self.spec.activation, &self.weights, batch);
        match started {
            Ok(hidden) => Ok(Box::new(CudaEncoded { executor: self, slot: Some(slot), hidden })),
            Err(error) => {
                self.give_slot(slot);
                Err(self.error(error))
            }
        }
    }
}

struct CudaEncoded<'e, D: Driver> {
    executor: &'e CudaExecutor<D>,
    /// There until it is dropped. Work of the same slot runs in order.
    slot: Option<Slot<D>>,
    hidden: Address,
}

impl<D: Driver> Drop for CudaEncoded<'_, D> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.executor.give_slot(slot);
        }
    }
}

/// One pooled answer that is wanted: rows, head, and where its logits go.
type Ask = [u32; 4];

impl<D: Driver> CudaEncoded<'_, D> {
    fn read(
        &self,
        f: impl FnOnce(&Slot<D>) -> Result<Vec<f32>, DriverError>,
    ) -> Result<Vec<f32>, ExecutorError> {
        let Some(slot) = &self.slot else { return Ok(Vec::new()) };
        f(slot).map_err(|e| self.executor.error(e))
    }

    /// Writes `words` where asks are staged and sends them. The pieces before have been read back, so nothing is under way.
    fn send(&self, slot: &Slot<D>, words: impl Iterator<Item = u32>) -> Result<(), DriverError> {
        slot.synchronize()?;
        let staged = slot.staged_asks.address.0 as *mut u32;
        let mut count = 0;
        for word in words.take(4 * ASKS_MAX) {
            // SAFETY: inside the staging's 16 ASKS_MAX bytes, which only this slot's holder touches.
            unsafe { staged.add(count).write(word) };
            count += 1;
        }
        slot.send_asks(4 * count)
    }

    /// Logits of a head with two layers for spans of rows.
    fn through_dense(
        &self,
        slot: &Slot<D>,
        head: &DeviceHead,
        (weight, dense_bias): (Address, Address),
        spans: &[Range<usize>],
    ) -> Result<Vec<f32>, DriverError> {
        let hidden = self.executor.shape.hidden;
        let mut logits = Vec::with_capacity(spans.len() * head.labels);
        for spans in spans.chunks((LOGITS_MAX / head.labels).clamp(1, ASKS_MAX)) {
            let count = spans.len() as u32;
            self.send(slot, spans.iter().flat_map(|s| [s.start as u32, s.len() as u32]))?;
            let (asks, pooled, dense) = (slot.asks.address, slot.pooled.address, slot.dense.address);
            slot.enqueue(&Work::Launch(kernels::pool(
                self.hidden,
                asks,
                count,
                pooled,
                &self.executor.shape,
            )))?;
            slot.enqueue(&Work::Product(Product {
                x: pooled,
                weight,
                bias: Address::NULL,
                out: dense,
                rows: plan::bucket(spans.len()),
                shape: ProductShape { inputs: hidden, outputs: hidden, epilogue: Epilogue::Nothing },
            }))?;
            self.last_layer(slot, head, dense, Address::NULL, dense_bias, count)?;
            logits.extend(slot.fetch_logits(spans.len() * head.labels)?);
        }
        Ok(logits)
    }

    fn last_layer(
        &self,
        slot: &Slot<D>,
        head: &DeviceHead,
        x: Address,
        rows: Address,
        dense_bias: Address,
        count: u32,
    ) -> Result<(), DriverError> {
        slot.enqueue(&Work::Launch(kernels::head_rows(kernels::HeadRows {
            x,
            rows,
            dense_bias,
            weights: head.weights,
            bias: head.bias,
            out: slot.logits.address,
            count,
            labels: head.labels as u32,
        })))
    }

    /// Logits of one-layer heads for spans of rows, any heads in one launch.
    fn pooled_asks(
        &self,
        slot: &Slot<D>,
        mut asks: &[(usize, Range<usize>)],
    ) -> Result<Vec<f32>, DriverError> {
        let executor = self.executor;
        let mut logits = Vec::new();
        while !asks.is_empty() {
            let mut count = 0;
            let piece: Vec<Ask> = asks
                .iter()
                .take(ASKS_MAX)
                .map_while(|(head, span)| {
                    let labels = executor.weights.heads[*head].labels;
                    let at = count;
                    count += labels;
                    let fits = at == 0 || count <= LOGITS_MAX;
                    if !fits {
                        count = at;
                    }
                    fits.then_some([span.start as u32, span.len() as u32, *head as u32, at as u32])
                })
                .collect();
            asks = &asks[piece.len()..];
            self.send(slot, piece.iter().flatten().copied())?;
            slot.enqueue(&Work::Launch(kernels::pool_heads(
                self.hidden,
                slot.asks.address,
                piece.len() as u32,
                executor.weights.table,
                slot.logits.address,
                &executor.shape,
            )))?;
            logits.extend(slot.fetch_logits(count)?);
        }
        Ok(logits)
    }
}

impl<D: Driver> Encoded for CudaEncoded<'_, D> {
    fn token_logits(&self, head: HeadId, rows: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError> {
        let head = &self.executor.weights.heads[head.0];
        let rows = rows.iter().flat_map(Range::clone);
        self.read(|slot| {
            if let Some(dense) = head.dense {
                let spans: Vec<Range<usize>> = rows.map(|r| r..r + 1).collect();
                return self.through_dense(slot, head, dense, &spans);
            }
            let rows: Vec<u32> = rows.map(|r| r as u32).collect();
            let mut logits = Vec::with_capacity(rows.len() * head.labels);
            for rows in rows.chunks((LOGITS_MAX / head.labels).clamp(1, 4 * ASKS_MAX)) {
                self.send(slot, rows.iter().copied())?;
                let count = rows.len() as u32;
                self.last_layer(slot, head, self.hidden, slot.asks.address, Address::NULL, count)?;
                logits.extend(slot.fetch_logits(rows.len() * head.labels)?);
            }
            Ok(logits)
        })
    }

    fn pooled_logits(&self, head: HeadId, spans: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError> {
        let of = &self.executor.weights.heads[head.0];
        self.read(|slot| match of.dense {
            Some(dense) => self.through_dense(slot, of, dense, spans),
            None => {
                let asks: Vec<_> = spans.iter().map(|s| (head.0, s.clone())).collect();
                self.pooled_asks(slot, &asks)
            }
        })
    }

    fn pooled_logits_of(
        &self,
        asked: &[(HeadId, Vec<Range<usize>>)],
    ) -> Result<Vec<Vec<f32>>, ExecutorError> {
        let heads = &self.executor.weights.heads;
        let simple = asked.iter().filter(|(head, _)| heads[head.0].dense.is_none());
        let asks: Vec<_> =
            simple.flat_map(|(head, spans)| spans.iter().map(|s| (head.0, s.clone()))).collect();
        let mut together = self.read(|slot| self.pooled_asks(slot, &asks))?.into_iter();
        asked
            .iter()
            .map(|(head, spans)| match heads[head.0].dense {
                Some(_) => self.pooled_logits(*head, spans),
                None => Ok(together.by_ref().take(spans.len() * heads[head.0].labels).collect()),
            })
            .collect()
    }
}

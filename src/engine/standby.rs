//! An executor on a device that can be lost, with one behind it that cannot.
//!
//! The first error of a lost device moves the batch at hand, and every one after it, to the standby; no answer is lost.
//! `hearken_device_lost_total` and `hearken_device_fallback` tell whoever watches.

use std::{cell::OnceCell, ops::Range, sync::OnceLock};

use metrics::{counter, describe_counter, describe_gauge, gauge};

use super::{
    batch::PackedBatch,
    executor::{Encoded, Executor, ExecutorError, ExecutorInfo, HeadId},
};

const LOST: &str = "hearken_device_lost_total";
const FALLBACK: &str = "hearken_device_fallback";

pub struct WithStandby {
    first: Box<dyn Executor>,
    standby: Box<dyn Executor>,
    device: String,
    lost: OnceLock<String>,
}

impl WithStandby {
    /// Registers the metrics at zero.
    pub fn new(first: Box<dyn Executor>, standby: Box<dyn Executor>, device: &str) -> Self {
        describe_counter!(LOST, "Devices that were lost while they served");
        describe_gauge!(FALLBACK, "1 while the processor serves in place of a lost device");
        counter!(LOST, "device" => device.to_owned()).increment(0);
        gauge!(FALLBACK, "device" => device.to_owned()).set(0.0);
        Self { first, standby, device: device.into(), lost: OnceLock::new() }
    }

    fn lose(&self, reason: String) {
        if self.lost.set(reason.clone()).is_ok() {
            tracing::error!(
                device = self.device,
                reason,
                "the device was lost; the processor serves from now on"
            );
            counter!(LOST, "device" => self.device.clone()).increment(1);
            gauge!(FALLBACK, "device" => self.device.clone()).set(1.0);
        }
    }
}

impl Executor for WithStandby {
    fn info(&self) -> ExecutorInfo {
        if self.lost.get().is_some() { self.standby.info() } else { self.first.info() }
    }

    fn batches_at_once(&self) -> usize {
        if self.lost.get().is_some() { self.standby.batches_at_once() } else { self.first.batches_at_once() }
    }

    fn lost(&self) -> Option<String> {
        self.lost.get().map(|reason| format!("{} was lost: {reason}", self.device))
    }

    fn encode(&self, batch: &PackedBatch) -> Result<Box<dyn Encoded + '_>, ExecutorError> {
        if self.lost.get().is_some() {
            return self.standby.encode(batch);
        }
        match self.first.encode(batch) {
            Ok(encoded) => {
                let batch = batch.clone();
                Ok(Box::new(Guarded { executor: self, batch, first: encoded, second: OnceCell::new() }))
            }
            Err(ExecutorError::DeviceLost(reason)) => {
                self.lose(reason);
                self.standby.encode(batch)
            }
            Err(error) => Err(error),
        }
    }
}

/// What the first executor encoded, and what the standby did once that was lost.
struct Guarded<'e> {
    executor: &'e WithStandby,
    batch: PackedBatch,
    first: Box<dyn Encoded + 'e>,
    second: OnceCell<Box<dyn Encoded + 'e>>,
}

impl<'e> Guarded<'e> {
    fn read<T>(&self, read: impl Fn(&dyn Encoded) -> Result<T, ExecutorError>) -> Result<T, ExecutorError> {
        if let Some(second) = self.second.get() {
            return read(&**second);
        }
        match read(&*self.first) {
            Err(ExecutorError::DeviceLost(reason)) => {
                self.executor.lose(reason);
                let encoded = self.executor.standby.encode(&self.batch)?;
                read(&**self.second.get_or_init(|| encoded))
            }
            other => other,
        }
    }
}

impl Encoded for Guarded<'_> {
    fn token_logits(&self, head: HeadId, rows: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError> {
        self.read(|encoded| encoded.token_logits(head, rows))
    }

    fn pooled_logits(&self, head: HeadId, spans: &[Range<usize>]) -> Result<Vec<f32>, ExecutorError> {
        self.read(|encoded| encoded.pooled_logits(head, spans))
    }

    fn pooled_logits_of(
        &self,
        asked: &[(HeadId, Vec<Range<usize>>)],
    ) -> Result<Vec<Vec<f32>>, ExecutorError> {
        self.read(|encoded| encoded.pooled_logits_of(asked))
    }
}

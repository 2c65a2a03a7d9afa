//! Device and pinned memory with owners, under one budget.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::driver::{Address, Driver, DriverError, HostAddress};

/// Share of the memory that is free when a model is loaded which its executor may take: the rest is left to the libraries
/// and to whoever else uses the device.
pub const DEVICE_MEMORY_SHARE_MAX: f64 = 0.9;

/// What one executor may take of its device.
pub struct Memory<D: Driver> {
    pub driver: Arc<D>,
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl<D: Driver> Memory<D> {
    pub fn new(driver: Arc<D>) -> Result<Arc<Self>, DriverError> {
        let bytes_max = (driver.memory_free()? as f64 * DEVICE_MEMORY_SHARE_MAX) as usize;
        Ok(Arc::new(Self { driver, bytes_max, bytes: AtomicUsize::new(0) }))
    }

    /// Bytes that are taken now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// An error together with the limit that it may have met.
    pub fn explain(&self, error: &DriverError) -> String {
        match error {
            DriverError::OutOfMemory { .. } => format!(
                "{error}: {} are taken, and device_memory_bytes_max is {}",
                self.bytes(),
                self.bytes_max
            ),
            DriverError::Failed(reason) => reason.clone(),
        }
    }

    /// Device memory; what it holds is left over. Over the budget it is refused as if there were none.
    pub fn buffer(self: &Arc<Self>, bytes: usize) -> Result<Buffer<D>, DriverError> {
        let taken = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let outcome = if taken + bytes > self.bytes_max {
            Err(DriverError::OutOfMemory { bytes })
        } else {
            self.driver.allocate(bytes.max(1))
        };
        match outcome {
            Ok(address) => Ok(Buffer { memory: self.clone(), address, bytes }),
            Err(error) => {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    pub fn pinned(self: &Arc<Self>, bytes: usize) -> Result<Pinned<D>, DriverError> {
        let address = self.driver.allocate_host(bytes.max(1))?;
        Ok(Pinned { memory: self.clone(), address, bytes })
    }
}

/// Owned device memory. Its owner keeps it until what uses it is done.
pub struct Buffer<D: Driver> {
    memory: Arc<Memory<D>>,
    pub address: Address,
    pub bytes: usize,
}

impl<D: Driver> Drop for Buffer<D> {
    fn drop(&mut self) {
        // SAFETY: owners synchronize their stream before they let go of a buffer.
        unsafe { self.memory.driver.free(self.address) };
        self.memory.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Owned pinned memory: copies from and to it run beside everything else.
pub struct Pinned<D: Driver> {
    memory: Arc<Memory<D>>,
    pub address: HostAddress,
    pub bytes: usize,
}

impl<D: Driver> Pinned<D> {
    /// Its contents, when no copy is under way.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the driver gave this many bytes, zeroed; the owner synchronizes before it looks.
        unsafe { std::slice::from_raw_parts(self.address.0 as *const u8, self.bytes) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.address.0 as *mut u8, self.bytes) }
    }
}

impl<D: Driver> Drop for Pinned<D> {
    fn drop(&mut self) {
        // SAFETY: owners synchronize their stream before they let go of pinned memory.
        unsafe { self.memory.driver.free_host(self.address) };
    }
}

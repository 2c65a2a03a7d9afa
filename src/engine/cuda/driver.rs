//! The seam to a device: memory, streams, launches, matrix products and recorded launches.
//!
//! Two things stand behind it: an NVIDIA GPU ([`nvidia`](super::nvidia)), and the processor itself running every kernel's
//! plain reference ([`host`](super::host)), on which everything above this seam is tested without a GPU.

use super::{Numbers, kernels::Launch};

/// A place in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl Address {
    pub const NULL: Address = Address(0);

    pub fn plus(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// Work on one stream runs in order; streams run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream(pub usize);

/// Launches that were recorded once and are started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recording(pub usize);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    #[error("{bytes} bytes of device memory were asked for and are not free")]
    OutOfMemory { bytes: usize },
    /// Anything else. Most CUDA errors leave a context that answers every later call with the same error, so none is
    /// tried again.
    #[error("{0}")]
    Failed(String),
}

/// What a product adds to its rows before it stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Epilogue {
    Nothing,
    Bias,
    BiasGeluTanh,
    BiasRelu,
}

/// `out = epilogue(x weight^T)`: x is rows x inputs, weight outputs x inputs, out rows x outputs, bias outputs, all of them
/// in the model's numbers and row-major; sums are f32. Places are multiples of 256 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub x: Address,
    pub weight: Address,
    pub bias: Address,
    pub out: Address,
    pub rows: usize,
    pub shape: ProductShape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductShape {
    pub inputs: usize,
    pub outputs: usize,
    pub epilogue: Epilogue,
}

/// One thing to do on a stream.
#[derive(Clone, Debug)]
pub enum Work {
    /// From pinned memory.
    Upload {
        to: Address,
        from: HostAddress,
        bytes: usize,
    },
    /// To pinned memory.
    Download {
        to: HostAddress,
        from: Address,
        bytes: usize,
    },
    Copy {
        to: Address,
        from: Address,
        bytes: usize,
    },
    Zero {
        to: Address,
        bytes: usize,
    },
    Launch(Launch),
    Product(Product),
}

/// A place in pinned memory. A number, because work may outlive the borrow of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostAddress(pub usize);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `cuda:N`.
    pub name: String,
    /// What the vendor calls it.
    pub model: String,
    /// Compute capability.
    pub capability: (u32, u32),
    pub multiprocessors: u32,
    pub memory_bytes: usize,
    /// Versions of driver and libraries, for the log.
    pub software: String,
}

/// A device with its kernels compiled for one model's shape.
pub trait Driver: Send + Sync + 'static {
    fn info(&self) -> &DeviceInfo;

    fn numbers(&self) -> Numbers;

    /// Bytes that nobody uses.
    fn memory_free(&self) -> Result<usize, DriverError>;

    /// Memory whose place is a multiple of 256 bytes; what it holds is left over.
    fn allocate(&self, bytes: usize) -> Result<Address, DriverError>;

    /// # Safety
    /// Nothing that was enqueued may still use it.
    unsafe fn free(&self, address: Address);

    /// Pinned memory of the host, zeroed.
    fn allocate_host(&self, bytes: usize) -> Result<HostAddress, DriverError>;

    /// # Safety
    /// Nothing that was enqueued may still use it.
    unsafe fn free_host(&self, address: HostAddress);

    fn stream(&self) -> Result<Stream, DriverError>;

    /// # Safety
    /// Every place that `work` names must hold as many bytes as the work touches until the stream was synchronized, and
    /// pinned memory must not be read or written by the host until then.
    unsafe fn enqueue(&self, stream: Stream, work: &Work) -> Result<(), DriverError>;

    /// Waits until everything on the stream is done.
    fn synchronize(&self, stream: Stream) -> Result<(), DriverError>;

    /// What is enqueued from here on is recorded and not run.
    fn begin_recording(&self, stream: Stream) -> Result<(), DriverError>;

    fn end_recording(&self, stream: Stream) -> Result<Recording, DriverError>;

    /// # Safety
    /// As for [`enqueue`](Self::enqueue), for everything that was recorded.
    unsafe fn replay(&self, stream: Stream, recording: Recording) -> Result<(), DriverError>;

    /// Forgets a recording that no stream runs any more.
    fn drop_recording(&self, recording: Recording);

    /// Seconds that the device itself measures for work enqueued between two calls of this on an otherwise idle stream:
    /// the first returns 0.
    fn lap(&self, stream: Stream) -> Result<f64, DriverError>;
}

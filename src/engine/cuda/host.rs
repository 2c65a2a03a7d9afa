//! The processor as a device: every launch runs the kernel's plain reference, in the model's numbers.
//!
//! What is above the driver cannot tell it from a GPU, so layout, parts, staging, heads and recovery are tested on it. It
//! is strict where a GPU is silent: a place outside an allocation is an error, fresh memory is full of NaNs, and errors can
//! be made to happen at any call. Slow; nothing is served from it.

use std::{
    alloc::{Layout, alloc, alloc_zeroed, dealloc},
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    Numbers,
    driver::{
        Address, DeviceInfo, Driver, DriverError, Epilogue, HostAddress, Product, Recording, Stream, Work,
    },
    kernels::{Argument, Kernel, KernelShape, Launch},
    plan::ALIGNMENT,
    reference,
};

/// Runs one launch; `None` means by the plain references.
pub type LaunchFn = Box<dyn Fn(&Launch) -> Result<(), String> + Send + Sync>;

pub struct HostDriver {
    info: DeviceInfo,
    shape: KernelShape,
    launch: Option<LaunchFn>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Start and size of everything that is allocated, on the "device" and pinned.
    allocations: BTreeMap<usize, Layout>,
    bytes: usize,
    bytes_max: usize,
    recording: BTreeMap<usize, Vec<Work>>,
    recordings: BTreeMap<usize, Vec<Work>>,
    made: usize,
    calls: usize,
    fail_at: Option<(usize, DriverError)>,
    lap: Option<Instant>,
}

impl HostDriver {
    pub fn new(shape: KernelShape, memory_bytes: usize) -> Self {
        let info = DeviceInfo {
            name: "host".into(),
            model: "the processor, running plain references".into(),
            capability: (0, 0),
            multiprocessors: 1,
            memory_bytes,
            software: "none".into(),
        };
        let state = State { bytes_max: memory_bytes, ..State::default() };
        Self { info, shape, launch: None, state: Mutex::new(state) }
    }

    /// Launches go to `launch` instead, with places that are addresses of this process.
    pub fn with_launch(mut self, launch: LaunchFn) -> Self {
        self.launch = Some(launch);
        self
    }

    /// Makes the `calls`-th call from now on fail, and for anything but a lack of memory every one after it.
    pub fn fail_after(&self, calls: usize, error: DriverError) {
        let mut state = self.state();
        state.fail_at = Some((state.calls + calls, error));
    }

    /// Calls so far that could have failed.
    pub fn calls(&self) -> usize {
        self.state().calls
    }

    /// Recordings that were made and not dropped.
    pub fn recordings(&self) -> usize {
        self.state().recordings.len()
    }

    /// Bytes that are allocated, pinned ones too.
    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) -> Result<(), DriverError> {
        let mut state = self.state();
        state.calls += 1;
        match state.fail_at.clone() {
            Some((at, error)) if state.calls >= at => {
                if matches!(error, DriverError::OutOfMemory { .. }) {
                    state.fail_at = None;
                }
                Err(error)
            }
            _ => Ok(()),
        }
    }

    fn take(&self, bytes: usize, zeroed: bool) -> Result<usize, DriverError> {
        self.call()?;
        let mut state = self.state();
        if state.bytes + bytes > state.bytes_max {
            return Err(DriverError::OutOfMemory { bytes });
        }
        let layout = Layout::from_size_align(bytes.max(1), ALIGNMENT)
            .map_err(|e| DriverError::Failed(e.to_string()))?;
        // SAFETY: the layout is not empty.
        let pointer = unsafe { if zeroed { alloc_zeroed(layout) } else { alloc(layout) } };
        if pointer.is_null() {
            return Err(DriverError::OutOfMemory { bytes });
        }
        if !zeroed {
            // SAFETY: just allocated with this size. All ones is a NaN in every format.
            unsafe { pointer.write_bytes(0xFF, layout.size()) };
        }
        state.allocations.insert(pointer as usize, layout);
        state.bytes += layout.size();
        Ok(pointer as usize)
    }

    fn give(&self, at: usize) {
        let mut state = self.state();
        if let Some(layout) = state.allocations.remove(&at) {
            state.bytes -= layout.size();
            // SAFETY: allocated above with this layout, and forgotten now.
            unsafe { dealloc(at as *mut u8, layout) };
        }
    }

    /// A checked place: `count` items from `at` on lie inside one allocation.
    fn at<T>(&self, at: usize, count: usize) -> Result<*mut T, DriverError> {
        let bytes = count * size_of::<T>();
        let state = self.state();
        let inside = state
            .allocations
            .range(..=at)
            .next_back()
            .is_some_and(|(start, layout)| at + bytes <= start + layout.size());
        if inside && at.is_multiple_of(align_of::<T>()) {
            Ok(at as *mut T)
        } else {
            Err(DriverError::Failed(format!("{bytes} bytes at {at:#x} are outside every allocation")))
        }
    }

    /// Items of device memory.
    fn read<T: Copy>(&self, address: Address, count: usize) -> Result<Vec<T>, DriverError> {
        let from = self.at::<T>(address.0 as usize, count)?;
        // SAFETY: checked; `T` is a number or an array of numbers, for which all bits are values.
        Ok(unsafe { std::slice::from_raw_parts(from, count) }.to_vec())
    }

    /// Everything from `address` to the end of its allocation.
    fn rest<T: Copy>(&self, address: Address) -> Result<Vec<T>, DriverError> {
        let end = {
            let state = self.state();
            let found = state.allocations.range(..=address.0 as usize).next_back();
            found.map_or(0, |(start, layout)| start + layout.size())
        };
        self.read(address, end.saturating_sub(address.0 as usize) / size_of::<T>())
    }

    fn write<T: Copy>(&self, address: Address, values: &[T]) -> Result<(), DriverError> {
        let to = self.at::<T>(address.0 as usize, values.len())?;
        // SAFETY: checked.
        unsafe { std::slice::from_raw_parts_mut(to, values.len()) }.copy_from_slice(values);
        Ok(())
    }

    fn copy(&self, to: usize, from: usize, bytes: usize) -> Result<(), DriverError> {
        let (to, from) = (self.at::<u8>(to, bytes)?, self.at::<u8>(from, bytes)?);
        // SAFETY: both are checked; they may overlap.
        unsafe { std::ptr::copy(from, to, bytes) };
        Ok(())
    }

    fn run(&self, work: &Work) -> Result<(), DriverError> {
        match work {
            Work::Upload { to, from, bytes } => self.copy(to.0 as usize, from.0, *bytes),
            Work::Download { to, from, bytes } => self.copy(to.0, from.0 as usize, *bytes),
            Work::Copy { to, from, bytes } => self.copy(to.0 as usize, from.0 as usize, *bytes),
            Work::Zero { to, bytes } => self.write(*to, &vec![0u8; *bytes]),
            Work::Product(product) => self.product(product),
            Work::Launch(launch) => match &self.launch {
                Some(run) => run(launch).map_err(DriverError::Failed),
                None => self.reference(launch),
            },
        }
    }

    fn product(&self, p: &Product) -> Result<(), DriverError> {
        let (inputs, outputs) = (p.shape.inputs, p.shape.outputs);
        for place in [p.x, p.weight, p.out] {
            if !place.0.is_multiple_of(ALIGNMENT as u64) {
                return Err(DriverError::Failed(format!("a product at {:#x} is not aligned", place.0)));
            }
        }
        let x: Vec<u16> = self.read(p.x, p.rows * inputs)?;
        let weight: Vec<u16> = self.read(p.weight, inputs * outputs)?;
        let bias: Vec<u16> = match p.shape.epilogue {
            Epilogue::Nothing => vec![0; outputs],
            _ => self.read(p.bias, outputs)?,
        };
        let mut bits = vec![0; p.rows * outputs];
        reference::product(self.shape.numbers, &x, &weight, &bias, &mut bits, p.shape.epilogue);
        self.write(p.out, &bits)
    }

    fn reference(&self, launch: &Launch) -> Result<(), DriverError> {
        let KernelShape { numbers, hidden, intermediate, heads, head_width } = self.shape;
        let arguments = &launch.arguments;
        let place = |i: usize| match arguments[i] {
            Argument::Address(address) => address,
            _ => Address::NULL,
        };
        let count = |i: usize| match arguments[i] {
            Argument::U32(n) => n as usize,
            _ => 0,
        };
        let float = |i: usize| match arguments[i] {
            Argument::F32(x) => x,
            _ => f32::NAN,
        };
        match launch.kernel {
            Kernel::EmbedNorm => {
                let rows = count(8);
                let mut out: Vec<u16> = self.read(place(7), rows * hidden)?;
                reference::embed_norm(
                    numbers,
                    &self.read::<u32>(place(0), rows)?,
                    &self.read::<u32>(place(1), rows)?,
                    &self.rest::<u16>(place(2))?,
                    &self.rest::<f32>(place(3))?,
                    &self.read::<f32>(place(4), hidden)?,
                    &self.read::<f32>(place(5), hidden)?,
                    float(6),
                    &mut out,
                );
                self.write(place(7), &out)
            }
            Kernel::ResidualNorm => {
                let rows = count(6);
                let mut kept: Vec<u16> = self.read(place(2), rows * hidden)?;
                reference::residual_norm(
                    numbers,
                    &self.read::<u16>(place(0), rows * hidden)?,
                    &self.read::<f32>(place(1), hidden)?,
                    &mut kept,
                    &self.read::<f32>(place(3), hidden)?,
                    &self.read::<f32>(place(4), hidden)?,
                    float(5),
                );
                self.write(place(2), &kept)
            }
            Kernel::BiasGelu => {
                let mut x: Vec<u16> = self.read(place(0), count(2) * 8)?;
                reference::bias_gelu(numbers, &mut x, &self.read::<f32>(place(1), intermediate)?);
                self.write(place(0), &x)
            }
            Kernel::Attention => {
                let tiles: Vec<[u32; 4]> = self.read(place(1), launch.grid[0] as usize)?;
                let rows =
                    tiles.iter().map(|[first, length, ..]| (first + length) as usize).max().unwrap_or(0);
                let qkv: Vec<u16> = self.read(place(0), rows * 3 * hidden)?;
                let mut out: Vec<u16> = self.read(place(2), rows * hidden)?;
                reference::attention(numbers, &qkv, &tiles, &mut out, float(3), (heads, head_width));
                self.write(place(2), &out)
            }
            Kernel::Pool => {
                let spans: Vec<[u32; 2]> = self.read(place(1), launch.grid[0] as usize)?;
                let mut out: Vec<u16> = self.read(place(2), spans.len() * hidden)?;
                reference::pool(numbers, &self.rest::<u16>(place(0))?, &spans, &mut out, hidden);
                self.write(place(2), &out)
            }
            Kernel::PoolHeads => {
                let asks: Vec<[u32; 4]> = self.read(place(1), launch.grid[0] as usize)?;
                let mut out: Vec<f32> = self.rest(place(5))?;
                reference::pool_heads(
                    numbers,
                    &self.rest::<u16>(place(0))?,
                    &asks,
                    &self.rest::<[u32; 2]>(place(2))?,
                    &self.rest::<f32>(place(3))?,
                    &self.rest::<f32>(place(4))?,
                    &mut out,
                    hidden,
                );
                self.write(place(5), &out)
            }
            Kernel::HeadRows => {
                let (rows, labels) = (count(6), count(7));
                let present = |i: usize| place(i) != Address::NULL;
                let mut out: Vec<f32> = self.read(place(5), rows * labels)?;
                let indices = if present(1) { Some(self.read::<u32>(place(1), rows)?) } else { None };
                let dense = if present(2) { Some(self.read::<f32>(place(2), hidden)?) } else { None };
                reference::head_rows(
                    numbers,
                    &self.rest::<u16>(place(0))?,
                    indices.as_deref(),
                    dense.as_deref(),
                    &self.read::<f32>(place(3), labels * hidden)?,
                    &self.read::<f32>(place(4), labels)?,
                    &mut out,
                );
                self.write(place(5), &out)
            }
            Kernel::Convert => {
                let n = count(2) * 8;
                let mut to: Vec<u16> = vec![0; n];
                reference::convert(numbers, &self.read::<f32>(place(0), n)?, &mut to);
                self.write(place(1), &to)
            }
        }
    }
}

impl Driver for HostDriver {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn numbers(&self) -> Numbers {
        self.shape.numbers
    }

    fn memory_free(&self) -> Result<usize, DriverError> {
        self.call()?;
        let state = self.state();
        Ok(state.bytes_max - state.bytes)
    }

    fn allocate(&self, bytes: usize) -> Result<Address, DriverError> {
        self.take(bytes, false).map(|at| Address(at as u64))
    }

    unsafe fn free(&self, address: Address) {
        self.give(address.0 as usize);
    }

    fn allocate_host(&self, bytes: usize) -> Result<HostAddress, DriverError> {
        self.take(bytes, true).map(HostAddress)
    }

    unsafe fn free_host(&self, address: HostAddress) {
        self.give(address.0);
    }

    fn stream(&self) -> Result<Stream, DriverError> {
        self.call()?;
        let mut state = self.state();
        state.made += 1;
        Ok(Stream(state.made))
    }

    unsafe fn enqueue(&self, stream: Stream, work: &Work) -> Result<(), DriverError> {
        self.call()?;
        if let Some(recording) = self.state().recording.get_mut(&stream.0) {
            recording.push(work.clone());
            return Ok(());
        }
        self.run(work)
    }

    fn synchronize(&self, _: Stream) -> Result<(), DriverError> {
        self.call()
    }

    fn begin_recording(&self, stream: Stream) -> Result<(), DriverError> {
        self.call()?;
        self.state().recording.insert(stream.0, Vec::new());
        Ok(())
    }

    fn end_recording(&self, stream: Stream) -> Result<Recording, DriverError> {
        self.call()?;
        let mut state = self.state();
        let work = state.recording.remove(&stream.0).unwrap_or_default();
        state.made += 1;
        let name = state.made;
        state.recordings.insert(name, work);
        Ok(Recording(name))
    }

    unsafe fn replay(&self, _: Stream, recording: Recording) -> Result<(), DriverError> {
        self.call()?;
        let work = self.state().recordings.get(&recording.0).cloned();
        let work = work.ok_or_else(|| DriverError::Failed("no such recording".into()))?;
        work.iter().try_for_each(|work| self.run(work))
    }

    fn drop_recording(&self, recording: Recording) {
        self.state().recordings.remove(&recording.0);
    }

    fn lap(&self, _: Stream) -> Result<f64, DriverError> {
        let now = Instant::now();
        let last = self.state().lap.replace(now);
        Ok(last.map_or(0.0, |last| (now - last).as_secs_f64()))
    }
}

impl Drop for HostDriver {
    fn drop(&mut self) {
        let left: Vec<usize> = self.state().allocations.keys().copied().collect();
        left.into_iter().for_each(|at| self.give(at));
    }
}

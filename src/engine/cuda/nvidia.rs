//! An NVIDIA GPU behind the seam: the driver's own calls, with kernels compiled for one model.
//!
//! No call panics where a library is missing: [`Gpu::open`] asks first. Every error but a lack of memory is taken as the
//! loss of the device.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cudarc::driver::sys;

use super::{
    Numbers, Plans, compile,
    driver::{Address, DeviceInfo, Driver, DriverError, HostAddress, Recording, Stream, Work},
    kernels::{Argument, Kernel, KernelShape, Launch},
    library,
    products::{Products, WORKSPACE_BYTES},
};

fn check(what: &str, code: sys::CUresult) -> Result<(), DriverError> {
    match code {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Err(DriverError::OutOfMemory { bytes: 0 }),
        other => Err(DriverError::Failed(format!("{what}: {other:?}"))),
    }
}

/// One GPU's primary context, shared by all models on it.
pub struct Gpu {
    context: sys::CUcontext,
    device: sys::CUdevice,
    pub info: DeviceInfo,
}

// SAFETY: a context may be made current in any thread.
unsafe impl Send for Gpu {}
// SAFETY: as above.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// Opens device `ordinal`, or says why it cannot be used.
    pub fn open(ordinal: u32) -> Result<Arc<Self>, String> {
        library::all()?;
        // The bindings panic where a library lacks a function that a newer one has.
        catch_unwind(AssertUnwindSafe(|| Self::open_present(ordinal)))
            .unwrap_or_else(|_| Err("the NVIDIA driver is too old for this program".into()))
    }

    fn open_present(ordinal: u32) -> Result<Arc<Self>, String> {
        let said = |e: DriverError| e.to_string();
        // SAFETY: every pointer below is to a variable of the type that the call writes.
        unsafe {
            check("cuInit", sys::cuInit(0)).map_err(said)?;
            let mut count = 0;
            check("cuDeviceGetCount", sys::cuDeviceGetCount(&mut count)).map_err(said)?;
            if ordinal as i64 >= i64::from(count) {
                return Err(match count {
                    0 => "there is no CUDA device".into(),
                    _ => format!("there is no device cuda:{ordinal}; there are {count}, counted from 0"),
                });
            }
            let mut device = 0;
            check("cuDeviceGet", sys::cuDeviceGet(&mut device, ordinal as i32)).map_err(said)?;
            let attribute = |which| {
                let mut value = 0;
                check("cuDeviceGetAttribute", sys::cuDeviceGetAttribute(&mut value, which, device))
                    .map(|()| value as u32)
                    .map_err(said)
            };
            use sys::CUdevice_attribute as Attribute;
            let capability = (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            );
            let mut name = [0; 128];
            check("cuDeviceGetName", sys::cuDeviceGetName(name.as_mut_ptr(), 127, device)).map_err(said)?;
            let model = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
            if capability < compile::CAPABILITY_MIN {
                let (major, minor) = compile::CAPABILITY_MIN;
                return Err(format!(
                    "cuda:{ordinal}, {model}, has compute capability {}.{}, below {major}.{minor}",
                    capability.0, capability.1
                ));
            }
            let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
            let mut memory_bytes = 0;
            check("cuDeviceTotalMem", sys::cuDeviceTotalMem_v2(&mut memory_bytes, device)).map_err(said)?;
            let mut driver = 0;
            check("cuDriverGetVersion", sys::cuDriverGetVersion(&mut driver)).map_err(said)?;
            let mut context = std::ptr::null_mut();
            check("cuDevicePrimaryCtxRetain", sys::cuDevicePrimaryCtxRetain(&mut context, device))
                .map_err(said)?;
            let nvrtc = compile::version()?;
            let software = format!(
                "CUDA driver {}.{}, NVRTC {}.{}, cublasLt {}",
                driver / 1000,
                driver % 1000 / 10,
                nvrtc.0,
                nvrtc.1,
                Products::version()
            );
            let info = DeviceInfo {
                name: format!("cuda:{ordinal}"),
                model,
                capability,
                multiprocessors,
                memory_bytes,
                software,
            };
            Ok(Arc::new(Self { context, device, info }))
        }
    }

    fn make_current(&self) -> Result<(), DriverError> {
        // SAFETY: the context is retained while `self` lives.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: retained once in `open`.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

pub struct NvidiaDriver {
    numbers: Numbers,
    module: sys::CUmodule,
    /// In the order of [`Kernel::ALL`].
    functions: Vec<sys::CUfunction>,
    products: Products,
    state: Mutex<State>,
    /// Last, so that the context outlives what was made in it.
    gpu: Arc<Gpu>,
}

// SAFETY: the driver's handles may be used from any thread while their context is current, which every call sees to.
unsafe impl Send for NvidiaDriver {}
// SAFETY: as above; what changes is behind a lock.
unsafe impl Sync for NvidiaDriver {}

#[derive(Default)]
struct State {
    streams: Vec<StreamParts>,
    recordings: BTreeMap<usize, (sys::CUgraph, sys::CUgraphExec)>,
    recordings_made: usize,
}

#[derive(Clone, Copy)]
struct StreamParts {
    stream: sys::CUstream,
    workspace: Address,
    /// The last lap's mark and the next one's.
    marks: [sys::CUevent; 2],
    laps: usize,
}

impl NvidiaDriver {
    /// Compiles the kernels for a model's shape, or takes them from the cache.
    pub fn new(gpu: Arc<Gpu>, shape: &KernelShape, plans: Plans) -> Result<Self, String> {
        let image =
            compile::kernels_for(gpu.info.capability, &shape.defines(), compile::cache_folder().as_deref())?;
        let said = |e: DriverError| e.to_string();
        gpu.make_current().map_err(said)?;
        let mut module = std::ptr::null_mut();
        // SAFETY: a whole image, PTX ending in a zero byte; the module is written.
        check("cuModuleLoadData", unsafe { sys::cuModuleLoadData(&mut module, image.bytes.as_ptr().cast()) })
            .map_err(said)?;
        let mut functions = Vec::new();
        for kernel in Kernel::ALL {
            let name = CString::new(kernel.name()).map_err(|e| e.to_string())?;
            let mut function = std::ptr::null_mut();
            // SAFETY: the module was loaded above; the function is written.
            check(kernel.name(), unsafe { sys::cuModuleGetFunction(&mut function, module, name.as_ptr()) })
                .map_err(said)?;
            functions.push(function);
        }
        let products = Products::new(shape.numbers, plans).map_err(said)?;
        Ok(Self { gpu, numbers: shape.numbers, module, functions, products, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self, stream: Stream) -> Result<StreamParts, DriverError> {
        self.gpu.make_current()?;
        let parts = self.state().streams.get(stream.0).copied();
        parts.ok_or_else(|| DriverError::Failed("no such stream".into()))
    }

    /// # Safety
    /// As for [`Driver::enqueue`].
    unsafe fn launch(&self, stream: sys::CUstream, launch: &Launch) -> Result<(), DriverError> {
        // The driver reads each argument where its address points.
        let mut values: Vec<u64> = launch
            .arguments
            .iter()
            .map(|argument| match argument {
                Argument::Address(address) => address.0,
                Argument::U32(n) => u64::from(*n),
                Argument::F32(x) => u64::from(x.to_bits()),
            })
            .collect();
        let mut places: Vec<*mut c_void> = values.iter_mut().map(|v| (v as *mut u64).cast()).collect();
        let function = self.functions[launch.kernel as usize];
        let [x, y] = launch.grid;
        // SAFETY: the caller's for what the arguments name; on little-endian machines the first bytes of a u64 are the
        // kernel's narrower parameter.
        let code = unsafe {
            sys::cuLaunchKernel(
                function,
                x,
                y,
                1,
                launch.threads,
                1,
                1,
                0,
                stream,
                places.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        check(launch.kernel.name(), code)
    }
}

const _: () =
    assert!(cfg!(target_endian = "little"), "arguments of kernels are packed for little-endian machines");

impl Driver for NvidiaDriver {
    fn info(&self) -> &DeviceInfo {
        &self.gpu.info
    }

    fn numbers(&self) -> Numbers {
        self.numbers
    }

    fn memory_free(&self) -> Result<usize, DriverError> {
        self.gpu.make_current()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are written.
        check("cuMemGetInfo", unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) })?;
        Ok(free)
    }

    fn allocate(&self, bytes: usize) -> Result<Address, DriverError> {
        self.gpu.make_current()?;
        let mut address = 0;
        // SAFETY: written. The driver's allocations are aligned to at least 256 bytes.
        match check("cuMemAlloc", unsafe { sys::cuMemAlloc_v2(&mut address, bytes) }) {
            Err(DriverError::OutOfMemory { .. }) => Err(DriverError::OutOfMemory { bytes }),
            other => other.map(|()| Address(address)),
        }
    }

    unsafe fn free(&self, address: Address) {
        if self.gpu.make_current().is_ok() {
            // SAFETY: the caller's. An error means that the device is gone, and its memory with it.
            let _ = unsafe { sys::cuMemFree_v2(address.0) };
        }
    }

    fn allocate_host(&self, bytes: usize) -> Result<HostAddress, DriverError> {
        self.gpu.make_current()?;
        let mut pointer: *mut c_void = std::ptr::null_mut();
        // SAFETY: written, and as large as asked for.
        unsafe {
            check("cuMemHostAlloc", sys::cuMemHostAlloc(&mut pointer, bytes, 0))?;
            pointer.cast::<u8>().write_bytes(0, bytes);
        }
        Ok(HostAddress(pointer as usize))
    }

    unsafe fn free_host(&self, address: HostAddress) {
        if self.gpu.make_current().is_ok() {
            // SAFETY: the caller's.
            let _ = unsafe { sys::cuMemFreeHost(address.0 as *mut c_void) };
        }
    }

    fn stream(&self) -> Result<Stream, DriverError> {
        let workspace = self.allocate(WORKSPACE_BYTES)?;
        let mut parts = StreamParts {
            stream: std::ptr::null_mut(),
            workspace,
            marks: [std::ptr::null_mut(); 2],
            laps: 0,
        };
        let non_blocking = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: each is written.
        unsafe {
            check("cuStreamCreate", sys::cuStreamCreate(&mut parts.stream, non_blocking))?;
            for mark in &mut parts.marks {
                check("cuEventCreate", sys::cuEventCreate(mark, 0))?;
            }
        }
        let mut state = self.state();
        state.streams.push(parts);
        Ok(Stream(state.streams.len() - 1))
    }

    unsafe fn enqueue(&self, stream: Stream, work: &Work) -> Result<(), DriverError> {
        let StreamParts { stream, workspace, .. } = self.parts(stream)?;
        // SAFETY: the caller's, for every place that the work names.
        unsafe {
            match work {
                Work::Upload { to, from, bytes } => {
                    check("upload", sys::cuMemcpyHtoDAsync_v2(to.0, from.0 as *const c_void, *bytes, stream))
                }
                Work::Download { to, from, bytes } => {
                    check("download", sys::cuMemcpyDtoHAsync_v2(to.0 as *mut c_void, from.0, *bytes, stream))
                }
                Work::Copy { to, from, bytes } => {
                    check("copy", sys::cuMemcpyDtoDAsync_v2(to.0, from.0, *bytes, stream))
                }
                Work::Zero { to, bytes } => check("zero", sys::cuMemsetD8Async(to.0, 0, *bytes, stream)),
                Work::Launch(launch) => self.launch(stream, launch),
                Work::Product(product) => self.products.run(product, workspace, stream.cast()),
            }
        }
    }

    fn synchronize(&self, stream: Stream) -> Result<(), DriverError> {
        let parts = self.parts(stream)?;
        // SAFETY: a stream of this driver.
        check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(parts.stream) })
    }

    fn begin_recording(&self, stream: Stream) -> Result<(), DriverError> {
        let parts = self.parts(stream)?;
        // Other threads may take memory meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: a stream of this driver.
        check("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(parts.stream, mode) })
    }

    fn end_recording(&self, stream: Stream) -> Result<Recording, DriverError> {
        let parts = self.parts(stream)?;
        let (mut graph, mut executable) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a stream of this driver; both are written.
        unsafe {
            check("cuStreamEndCapture", sys::cuStreamEndCapture(parts.stream, &mut graph))?;
            check("cuGraphInstantiate", sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0))?;
        }
        let mut state = self.state();
        state.recordings_made += 1;
        let name = state.recordings_made;
        state.recordings.insert(name, (graph, executable));
        Ok(Recording(name))
    }

    unsafe fn replay(&self, stream: Stream, recording: Recording) -> Result<(), DriverError> {
        let parts = self.parts(stream)?;
        let found = self.state().recordings.get(&recording.0).copied();
        let (_, executable) = found.ok_or_else(|| DriverError::Failed("no such recording".into()))?;
        // SAFETY: the caller's; the executable lives until `drop_recording`.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(executable, parts.stream) })
    }

    fn drop_recording(&self, recording: Recording) {
        let found = self.state().recordings.remove(&recording.0);
        if let (Some((graph, executable)), Ok(())) = (found, self.gpu.make_current()) {
            // SAFETY: made in `end_recording`, forgotten above.
            unsafe {
                let _ = sys::cuGraphExecDestroy(executable);
                let _ = sys::cuGraphDestroy(graph);
            }
        }
    }

    fn lap(&self, stream: Stream) -> Result<f64, DriverError> {
        let parts = self.parts(stream)?;
        let (next, last) = (parts.marks[parts.laps % 2], parts.marks[(parts.laps + 1) % 2]);
        let mut milliseconds = 0f32;
        // SAFETY: events and stream of this driver; the time is written.
        unsafe {
            check("cuEventRecord", sys::cuEventRecord(next, parts.stream))?;
            check("cuEventSynchronize", sys::cuEventSynchronize(next))?;
            if parts.laps > 0 {
                // In drivers from CUDA 12.8 on; only `gpu-check` takes laps.
                check("cuEventElapsedTime", sys::cuEventElapsedTime_v2(&mut milliseconds, last, next))?;
            }
        }
        if let Some(of_stream) = self.state().streams.get_mut(stream.0) {
            of_stream.laps += 1;
        }
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for NvidiaDriver {
    fn drop(&mut self) {
        if self.gpu.make_current().is_err() {
            return;
        }
        let state = std::mem::take(&mut *self.state());
        // SAFETY: all made by this driver and used by nobody any more; errors mean that the device is gone.
        unsafe {
            for parts in state.streams {
                let _ = sys::cuStreamSynchronize(parts.stream);
                for mark in parts.marks {
                    let _ = sys::cuEventDestroy_v2(mark);
                }
                let _ = sys::cuStreamDestroy_v2(parts.stream);
                let _ = sys::cuMemFree_v2(parts.workspace.0);
            }
            for (graph, executable) in state.recordings.into_values() {
                let _ = sys::cuGraphExecDestroy(executable);
                let _ = sys::cuGraphDestroy(graph);
            }
            let _ = sys::cuModuleUnload(self.module);
        }
    }
}

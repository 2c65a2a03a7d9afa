//! The CUDA kernels themselves, run thread by thread on the processor and compared with their plain references.
//!
//! The sources in `kernels/cuda/` are compiled as C++ with an emulator of warps, barriers, tensor instructions and
//! asynchronous copies (`cuda_emulator/`). Warps and threads take turns in three ways (`emulator.h`): a missing barrier changes
//! the result in one of them. Needs `g++`; without it the tests say so and pass.
//! Not covered here: what only the chip decides (timing, memory ordering between barriers, the library's products).

use std::{
    ffi::{CStr, CString, c_char, c_uint, c_void},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, OnceLock},
};

use hearken::engine::cuda::{
    Numbers,
    host::{HostDriver, LaunchFn},
    kernels::{Argument, KernelShape, Launch},
    parity,
};

const MEMORY_BYTES: usize = 1 << 30;

fn shape(numbers: Numbers, heads: usize, head_width: usize, intermediate: usize) -> KernelShape {
    KernelShape { numbers, hidden: heads * head_width, intermediate, heads, head_width }
}

fn compiler() -> Option<&'static str> {
    static COMPILER: OnceLock<Option<&'static str>> = OnceLock::new();
    *COMPILER.get_or_init(|| {
        let found = ["g++", "c++"].into_iter().find(|c| Command::new(c).arg("--version").output().is_ok());
        if found.is_none() {
            eprintln!("SKIPPED: there is no g++ here, so the CUDA kernels are not emulated");
        }
        found
    })
}

type Emulate = unsafe extern "C" fn(
    *const c_char,
    *const c_uint,
    c_uint,
    *mut *mut c_void,
    c_uint,
    c_uint,
) -> *const c_char;

/// The kernels for one shape. The emulator keeps its state in globals, so one launch runs at a time.
struct Emulated {
    library: libloading::Library,
    lock: Mutex<()>,
}

/// Builds the kernels, with `edit` applied to their sources first.
fn build(shape: &KernelShape, edit: impl Fn(&str) -> String) -> Option<Arc<Emulated>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root.join("kernels/cuda")).unwrap() {
        let path = entry.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        std::fs::write(dir.path().join(path.file_name().unwrap()), edit(&source)).unwrap();
    }
    let object: PathBuf = dir.path().join("kernels.so");
    let outcome = Command::new(compiler()?)
        .args(["-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-ffp-contract=off"])
        .arg(format!("-I{}", root.join("tests/cuda_emulator").display()))
        .arg(format!("-I{}", dir.path().display()))
        .args(shape.defines())
        .arg(root.join("tests/cuda_emulator/kernels.cpp"))
        .arg("-o")
        .arg(&object)
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    // SAFETY: built above; its initialisation fills a few globals.
    let library = unsafe { libloading::Library::new(&object) }.unwrap();
    Some(Arc::new(Emulated { library, lock: Mutex::new(()) }))
}

impl Emulated {
    fn run(&self, launch: &Launch, order: u32) -> Result<(), String> {
        let _one_at_a_time = self.lock.lock().unwrap();
        let name = CString::new(launch.kernel.name()).unwrap();
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
        let grid = [launch.grid[0], launch.grid[1], 1];
        // SAFETY: the symbol has this type; the places are those that the driver checked, of this process.
        let fault = unsafe {
            let emulate: libloading::Symbol<Emulate> = self.library.get(b"emulate").unwrap();
            let fault = emulate(
                name.as_ptr(),
                grid.as_ptr(),
                launch.threads,
                places.as_mut_ptr(),
                places.len() as u32,
                order,
            );
            (!fault.is_null()).then(|| CStr::from_ptr(fault).to_string_lossy().into_owned())
        };
        fault.map_or(Ok(()), |fault| Err(format!("{}: {fault}", launch.kernel.name())))
    }
}

fn driver(emulated: &Arc<Emulated>, shape: &KernelShape, order: u32) -> Arc<HostDriver> {
    let emulated = emulated.clone();
    let launch: LaunchFn = Box::new(move |launch| emulated.run(launch, order));
    Arc::new(HostDriver::new(*shape, MEMORY_BYTES).with_launch(launch))
}

/// Compares all kernels of a shape under every schedule.
fn check(shape: KernelShape, rows: usize) {
    let Some(emulated) = build(&shape, str::to_owned) else { return };
    for order in 0..3 {
        let found =
            parity::compare(driver(&emulated, &shape, order), &shape, rows, 5 + u64::from(order)).unwrap();
        assert_eq!(found.len(), 13);
        for parity in &found {
            assert!(parity.passed, "order {order}: {parity:?}");
        }
    }
}

#[test]
fn kernels_agree_with_their_references_in_bf16() {
    check(shape(Numbers::Bf16, 4, 32, 256), 150);
}

#[test]
fn kernels_agree_with_their_references_in_f16() {
    check(shape(Numbers::F16, 3, 64, 200), 150);
}

#[test]
fn kernels_agree_with_their_references_for_wide_and_narrow_heads() {
    check(shape(Numbers::Bf16, 1, 128, 64), 131);
    check(shape(Numbers::F16, 3, 16, 72), 70);
}

/// The faults that such kernels have, planted one at a time: each must be found. A test that passes without the barrier it
/// is there for shows nothing.
#[test]
fn planted_faults_are_found() {
    let shape = shape(Numbers::Bf16, 2, 32, 64);
    let planted: [(&str, &str, &str); 9] = [
        (
            "the wait for keys",
            "        copy_wait_all_but_one();\n        sync_block();\n        if (busy) {\n            UNROLL\n            for (u32 j = 0; j < KEY_STEPS; j++) {\n                UNROLL",
            "        if (busy) {\n            UNROLL\n            for (u32 j = 0; j < KEY_STEPS; j++) {\n                UNROLL",
        ),
        (
            "the barrier after scores",
            "        sync_block();\n        if (first + KEYS < length) fetch(keys",
            "        if (first + KEYS < length) fetch(keys",
        ),
        (
            "the wait for values",
            "        copy_wait_all_but_one();\n        sync_block();\n        if (busy) {\n            UNROLL\n            for (u32 j = 0; j < KEY_STEPS; j++) {\n                if",
            "        if (busy) {\n            UNROLL\n            for (u32 j = 0; j < KEY_STEPS; j++) {\n                if",
        ),
        (
            "the barrier after mixing",
            "        sync_block();\n        if (first + KEYS < length) fetch(values",
            "        if (first + KEYS < length) fetch(values",
        ),
        ("the barrier of pooling", "    sync_block();\n    const float share", "    const float share"),
        (
            "the order of a matrix's rows",
            "lane / 16 * 8 + lane % 8, column = s * 16",
            "lane / 8 % 2 * 8 + lane % 8, column = s * 16",
        ),
        ("the mask of keys", "< here ? *score * scale : NOTHING", "< KEYS ? *score * scale : NOTHING"),
        ("the shrinking of what was mixed", "mixed[n][half * 2] *= shrink;", ""),
        (
            "an end of rows",
            "    if (row >= rows) return;\n    const Words4* added",
            "    const Words4* added",
        ),
    ];
    for (what, from, to) in planted {
        let edited = std::cell::Cell::new(0);
        let emulated = build(&shape, |source| {
            edited.set(edited.get() + source.matches(from).count());
            source.replace(from, to)
        });
        let Some(emulated) = emulated else { return };
        assert!(edited.get() > 0, "{what}: the kernels no longer say this");
        let found =
            (0..3).any(|order| match parity::compare(driver(&emulated, &shape, order), &shape, 150, 1) {
                Ok(found) => found.iter().any(|p| !p.passed),
                Err(_) => true,
            });
        assert!(found, "nothing noticed that {what} was missing or wrong");
    }
}

//! The CUDA kernels compile for every chip they are written for, wherever the run-time compiler is found; that needs no GPU.
//! And without a GPU, whatever is asked for, a model is served by the processor with the reason.

mod engine_pack;

use hearken::engine::{
    Engine,
    cuda::{
        Numbers,
        compile::{compile, kernels_for, known_chips},
        kernels::{Kernel, KernelShape},
    },
};

/// Shapes of the default pack, of XLM-R base and large, and of the widest head.
const SHAPES: [(usize, usize, usize); 4] =
    [(384, 1536, 32), (768, 3072, 64), (1024, 4096, 64), (2048, 8192, 128)];

#[test]
fn kernels_compile_for_every_chip() {
    let known = match known_chips() {
        Ok(known) => known,
        Err(reason) => {
            eprintln!("SKIPPED: kernels are not compiled: {reason}");
            return;
        }
    };
    let chips = [(80, "sm_80"), (89, "sm_89"), (90, "sm_90a"), (100, "sm_100"), (120, "sm_120")];
    let known: Vec<&str> =
        chips.iter().filter(|(chip, _)| known.contains(chip)).map(|(_, name)| *name).collect();
    assert!(known.contains(&"sm_80") && known.contains(&"sm_90a"), "{known:?}");
    let all = SHAPES.iter().flat_map(|shape| [(*shape, Numbers::Bf16), (*shape, Numbers::F16)]);
    for target in known {
        // Everything for one chip; for the others the usual shape and the one with the most registers.
        let few = [(SHAPES[1], Numbers::Bf16), (SHAPES[3], Numbers::F16)];
        let cases = if target == "sm_90a" { all.clone().collect() } else { few.to_vec() };
        for ((hidden, intermediate, head_width), numbers) in cases {
            let heads = hidden / head_width;
            let shape = KernelShape { numbers, hidden, intermediate, heads, head_width };
            let image = compile(target, &shape.defines()).unwrap();
            assert_eq!(image[..4], *b"\x7fELF", "{target}");
            for kernel in Kernel::ALL {
                let name = format!(".text.{}\0", kernel.name());
                assert!(image.windows(name.len()).any(|w| w == name.as_bytes()), "{target} lacks {name}");
            }
        }
    }
}

#[test]
fn compiled_kernels_are_kept_and_found_again() {
    if let Err(reason) = known_chips() {
        eprintln!("SKIPPED: kernels are not compiled: {reason}");
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let defines = ["-DHIDDEN=64", "-DINTERMEDIATE=64", "-DHEAD_WIDTH=32"].map(String::from);
    let first = kernels_for((9, 0), &defines, Some(cache.path())).unwrap();
    let again = kernels_for((9, 0), &defines, Some(cache.path())).unwrap();
    assert_eq!((first.cached, again.cached), (false, true));
    assert_eq!((first.bytes, first.target.as_str()), (again.bytes, "sm_90"));
    // A chip that this compiler does not know gets code that the driver finishes.
    let newer = kernels_for((99, 0), &defines, Some(cache.path())).unwrap();
    assert!(newer.target.starts_with("compute_") && newer.bytes.ends_with(b"\0"), "{}", newer.target);
    let broken = compile("sm_90", &["-DHIDDEN=64".into()]).unwrap_err();
    assert!(broken.contains("do not compile for sm_90") && broken.contains("HEAD_WIDTH"), "{broken}");
}

#[test]
fn without_a_gpu_the_processor_serves_and_says_why() {
    for device in ["auto", "cuda", "cuda:7"] {
        let pack = engine_pack::pack(1);
        let mut options = engine_pack::options(pack.path());
        options.device = device.into();
        let info = Engine::open(&options).unwrap().info();
        if info.device != "cpu" {
            eprintln!("SKIPPED: there is a GPU here");
            return;
        }
        let reason = info.device_reason.unwrap();
        if device != "auto" {
            assert!(reason.starts_with(&format!("{device} was asked for, but ")), "{reason}");
        }
        assert!(reason.len() > 20, "{reason}");
    }
}

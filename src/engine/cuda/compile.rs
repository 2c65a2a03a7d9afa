//! Kernels compiled when they are needed, for the chip and the model at hand, and kept on disk.
//!
//! A file's name is the hash of everything that its contents depend on: source, defines, chip, compiler. Its first bytes are
//! the hash of the rest, so that a file cut short is compiled anew and never loaded.

use std::{
    ffi::CString,
    path::{Path, PathBuf},
};

use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};

use super::{kernels, library};

/// Least compute capability: 16-bit products with `mma.sync` and `cp.async`.
pub const CAPABILITY_MIN: (u32, u32) = (8, 0);
/// Files that the cache keeps; the oldest go first.
const CACHE_FILES_MAX: usize = 64;
const HASH_BYTES: usize = 32;

/// Kernels as the driver loads them: machine code of one chip, or PTX for one that the compiler does not know yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub bytes: Vec<u8>,
    pub target: String,
    pub cached: bool,
}

/// Version of the compiler.
pub fn version() -> Result<(i32, i32), String> {
    library::compiler()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both are written; the library is there.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }
        .result()
        .map_err(|e| format!("nvrtcVersion: {e}"))?;
    Ok((major, minor))
}

/// Chips that the compiler knows, as `90` for compute capability 9.0.
pub fn known_chips() -> Result<Vec<u32>, String> {
    library::compiler()?;
    let mut count = 0;
    // SAFETY: written; the library is there.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }.result().map_err(|e| format!("nvrtc: {e}"))?;
    let mut chips = vec![0; count.max(0) as usize];
    // SAFETY: as many as were counted.
    unsafe { sys::nvrtcGetSupportedArchs(chips.as_mut_ptr()) }.result().map_err(|e| format!("nvrtc: {e}"))?;
    Ok(chips.into_iter().map(|c| c as u32).collect())
}

/// `sm_90` where the compiler knows the chip, else `compute_N` of the newest one before it.
fn target(capability: (u32, u32), known: &[u32]) -> Result<String, String> {
    let chip = capability.0 * 10 + capability.1;
    if known.contains(&chip) {
        return Ok(format!("sm_{chip}"));
    }
    let least = CAPABILITY_MIN.0 * 10 + CAPABILITY_MIN.1;
    let newest = known.iter().filter(|k| (least..chip).contains(*k)).max();
    newest
        .map(|n| format!("compute_{n}"))
        .ok_or_else(|| format!("this compiler knows no chip that sm_{chip} can stand for"))
}

/// The kernels for a chip, from the cache or compiled.
pub fn kernels_for(
    capability: (u32, u32),
    defines: &[String],
    cache: Option<&Path>,
) -> Result<Image, String> {
    let version = version()?;
    let target = target(capability, &known_chips()?)?;
    let name = file_name(version, &target, defines);
    if let Some(bytes) = cache.and_then(|folder| read(&folder.join(&name))) {
        return Ok(Image { bytes, target, cached: true });
    }
    let bytes = compile(&target, defines)?;
    if let Some(folder) = cache {
        // A cache that cannot be written costs a compilation at the next start, nothing else.
        let _ = write(folder, &name, &bytes);
    }
    Ok(Image { bytes, target, cached: false })
}

/// Compiles all kernels for `sm_N` or `compute_N`.
pub fn compile(target: &str, defines: &[String]) -> Result<Vec<u8>, String> {
    library::compiler()?;
    let source = CString::new(kernels::SOURCE).map_err(|e| e.to_string())?;
    let program = result::create_program(&source, Some(c"kernels.cu")).map_err(|e| format!("nvrtc: {e}"))?;
    let mut options = vec![format!("--gpu-architecture={target}"), "-std=c++17".into()];
    // Each kernel uses a part of what they share.
    options.push("--diag-suppress=177".into());
    options.extend_from_slice(defines);
    // SAFETY: the program was made above and is destroyed below, once.
    let outcome = unsafe {
        let compiled = result::compile_program(program, &options);
        let outcome = match compiled {
            Ok(()) => image(program, target.starts_with("sm_")),
            Err(error) => {
                let log = result::get_program_log(program).unwrap_or_default();
                let log: Vec<u8> = log.iter().map(|c| *c as u8).collect();
                Err(format!(
                    "kernels do not compile for {target}: {error}: {}",
                    String::from_utf8_lossy(&log)
                ))
            }
        };
        let _ = result::destroy_program(program);
        outcome
    }?;
    Ok(outcome)
}

/// # Safety
/// `program` must have been compiled and not destroyed.
unsafe fn image(program: sys::nvrtcProgram, machine_code: bool) -> Result<Vec<u8>, String> {
    let failed = |e: result::NvrtcError| format!("nvrtc: {e}");
    let mut size = 0;
    // SAFETY: the caller's; the buffer is as large as was asked for.
    unsafe {
        if machine_code {
            sys::nvrtcGetCUBINSize(program, &mut size).result().map_err(failed)?;
            let mut bytes = vec![0u8; size];
            sys::nvrtcGetCUBIN(program, bytes.as_mut_ptr().cast()).result().map_err(failed)?;
            Ok(bytes)
        } else {
            // Ends in a zero byte, as the driver wants it.
            Ok(result::get_ptx(program).map_err(failed)?.iter().map(|c| *c as u8).collect())
        }
    }
}

fn file_name(version: (i32, i32), target: &str, defines: &[String]) -> String {
    let mut hash = Sha256::new();
    for part in [kernels::SOURCE, target, &format!("{version:?}"), &defines.join(" ")] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("kernels-{}-{target}.image", hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Where compiled kernels are kept: `HEARKEN_CACHE_DIR`, else the user's cache folder.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("HEARKEN_CACHE_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("hearken")))
        .or_else(|| variable("HOME").map(|dir| dir.join(".cache/hearken")))
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(file).ok()?;
    let (hash, image) = bytes.split_at_checked(HASH_BYTES)?;
    (Sha256::digest(image)[..] == *hash).then(|| image.to_vec())
}

fn write(folder: &Path, name: &str, image: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let part = folder.join(format!("{name}.{}.part", std::process::id()));
    std::fs::write(&part, [&Sha256::digest(image)[..], image].concat())?;
    // Whole or not at all, also where two processes start at once.
    std::fs::rename(&part, folder.join(name))?;
    let mut files: Vec<_> = std::fs::read_dir(folder)?
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("kernels-"))
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
        .collect();
    files.sort();
    let surplus = files.len().saturating_sub(CACHE_FILES_MAX);
    files[..surplus].iter().try_for_each(|(_, path)| std::fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_is_compiled_for_or_stood_in_for() {
        let known = [75, 80, 86, 89, 90, 100];
        assert_eq!(target((9, 0), &known).unwrap(), "sm_90");
        assert_eq!(target((8, 7), &known).unwrap(), "compute_86");
        assert_eq!(target((13, 0), &known).unwrap(), "compute_100");
        assert!(target((7, 5), &[75]).is_ok());
        assert!(target((7, 0), &known).unwrap_err().contains("sm_70"));
    }

    #[test]
    fn the_cache_gives_back_what_it_took_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("deep/cache");
        write(&folder, "kernels-a", b"machine code").unwrap();
        let file = folder.join("kernels-a");
        assert_eq!(read(&file).unwrap(), b"machine code");
        let whole = std::fs::read(&file).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&file, &whole[..len]).unwrap();
            assert_eq!(read(&file), None, "cut at {len}");
        }
        for i in 0..CACHE_FILES_MAX + 3 {
            write(&folder, &format!("kernels-{i}"), b"x").unwrap();
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), CACHE_FILES_MAX);
    }

    #[test]
    fn anything_that_changes_the_result_changes_the_name() {
        let defines = ["-DHIDDEN=8".to_string()];
        let names = [
            file_name((13, 0), "sm_90", &defines),
            file_name((12, 9), "sm_90", &defines),
            file_name((13, 0), "sm_80", &defines),
            file_name((13, 0), "sm_90", &[]),
        ];
        for (i, name) in names.iter().enumerate() {
            assert!(!names[i + 1..].contains(name));
        }
    }
}

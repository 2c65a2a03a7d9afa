//! Where CUDA's libraries are, and why they cannot be used where they cannot.
//!
//! Nothing is linked: the program starts without any of them. What the loader does not find by itself is opened by its
//! path, after which it is found by name.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use cudarc::{cublaslt, driver, nvrtc};

/// Folders to look in first, separated by `:`.
pub const FOLDERS_VARIABLE: &str = "HEARKEN_CUDA_LIBRARIES";

/// Libraries by the names of their files, those that others need first.
const LIBRARIES: [&str; 4] = ["libnvrtc-builtins.so", "libnvrtc.so", "libcublasLt.so", "libcublas.so"];
const DRIVER: &str = "libcuda.so.1";
/// Major versions of the toolkit whose libraries are taken.
const VERSIONS: [&str; 2] = [".13", ".12"];

/// Whether kernels can be compiled here, which needs no GPU.
pub fn compiler() -> Result<(), String> {
    open_all();
    // SAFETY: opens and closes the library, whose initialisation has no conditions.
    match unsafe { nvrtc::sys::is_culib_present() } {
        true => Ok(()),
        false => Err(missing("libnvrtc, CUDA's run-time compiler")),
    }
}

/// Whether everything that a GPU needs is here.
pub fn all() -> Result<(), String> {
    open_all();
    // SAFETY: as above.
    if !unsafe { driver::sys::is_culib_present() } {
        return Err("there is no NVIDIA driver here (libcuda.so.1 was not found)".into());
    }
    compiler()?;
    // SAFETY: as above.
    match unsafe { cublaslt::sys::is_culib_present() } {
        true => Ok(()),
        false => Err(missing("libcublasLt, CUDA's matrix products")),
    }
}

fn missing(what: &str) -> String {
    format!(
        "{what}, was not found; install CUDA 12 or 13 (from its packages, or from pip: nvidia-cuda-nvrtc, nvidia-cublas), \
         or name its folder in {FOLDERS_VARIABLE}"
    )
}

/// Opens what the loader would not find, once in a process, and keeps it open.
fn open_all() {
    static OPENED: OnceLock<()> = OnceLock::new();
    OPENED.get_or_init(|| {
        let folders = folders(&|name| std::env::var_os(name).map(PathBuf::from));
        for folder in &folders {
            keep(&folder.join(DRIVER));
        }
        for library in LIBRARIES {
            for folder in &folders {
                if files(folder, library).iter().any(|file| keep(file)) {
                    break;
                }
            }
        }
    });
}

/// Opens a library for as long as the process runs; false where it cannot be.
fn keep(file: &Path) -> bool {
    if !file.is_file() {
        return false;
    }
    // SAFETY: these are NVIDIA's libraries, found by their names; their initialisation has no conditions.
    match unsafe { libloading::Library::new(file) } {
        Ok(library) => {
            std::mem::forget(library);
            true
        }
        Err(_) => false,
    }
}

/// Files of a folder that are a version of `library`, the newest major version first.
fn files(folder: &Path, library: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    VERSIONS
        .iter()
        .flat_map(|version| {
            let start = format!("{library}{version}");
            let mut found: Vec<&String> = names.iter().filter(|n| n.starts_with(&start)).collect();
            found.sort();
            found.into_iter().map(|n| folder.join(n)).collect::<Vec<_>>()
        })
        .collect()
}

/// Where CUDA's libraries may lie outside the loader's path: what the environment names, a toolkit's usual folders, and the
/// packages of each Python on the path.
fn folders(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Some(named) = variable(FOLDERS_VARIABLE) {
        folders.extend(std::env::split_paths(&named));
    }
    for home in ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(|name| variable(name)) {
        folders.extend([home.join("lib64"), home.join("lib"), home.join("targets/x86_64-linux/lib")]);
    }
    let mut prefixes: Vec<PathBuf> = variable("VIRTUAL_ENV").into_iter().collect();
    if let Some(path) = variable("PATH") {
        let bins = std::env::split_paths(&path).filter(|bin| bin.join("python3").exists());
        prefixes.extend(bins.filter_map(|bin| bin.parent().map(Path::to_owned)));
    }
    folders.extend(prefixes.iter().flat_map(|prefix| python_folders(prefix)));
    folders.extend(
        ["/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib", "/usr/local/nvidia/lib64"]
            .map(PathBuf::from),
    );
    folders
}

/// The folders of NVIDIA's Python packages under a prefix: one for CUDA 13, one for each library before it.
fn python_folders(prefix: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(prefix.join("lib")) else { return Vec::new() };
    entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("python3"))
        .flat_map(|e| {
            let nvidia = e.path().join("site-packages/nvidia");
            ["cu13", "cuda_nvrtc", "cublas"].map(|package| nvidia.join(package).join("lib"))
        })
        .filter(|folder| folder.is_dir())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_looked_for_where_packages_put_them() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("lib/python3.11/site-packages/nvidia/cu13/lib");
        std::fs::create_dir_all(&lib).unwrap();
        for name in ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libnvrtc.alt.so.13"] {
            std::fs::write(lib.join(name), "").unwrap();
        }
        let named = dir.path().join("named");
        let found = folders(&|name| match name {
            FOLDERS_VARIABLE => Some(named.clone()),
            "VIRTUAL_ENV" => Some(dir.path().to_owned()),
            _ => None,
        });
        assert_eq!(found[..2], [named, lib.clone()]);
        assert_eq!(files(&lib, "libnvrtc.so"), [lib.join("libnvrtc.so.13"), lib.join("libnvrtc.so.12")]);
        assert_eq!(files(&lib, "libnvrtc-builtins.so"), [lib.join("libnvrtc-builtins.so.13.0")]);
        assert_eq!(files(&lib, "libcublasLt.so"), Vec::<PathBuf>::new());
        // A file of the right name that is no library is passed over.
        assert!(!keep(&lib.join("libnvrtc.so.13")));
    }
}

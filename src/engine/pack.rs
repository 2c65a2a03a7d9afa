//! The folder a model is loaded from: where it is, what it holds, and the hash that names its revision.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::ModelError;

pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "model.safetensors";
pub const TOKENIZER: &str = "tokenizer.json";
pub const VOCABULARY: &str = "vocab.txt";
pub const POOLING: &str = "1_Pooling/config.json";

/// Where weights may be, the first that is there is read.
pub const WEIGHT_FILES: [&str; 4] =
    [WEIGHTS, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// The file that a folder's weights are read from, or the index that names them.
pub fn weights_in(dir: &Path) -> Option<&'static str> {
    WEIGHT_FILES.into_iter().find(|name| dir.join(name).is_file())
}

/// The files that a folder's model is made of, in the order in which they are hashed.
fn files(dir: &Path) -> Result<Vec<String>, ModelError> {
    let mut files = vec![CONFIG.to_owned()];
    if let Some(name) = weights_in(dir) {
        files.push(name.to_owned());
        if name.ends_with(".index.json") {
            files.extend(super::weights::shards_of(dir, name)?);
        }
    }
    let tokenizer = if dir.join(TOKENIZER).is_file() { TOKENIZER } else { VOCABULARY };
    files.extend([tokenizer.to_owned(), POOLING.to_owned()]);
    Ok(files)
}

/// Where the pack is: the folder given, or the first of the usual places that has one.
pub fn locate(given: Option<&Path>) -> Result<PathBuf, ModelError> {
    let looked_in = match given {
        Some(dir) => vec![dir.to_owned()],
        None => usual_places(),
    };
    match looked_in.iter().find(|dir| dir.join(CONFIG).is_file()) {
        Some(dir) => Ok(dir.clone()),
        None => Err(ModelError::PackNotFound { looked_in }),
    }
}

/// Beside the program, where it was installed, where it was started, and where it was built.
fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Ok(program) = std::env::current_exe()
        && let Some(dir) = program.parent()
    {
        places.push(dir.join("models/default"));
        places.push(dir.join("../share/hearken/models/default"));
    }
    places.push(PathBuf::from("models/default"));
    places.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default"));
    places
}

pub fn read_config(dir: &Path) -> Result<Value, ModelError> {
    let path = dir.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|e| ModelError::file(&path, e))?;
    serde_json::from_str(&text).map_err(|e| ModelError::Config(e.to_string()))
}

/// The name of a pack: `hearken.name` in its configuration, or else its folder's.
pub fn name(dir: &Path, config: &Value) -> String {
    config["hearken"]["name"]
        .as_str()
        .map(str::to_owned)
        .or_else(|| Some(dir.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "model".into())
}

/// `sha256:` over the names, lengths and bytes of the pack's files; a file that is not there counts as none.
pub fn revision(dir: &Path) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    for name in files(dir)? {
        let path = dir.join(&name);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(ModelError::file(&path, e)),
        };
        let len = file.metadata().map_err(|e| ModelError::file(&path, e))?.len();
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(len.to_le_bytes());
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => hash.update(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ModelError::file(&path, e)),
            }
        }
    }
    let digest = hash.finalize();
    Ok(format!("sha256:{}", digest.iter().map(|b| format!("{b:02x}")).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_pack_is_reported_with_every_place_looked_at() {
        let error = locate(Some(Path::new("/nowhere/pack"))).unwrap_err().to_string();
        assert_eq!(error, "no model pack found; looked in /nowhere/pack");
        assert!(usual_places().len() >= 3);
    }

    #[test]
    fn the_revision_follows_the_content() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), "{}").unwrap();
        std::fs::write(dir.path().join(WEIGHTS), "weights").unwrap();
        let first = revision(dir.path()).unwrap();
        assert_eq!(first, revision(dir.path()).unwrap());
        assert_eq!(first.len(), "sha256:".len() + 64);
        std::fs::write(dir.path().join(TOKENIZER), "").unwrap();
        let second = revision(dir.path()).unwrap();
        assert_ne!(first, second);
        std::fs::write(dir.path().join(WEIGHTS), "weightS").unwrap();
        assert_ne!(second, revision(dir.path()).unwrap());
    }
}

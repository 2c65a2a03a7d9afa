//! Models from the Hugging Face hub, through its own client: pinned to a commit, resumed where a download broke off,
//! and checked against the hub's hashes before anything is loaded.
//!
//! The cache is the one that Hugging Face's programs share (`HF_HOME`). Beside each snapshot lies a record of the files
//! that were fetched with their sizes and SHA-256, so that a damaged cache is noticed without a network too.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{Api, ApiBuilder, ApiError},
};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pack;

/// Where the hub is and how it is asked. `Debug` does not show the token.
#[derive(Clone)]
pub struct HubOptions {
    pub endpoint: String,
    pub token: Option<String>,
    /// The cache of repositories; `None` where no folder could be told.
    pub cache: Option<PathBuf>,
    pub offline: bool,
    /// Draw a bar for each file.
    pub progress: bool,
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

const ENDPOINT: &str = "https://huggingface.co";

impl Default for HubOptions {
    /// What the variables of Hugging Face's own programs say: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_OFFLINE`.
    fn default() -> Self {
        let said = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        let home = said("HF_HOME").map(PathBuf::from).or_else(|| {
            said("HOME").or_else(|| said("USERPROFILE")).map(|h| Path::new(&h).join(".cache/huggingface"))
        });
        Self {
            endpoint: said("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()).trim_end_matches('/').to_owned(),
            token: said("HF_TOKEN").or_else(|| {
                let stored = std::fs::read_to_string(home.as_ref()?.join("token")).ok()?;
                Some(stored.trim().to_owned()).filter(|t| !t.is_empty())
            }),
            cache: home.map(|h| h.join("hub")),
            offline: said("HF_HUB_OFFLINE")
                .is_some_and(|v| matches!(v.as_str(), "1" | "true" | "TRUE" | "yes" | "ON")),
            progress: false,
        }
    }
}

/// Why a repository cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("{0:?} is no name of a repository; it is NAME or ORGANISATION/NAME")]
    Name(String),
    #[error("{0:?} is no revision; it is a commit, a branch or a tag")]
    Revision(String),
    #[error("no folder for the cache is known; set HF_HOME")]
    NoCache,
    #[error("{repo} is not in the cache {} and this run is offline; fetch it first: hearken models fetch {repo}", .cache.display())]
    Offline { repo: String, cache: PathBuf },
    #[error(
        "the hub at {endpoint} knows no {repo}, or does not show it to this caller; check the name, and set HF_TOKEN if it is private"
    )]
    Missing { repo: String, endpoint: String },
    #[error("{repo} has no revision {revision:?}")]
    NoRevision { repo: String, revision: String },
    #[error(
        "{repo} is gated: accept its terms at {endpoint}/{repo} and set HF_TOKEN to a token of that account"
    )]
    Gated { repo: String, endpoint: String },
    #[error("{repo} has no {what}")]
    NoFile { repo: String, what: String },
    #[error("the hub at {endpoint} answered {status}")]
    Status { endpoint: String, status: u16 },
    #[error("the hub at {endpoint} cannot be reached: {reason}")]
    Unreachable { endpoint: String, reason: String },
    #[error("{file} of {repo} broke off: {reason}; what came is kept, and the next try goes on from there")]
    Interrupted { repo: String, file: String, reason: String },
    #[error("{file} of {repo} is damaged: its SHA-256 is {found}, the hub's is {expected}; {advice}")]
    Damaged { repo: String, file: String, found: String, expected: String, advice: &'static str },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// A repository at one commit, in the cache.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub repo: String,
    pub commit: String,
    pub dir: PathBuf,
    /// By name: what was fetched and checked.
    pub files: BTreeMap<String, FileRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    pub bytes: u64,
    pub sha256: String,
}

/// What the hub says about a revision.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// Small files that are taken along where they are there.
const ALONG: [&str; 6] = [
    pack::TOKENIZER,
    pack::VOCABULARY,
    "tokenizer_config.json",
    "special_tokens_map.json",
    pack::POOLING,
    "README.md",
];

/// Times that a broken download is taken up again.
const RETRIES: usize = 3;
/// Characters of a repository's or a revision's name.
const NAME_MAX: usize = 200;

pub struct Hub {
    options: HubOptions,
    cache: PathBuf,
}

impl Hub {
    pub fn new(options: &HubOptions) -> Result<Self, HubError> {
        let cache = options.cache.clone().ok_or(HubError::NoCache)?;
        Ok(Self { options: options.clone(), cache })
    }

    /// Brings a revision (`main` where none is given) into the cache, or finds it there.
    pub fn fetch(&self, repo: &str, revision: Option<&str>) -> Result<Snapshot, HubError> {
        let revision = revision.unwrap_or("main");
        check_names(repo, revision)?;
        if self.options.offline { self.cached(repo, revision) } else { self.download(repo, revision) }
    }

    /// Snapshots that this program fetched.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let mut found = Vec::new();
        let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
        for folder in entries(&self.cache) {
            for path in entries(&folder.join(RECORDS)) {
                let name =
                    folder.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("models--"));
                let commit = path.file_stem().and_then(|n| n.to_str());
                if let (Some(name), Some(commit), Some(files)) = (name, commit, read_record(&path)) {
                    let dir = folder.join("snapshots").join(commit);
                    found.push(Snapshot { repo: name.replace("--", "/"), commit: commit.into(), dir, files });
                }
            }
        }
        found.sort_by(|a, b| (&a.repo, &a.commit).cmp(&(&b.repo, &b.commit)));
        found
    }

    fn api(&self) -> Result<Api, HubError> {
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.options.endpoint.clone())
            .with_token(self.options.token.clone())
            .with_progress(false)
            .with_retries(RETRIES)
            .with_user_agent("hearken", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|e| self.unreachable(e))
    }

    fn download(&self, repo: &str, revision: &str) -> Result<Snapshot, HubError> {
        let api = self.api()?;
        let info = self.info(&api, repo, revision)?;
        let wanted = wanted(repo, &info)?;
        let pinned = Repo::with_revision(repo.into(), RepoType::Model, info.sha.clone());
        let remote = api.repo(pinned.clone());
        let dir = self.folder(repo).join("snapshots").join(&info.sha);
        let mut files = BTreeMap::new();
        for sibling in wanted {
            let name = sibling.rfilename.as_str();
            let record = self.file(&remote, repo, &dir, sibling)?;
            files.insert(name.to_owned(), record);
            if name.ends_with(".index.json") {
                for shard in shards(repo, &dir.join(name))? {
                    let sibling = info.siblings.iter().find(|s| s.rfilename == shard).ok_or_else(|| {
                        HubError::NoFile { repo: repo.into(), what: format!("{shard}, which {name} names") }
                    })?;
                    files.insert(shard, self.file(&remote, repo, &dir, sibling)?);
                }
            }
        }
        // So that an offline run knows which commit a branch stood for.
        let named = Repo::with_revision(repo.into(), RepoType::Model, revision.into());
        Cache::new(self.cache.clone()).repo(named).create_ref(&info.sha).map_err(io(&dir))?;
        let record = self.record(repo, &info.sha);
        if let Some(folder) = record.parent() {
            std::fs::create_dir_all(folder).map_err(io(folder))?;
        }
        let text = serde_json::to_string_pretty(&files).unwrap_or_default();
        std::fs::write(&record, text).map_err(io(&record))?;
        Ok(Snapshot { repo: repo.into(), commit: info.sha, dir, files })
    }

    /// Asks the hub what a revision is, with an answer in words for each way in which it refuses.
    fn info(&self, api: &Api, repo: &str, revision: &str) -> Result<Info, HubError> {
        let named = Repo::with_revision(repo.into(), RepoType::Model, revision.into());
        let endpoint = self.options.endpoint.clone();
        let request = api.repo(named).info_request().query("blobs", "true");
        let mut response = request
            .config()
            .http_status_as_error(false)
            .build()
            .call()
            .map_err(|e| HubError::Unreachable { endpoint: endpoint.clone(), reason: e.to_string() })?;
        let code =
            response.headers().get("x-error-code").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let repo = repo.to_owned();
        match (response.status().as_u16(), code.as_str()) {
            (200, _) => {}
            (_, "GatedRepo") | (403, _) => return Err(HubError::Gated { repo, endpoint }),
            (_, "RevisionNotFound") => return Err(HubError::NoRevision { repo, revision: revision.into() }),
            (401 | 404, _) => return Err(HubError::Missing { repo, endpoint }),
            (status, _) => return Err(HubError::Status { endpoint, status }),
        }
        let info: Info = response.body_mut().read_json().map_err(|e| HubError::Unreachable {
            endpoint,
            reason: format!("its answer cannot be read: {e}"),
        })?;
        check_names(&repo, &info.sha)?;
        Ok(info)
    }

    /// Brings one file into the cache and checks it; a damaged one is fetched anew once.
    fn file(
        &self,
        remote: &hf_hub::api::sync::ApiRepo,
        repo: &str,
        dir: &Path,
        sibling: &Sibling,
    ) -> Result<FileRecord, HubError> {
        let name = sibling.rfilename.as_str();
        let path = dir.join(name);
        let expected = sibling.lfs.as_ref().and_then(|l| l.sha256.as_deref());
        let bytes = sibling.lfs.as_ref().and_then(|l| l.size).or(sibling.size);
        let mut last = None;
        for attempt in 0..2 {
            if !path.exists() {
                let got = if self.options.progress {
                    remote.download_with_progress(name, ProgressBar::new(0)).map(drop)
                } else {
                    remote.download_with_progress(name, ()).map(drop)
                };
                if let Err(error) = got {
                    // A part that is whole already, or longer than the file, cannot be gone on from.
                    if attempt == 0 && self.drop_whole_parts(repo, bytes) {
                        continue;
                    }
                    return Err(self.broken_off(repo, name, error));
                }
            }
            let found = record_of(&path)?;
            match expected {
                Some(expected) if expected != found.sha256 => {
                    remove(&path)?;
                    last = Some((found.sha256, expected));
                }
                None if bytes.is_some_and(|b| b != found.bytes) => {
                    remove(&path)?;
                    if attempt == 1 {
                        let reason = format!("{} bytes came of {}", found.bytes, bytes.unwrap_or(0));
                        return Err(HubError::Interrupted { repo: repo.into(), file: name.into(), reason });
                    }
                }
                _ => return Ok(found),
            }
        }
        let (found, expected) = last.unwrap_or_default();
        let advice = "it was fetched twice; the hub or something on the way to it is at fault";
        Err(HubError::Damaged {
            repo: repo.into(),
            file: name.into(),
            found,
            expected: expected.into(),
            advice,
        })
    }

    /// Removes parts of downloads that have all the bytes of a file or more; true where there were some.
    fn drop_whole_parts(&self, repo: &str, bytes: Option<u64>) -> bool {
        let Some(bytes) = bytes else { return false };
        let blobs = std::fs::read_dir(self.folder(repo).join("blobs")).into_iter().flatten().flatten();
        let mut dropped = false;
        for path in blobs.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "part")) {
            if std::fs::metadata(&path).is_ok_and(|m| m.len() >= bytes) {
                dropped |= std::fs::remove_file(&path).is_ok();
            }
        }
        dropped
    }

    /// Finds a revision in the cache, without a network.
    fn cached(&self, repo: &str, revision: &str) -> Result<Snapshot, HubError> {
        let folder = self.folder(repo);
        let offline = || HubError::Offline { repo: repo.into(), cache: self.cache.clone() };
        let commit = match std::fs::read_to_string(folder.join("refs").join(revision)) {
            Ok(commit) => commit.trim().to_owned(),
            Err(_) => self.commit_beginning_with(repo, revision).ok_or_else(offline)?,
        };
        check_names(repo, &commit)?;
        let dir = folder.join("snapshots").join(&commit);
        if !dir.join(pack::CONFIG).is_file() {
            return Err(offline());
        }
        let files = read_record(&self.record(repo, &commit)).unwrap_or_default();
        for (name, expected) in &files {
            let found = record_of(&dir.join(name))?;
            if found != *expected {
                return Err(HubError::Damaged {
                    repo: repo.into(),
                    file: name.clone(),
                    found: found.sha256,
                    expected: expected.sha256.clone(),
                    advice: "fetch it again without --offline",
                });
            }
        }
        Ok(Snapshot { repo: repo.into(), commit, dir, files })
    }

    /// The only commit in the cache that begins with these digits.
    fn commit_beginning_with(&self, repo: &str, digits: &str) -> Option<String> {
        let entries = std::fs::read_dir(self.folder(repo).join("snapshots")).ok()?;
        let mut matching = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|n| n.starts_with(digits));
        let first = matching.next()?;
        matching.next().is_none().then_some(first)
    }

    fn folder(&self, repo: &str) -> PathBuf {
        self.cache.join(format!("models--{}", repo.replace('/', "--")))
    }

    fn record(&self, repo: &str, commit: &str) -> PathBuf {
        self.folder(repo).join(RECORDS).join(format!("{commit}.json"))
    }

    fn unreachable(&self, error: ApiError) -> HubError {
        HubError::Unreachable { endpoint: self.options.endpoint.clone(), reason: error.to_string() }
    }

    fn broken_off(&self, repo: &str, file: &str, error: ApiError) -> HubError {
        HubError::Interrupted { repo: repo.into(), file: file.into(), reason: error.to_string() }
    }
}

/// Folder of the records inside a repository's folder.
const RECORDS: &str = "hearken";

/// The files that a model is loaded from.
fn wanted<'i>(repo: &str, info: &'i Info) -> Result<Vec<&'i Sibling>, HubError> {
    let find = |name: &str| info.siblings.iter().find(|s| s.rfilename == name);
    let missing = |what: String| HubError::NoFile { repo: repo.into(), what };
    let config =
        find(pack::CONFIG).ok_or_else(|| missing("config.json, so it is no model of transformers".into()))?;
    let weights = pack::WEIGHT_FILES
        .iter()
        .find_map(|name| find(name))
        .ok_or_else(|| missing(format!("weights; looked for {}", pack::WEIGHT_FILES.join(", "))))?;
    let along = ALONG.iter().filter_map(|name| find(name));
    Ok([config, weights].into_iter().chain(along).collect())
}

fn shards(repo: &str, index: &Path) -> Result<Vec<String>, HubError> {
    let text =
        std::fs::read_to_string(index).map_err(|source| HubError::Io { path: index.into(), source })?;
    super::weights::shard_names(&text).map_err(|what| HubError::NoFile {
        repo: repo.into(),
        what: format!("usable index of weights: it {what}"),
    })
}

/// Names become parts of paths and addresses, so nothing else gets through.
fn check_names(repo: &str, revision: &str) -> Result<(), HubError> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if repo.len() > NAME_MAX
        || repo.split('/').count() > 2
        || !repo.split('/').all(plain)
        || repo.contains("--")
    {
        return Err(HubError::Name(repo.into()));
    }
    if revision.len() > NAME_MAX || !revision.split('/').all(plain) {
        return Err(HubError::Revision(revision.into()));
    }
    Ok(())
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HubError {
    move |source| HubError::Io { path: path.to_owned(), source }
}

fn read_record(path: &Path) -> Option<BTreeMap<String, FileRecord>> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn record_of(path: &Path) -> Result<FileRecord, HubError> {
    let mut file = File::open(path).map_err(io(path))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0u8; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(io(path))? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
    let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(FileRecord { bytes, sha256 })
}

/// Removes a file of a snapshot and what it links to.
fn remove(path: &Path) -> Result<(), HubError> {
    if let Ok(blob) = path.canonicalize() {
        std::fs::remove_file(blob).map_err(io(path))?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_cache_are_refused() {
        for (repo, revision) in [("a/b", "main"), ("bert-base", "refs/pr/1"), ("a.b/c_d", "0123abc")] {
            check_names(repo, revision).unwrap();
        }
        for repo in ["", "a/b/c", "../a", "a/..", "a b", "/a", "a/", "é", "a--b"] {
            assert!(matches!(check_names(repo, "main"), Err(HubError::Name(_))), "{repo}");
        }
        for revision in ["", "..", "a/../b", "/main", "a b"] {
            assert!(matches!(check_names("a", revision), Err(HubError::Revision(_))), "{revision}");
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let options = HubOptions { token: Some("hush".into()), ..HubOptions::default() };
        assert!(!format!("{options:?}").contains("hush"));
    }
}

//! The embedded store: one SQLite file in WAL mode.
//!
//! One thread owns the only connection that writes ([`writer`]); readers take theirs from a small pool ([`reader`]). A
//! batch is on disk when its call returns (`synchronous=FULL`), and what is deleted is overwritten
//! (`secure_delete=ON`); [`erase`] sees to what SQLite leaves elsewhere.

mod digests;
mod erase;
mod gaps;
mod outbox;
mod reader;
mod replays;
mod schema;
mod writer;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;

use super::*;

pub struct SqliteStore {
    path: PathBuf,
    writer: writer::Writer,
    readers: Mutex<Readers>,
    /// For scrubbing. Opened once and closed last: to close any handle of a file takes away the locks that this process
    /// has on it.
    file: Arc<File>,
}

#[derive(Default)]
struct Readers {
    idle: Vec<Connection>,
    /// Grows with every scrub; what was opened before may still hold what is scrubbed, and is not used again.
    scrubs: u64,
}

/// Connections that are kept for readers; more are opened for a burst and closed after it.
const IDLE_READERS_MAX: usize = 8;

impl SqliteStore {
    /// Opens or creates the file; `:memory:` is refused, since readers would not see it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| StoreError::Open {
                path: folder.display().to_string(),
                source: rusqlite::Error::ToSqlConversionFailure(Box::new(e)),
            })?;
        }
        let connection = schema::open_writer(path)?;
        let file = File::options().read(true).write(true).open(path).map_err(|e| StoreError::Open {
            path: path.display().to_string(),
            source: rusqlite::Error::ToSqlConversionFailure(Box::new(e)),
        })?;
        Ok(Self {
            path: path.into(),
            writer: writer::Writer::start(connection),
            readers: Mutex::default(),
            file: Arc::new(file),
        })
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let (idle, scrubs) = {
            let mut readers = self.readers();
            (readers.idle.pop(), readers.scrubs)
        };
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.path)?,
        };
        let answer = query(&connection);
        let mut readers = self.readers();
        if readers.scrubs == scrubs && readers.idle.len() < IDLE_READERS_MAX {
            readers.idle.push(connection);
        }
        answer
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SqliteStore {
    fn append(&self, events: Vec<NewEvent>) -> Result<Batch, StoreError> {
        self.writer.append(events)
    }

    fn positions(&self) -> Result<Positions, StoreError> {
        self.read(reader::positions)
    }

    fn read_after(
        &self,
        position: u64,
        events_max: usize,
        data_bytes_max: usize,
    ) -> Result<Vec<LogRow>, StoreError> {
        self.read(|c| reader::read_after(c, position, events_max, data_bytes_max))
    }

    fn history(&self, tenant: &Tenant, records: &[RecordKey]) -> Result<Vec<LogRow>, StoreError> {
        self.read(|c| reader::history(c, tenant, records))
    }

    fn links(&self) -> Result<Vec<LogRow>, StoreError> {
        self.read(reader::links)
    }

    fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.writer.run(move |c| writer::commit(c, &commit))
    }

    fn dirty(&self, limit: usize) -> Result<Vec<DirtyMark>, StoreError> {
        self.read(|c| reader::dirty(c, limit))
    }

    fn dirty_since(&self) -> Result<Option<u64>, StoreError> {
        self.read(reader::dirty_since)
    }

    fn document(&self, tenant: &Tenant, record: &RecordKey) -> Result<Option<StoredDocument>, StoreError> {
        self.read(|c| reader::document(c, tenant, record))
    }

    fn records(&self, tenant: &Tenant, filter: &RecordFilter) -> Result<Vec<RecordEntry>, StoreError> {
        self.read(|c| reader::records(c, tenant, filter))
    }

    fn known_records(
        &self,
        after: Option<&TenantRecord>,
        limit: usize,
    ) -> Result<Vec<TenantRecord>, StoreError> {
        self.read(|c| reader::known_records(c, after, limit))
    }

    fn bases(
        &self,
        after: Option<&TenantRecord>,
        limit: usize,
    ) -> Result<Vec<(TenantRecord, Basis)>, StoreError> {
        self.read(|c| reader::bases(c, after, limit))
    }

    fn record_count(&self) -> Result<u64, StoreError> {
        self.read(|c| Ok(c.query_row("SELECT count(*) FROM documents", [], |row| row.get(0))?))
    }

    fn setting(&self, tenant: &Tenant, name: &str) -> Result<Option<Setting>, StoreError> {
        self.read(|c| reader::setting(c, tenant, name))
    }

    fn settings(&self) -> Result<Vec<(Tenant, String, Setting)>, StoreError> {
        self.read(reader::settings)
    }

    fn put_setting(&self, tenant: &Tenant, name: &str, body: &str) -> Result<Setting, StoreError> {
        let (tenant, name, body) = (tenant.clone(), name.to_owned(), body.to_owned());
        self.writer.run(move |c| writer::put_setting(c, &tenant, &name, &body))
    }

    fn erase(&self, erasure: Erasure) -> Result<Option<Erased>, StoreError> {
        self.writer.run(move |c| erase::erase(c, &erasure))
    }

    fn scrub(&self) -> Result<(), StoreError> {
        let (path, file) = (self.path.clone(), self.file.clone());
        self.writer.run(move |c| erase::scrub(c, &path, &file))?;
        let mut readers = self.readers();
        readers.scrubs += 1;
        readers.idle.clear();
        Ok(())
    }

    fn outbox(&self) -> &dyn Outbox {
        self
    }

    fn digests(&self) -> &dyn Digests {
        self
    }

    fn replays(&self) -> &dyn Replays {
        self
    }

    fn backup(&self, path: &Path) -> Result<(), StoreError> {
        // A connection of its own: no cache from before a scrub.
        reader::backup(&schema::open_reader(&self.path)?, path)
    }
}

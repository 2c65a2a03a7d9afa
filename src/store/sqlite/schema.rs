//! The tables, how connections are set up, and how an older file is brought up to date.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;

/// The steps that make the tables, in order; a file's `user_version` says how many it has gone. A step that was released
/// never changes: what the tables need more is a step of its own.
const STEPS: &[&str] = &[LOG_TABLES, super::outbox::TABLES, super::digests::TABLES, super::replays::TABLES];

const LOG_TABLES: &str = "
-- Surviving events. A position is never given twice.
CREATE TABLE events (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL,
  type TEXT NOT NULL, time TEXT NOT NULL, received_at TEXT NOT NULL,
  link INTEGER NOT NULL, data TEXT NOT NULL, scores TEXT
) STRICT;
CREATE UNIQUE INDEX events_by_id ON events (tenant, source, id);
CREATE INDEX events_link ON events (position) WHERE link = 1;

-- Which records an event belongs to; erasing one that owns it deletes it.
CREATE TABLE memberships (
  tenant TEXT NOT NULL, module TEXT NOT NULL, record TEXT NOT NULL, position INTEGER NOT NULL, owned INTEGER NOT NULL,
  PRIMARY KEY (tenant, module, record, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships_by_position ON memberships (position);

-- Events that were retracted or erased, as SHA-256 of tenant, source and id.
CREATE TABLE gone (digest BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;

-- Records to fold anew: the ticket of the first mark that stands, and of the last; the position that made the last.
CREATE TABLE dirty (
  tenant TEXT NOT NULL, module TEXT NOT NULL, record TEXT NOT NULL,
  since INTEGER NOT NULL, ticket INTEGER NOT NULL, position INTEGER NOT NULL,
  PRIMARY KEY (tenant, module, record)
) STRICT, WITHOUT ROWID;
CREATE INDEX dirty_by_ticket ON dirty (ticket);
CREATE INDEX dirty_by_since ON dirty (since);

CREATE TABLE documents (
  tenant TEXT NOT NULL, module TEXT NOT NULL, record TEXT NOT NULL,
  etag TEXT NOT NULL, revision INTEGER NOT NULL, labels TEXT NOT NULL, interactions INTEGER NOT NULL,
  net_sentiment REAL, last_activity_at TEXT, day TEXT NOT NULL, settings INTEGER NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY (tenant, module, record)
) STRICT;
CREATE INDEX documents_by_activity ON documents (tenant, coalesce(last_activity_at, '') DESC, module, record);

CREATE TABLE settings (
  tenant TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- What was erased, without saying whose it was.
CREATE TABLE receipts (receipt TEXT PRIMARY KEY, at TEXT NOT NULL, events INTEGER NOT NULL)
  STRICT, WITHOUT ROWID;

CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('applied', 0), ('ticket', 0);
";

/// Marks the file as hearken's (`hrkn` in ASCII).
const APPLICATION_ID: i64 = 0x6872_6b6e;
/// How long a connection waits for another one's lock.
pub const BUSY_MS_MAX: u64 = 10_000;

pub fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let open = |source| StoreError::Open { path: path.display().to_string(), source };
    let mut connection = Connection::open(path).map_err(open)?;
    prepare(&connection).map_err(open)?;
    // Before the first change: a database of another program is left as it is.
    let gone = steps_gone(&connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(open)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(open)?;
    connection.pragma_update(None, "secure_delete", "ON").map_err(open)?;
    if gone < STEPS.len() {
        let transaction = connection.transaction().map_err(open)?;
        for step in &STEPS[gone..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", STEPS.len() as i64)?;
        transaction.commit()?;
    }
    Ok(connection)
}

pub fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|source| StoreError::Open { path: path.display().to_string(), source })?;
    prepare(&connection)?;
    Ok(connection)
}

/// Waits for locks, and keeps what it sorts out of temporary files, which nothing would scrub.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS_MAX))?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// How many of [`STEPS`] a file has gone. Refuses what another program or a newer hearken wrote.
fn steps_gone(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    match (application, usize::try_from(found)) {
        (APPLICATION_ID, Ok(gone)) if gone <= STEPS.len() => Ok(gone),
        (APPLICATION_ID, _) => Err(StoreError::Newer { found, known: STEPS.len() as i64 }),
        (0, Ok(0)) if tables == 0 => Ok(0),
        _ => Err(StoreError::Foreign(path.display().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_an_older_version_goes_the_steps_that_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(LOG_TABLES).unwrap();
        old.execute("INSERT INTO settings VALUES ('t', 'modules', 1, '{}')", []).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let count =
            |sql: &str| -> i64 { open_writer(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap() };
        assert_eq!(count("SELECT count(*) FROM settings"), 1);
        assert_eq!(count("SELECT count(*) FROM deliveries"), 0);
        assert_eq!(count("SELECT user_version FROM pragma_user_version"), STEPS.len() as i64);
    }
}

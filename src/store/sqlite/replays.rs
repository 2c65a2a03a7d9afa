//! Replays in the file. Their scores stand in a table of their own; which of them count is said by one row per tenant.

use rusqlite::{Connection, Transaction, params};

use super::super::*;
use super::{SqliteStore, reader, writer};

pub const TABLES: &str = "
CREATE TABLE replays (
  id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, state TEXT NOT NULL, scored_to INTEGER NOT NULL,
  body TEXT NOT NULL
) STRICT;

-- Scores of a replay by event; they leave with the event.
CREATE TABLE replay_scores (
  position INTEGER NOT NULL, replay INTEGER NOT NULL, scores TEXT NOT NULL, PRIMARY KEY (position, replay)
) STRICT, WITHOUT ROWID;
CREATE INDEX replay_scores_by_replay ON replay_scores (replay);

-- What a replay makes of each record.
CREATE TABLE replay_records (
  replay INTEGER NOT NULL, module TEXT NOT NULL, record TEXT NOT NULL, changed INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (replay, module, record)
) STRICT, WITHOUT ROWID;

-- The replay whose scores a tenant's events show.
CREATE TABLE score_sets (tenant TEXT PRIMARY KEY, replay INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// The scores that an event `e` shows.
pub const SHOWN_SCORES: &str = "coalesce((SELECT r.scores FROM score_sets s
   JOIN replay_scores r ON r.position = e.position AND r.replay = s.replay WHERE s.tenant = e.tenant), e.scores)";

/// The settings document that marks a switch; it is nobody's to read or put.
const SWITCH_SETTING: &str = "replay";

impl Replays for SqliteStore {
    fn new_replay(&self, tenant: &Tenant, state: &str, body: &str) -> Result<u64, StoreError> {
        let (tenant, state, body) = (tenant.clone(), state.to_owned(), body.to_owned());
        self.writer.run(move |connection| {
            connection.execute(
                "INSERT INTO replays (tenant, state, scored_to, body) VALUES (?1, ?2, 0, ?3)",
                params![&*tenant.0, state, body],
            )?;
            Ok(connection.last_insert_rowid() as u64)
        })
    }

    fn replays(&self) -> Result<Vec<ReplayRow>, StoreError> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT id, tenant, state, scored_to, body FROM replays ORDER BY id")?;
            let rows = statement.query_map([], |row| {
                Ok(ReplayRow {
                    id: row.get::<_, i64>(0)? as u64,
                    tenant: Tenant(row.get::<_, String>(1)?.into()),
                    state: row.get(2)?,
                    scored_to: row.get::<_, i64>(3)? as u64,
                    body: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn set_replay(&self, id: u64, state: &str, body: &str) -> Result<bool, StoreError> {
        let (state, body) = (state.to_owned(), body.to_owned());
        self.writer.run(move |connection| set(connection, id, &state, &body))
    }

    fn put_replayed(
        &self,
        id: u64,
        scores: Vec<(u64, String)>,
        scored_to: u64,
        body: &str,
    ) -> Result<(), StoreError> {
        let body = body.to_owned();
        self.writer.run(move |connection| {
            let transaction = connection.transaction()?;
            for (position, scores) in &scores {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO replay_scores SELECT position, ?2, ?3 FROM events WHERE position = ?1",
                    )?
                    .execute(params![*position as i64, id as i64, scores])?;
            }
            transaction
                .prepare_cached("UPDATE replays SET scored_to = ?2, body = ?3 WHERE id = ?1")?
                .execute(params![id as i64, scored_to as i64, body])?;
            Ok(transaction.commit()?)
        })
    }

    fn replayed_history(
        &self,
        id: u64,
        tenant: &Tenant,
        records: &[RecordKey],
    ) -> Result<Vec<LogRow>, StoreError> {
        let scores = format!(
            "coalesce((SELECT r.scores FROM replay_scores r WHERE r.position = e.position AND r.replay = {id}),
                      {SHOWN_SCORES})"
        );
        self.read(|connection| reader::history_with(connection, tenant, records, &scores))
    }

    fn put_differences(
        &self,
        id: u64,
        differences: Vec<Difference>,
        afresh: bool,
        body: &str,
    ) -> Result<(), StoreError> {
        let body = body.to_owned();
        self.writer.run(move |connection| {
            let transaction = connection.transaction()?;
            if afresh {
                transaction.execute("DELETE FROM replay_records WHERE replay = ?1", [id as i64])?;
            }
            for difference in &differences {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO replay_records VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![
                        id as i64,
                        difference.record.module,
                        difference.record.id,
                        difference.changed,
                        difference.body
                    ])?;
            }
            transaction.execute("UPDATE replays SET body = ?2 WHERE id = ?1", params![id as i64, body])?;
            Ok(transaction.commit()?)
        })
    }

    fn differences(
        &self,
        id: u64,
        changed_only: bool,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<Difference>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT module, record, changed, body FROM replay_records
                 WHERE replay = ?1 AND (module, record) > (?2, ?3) AND (changed = 1 OR ?4 = 0)
                 ORDER BY module, record LIMIT ?5",
            )?;
            let (module, record) = after.map_or(("", ""), |key| (key.module.as_str(), key.id.as_str()));
            let rows = statement.query_map(
                params![id as i64, module, record, changed_only, limit as i64],
                |row| {
                    Ok(Difference {
                        record: RecordKey { module: row.get(0)?, id: row.get(1)? },
                        changed: row.get(2)?,
                        body: row.get(3)?,
                    })
                },
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn switch_replay(
        &self,
        id: u64,
        with_scores: bool,
        settings: Vec<(String, String)>,
        state: &str,
        body: &str,
    ) -> Result<Vec<(String, Setting)>, StoreError> {
        let (state, body) = (state.to_owned(), body.to_owned());
        self.writer.run(move |connection| {
            let transaction = connection.transaction()?;
            let tenant: String =
                transaction
                    .query_row("SELECT tenant FROM replays WHERE id = ?1", [id as i64], |r| r.get(0))?;
            let tenant = Tenant(tenant.into());
            if with_scores {
                transaction.execute(
                    "INSERT OR REPLACE INTO score_sets VALUES (?1, ?2)",
                    params![&*tenant.0, id as i64],
                )?;
            }
            let mut written = Vec::new();
            let mark = (SWITCH_SETTING.to_owned(), format!("{{\"replay\":{id}}}"));
            for (name, body) in settings.into_iter().chain(std::iter::once(mark)) {
                let setting = writer::put_setting(&transaction, &tenant, &name, &body)?;
                written.push((name, setting));
            }
            set(&transaction, id, &state, &body)?;
            transaction.commit()?;
            Ok(written)
        })
    }

    fn active_replays(&self) -> Result<Vec<(Tenant, u64)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT tenant, replay FROM score_sets")?;
            let rows = statement.query_map([], |row| {
                Ok((Tenant(row.get::<_, String>(0)?.into()), row.get::<_, i64>(1)? as u64))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn drop_replay(&self, id: u64, state: &str, body: &str) -> Result<(), StoreError> {
        let (state, body) = (state.to_owned(), body.to_owned());
        self.writer.run(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "DELETE FROM replay_scores WHERE replay = ?1 AND replay NOT IN (SELECT replay FROM score_sets)",
                [id as i64],
            )?;
            transaction.execute("DELETE FROM replay_records WHERE replay = ?1", [id as i64])?;
            set(&transaction, id, &state, &body)?;
            Ok(transaction.commit()?)
        })
    }
}

fn set(connection: &Connection, id: u64, state: &str, body: &str) -> Result<bool, StoreError> {
    let changed = connection
        .prepare_cached("UPDATE replays SET state = ?2, body = ?3 WHERE id = ?1")?
        .execute(params![id as i64, state, body])?;
    Ok(changed > 0)
}

/// Takes the scores of an event that goes out of every replay.
pub fn remove_event(transaction: &Transaction, position: i64) -> Result<(), StoreError> {
    transaction.prepare_cached("DELETE FROM replay_scores WHERE position = ?1")?.execute([position])?;
    Ok(())
}

/// Takes a record that is erased out of every replay.
pub fn remove_record(
    transaction: &Transaction,
    tenant: &Tenant,
    record: &RecordKey,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "DELETE FROM replay_records
             WHERE replay IN (SELECT id FROM replays WHERE tenant = ?1) AND module = ?2 AND record = ?3",
        )?
        .execute(params![&*tenant.0, record.module, record.id])?;
    Ok(())
}

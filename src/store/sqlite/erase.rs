//! Deleting for good: rows that are erased, and the copies of them that SQLite's files would keep.
//!
//! `secure_delete` overwrites what leaves a page, but pages of the write-ahead log live on until it is cut off, and so do
//! copies of rows that moved between pages ([`gaps`]); both end in [`scrub`]. Which events fall with a record and which only lose its name is the caller's to say.

use std::{collections::BTreeSet, fs::File, path::Path, thread, time::Duration};

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::{super::*, gaps, schema, writer};

/// How often a scrub tries while readers hold the log, and the pause between two tries.
const SCRUB_TRIES_MAX: usize = 20;
const SCRUB_PAUSE_MS: u64 = 50;

pub fn erase(connection: &mut Connection, erasure: &Erasure) -> Result<Option<Erased>, StoreError> {
    let Erasure { tenant, records, rewritten, because, at } = erasure;
    let transaction = connection.transaction()?;
    if let Some(id) = because {
        if writer::is_gone(&transaction, tenant, id)? {
            return Ok(None);
        }
        writer::remember_gone(&transaction, tenant, id)?;
    }
    let logged = super::reader::positions(&transaction)?.logged;
    let mut events = Vec::new();
    let mut shared = BTreeSet::new();
    for record in records {
        let rows = transaction
            .prepare_cached(
                "SELECT e.position, e.source, e.id, e.type FROM memberships m JOIN events e USING (position)
                 WHERE m.tenant = ?1 AND m.module = ?2 AND m.record = ?3 AND m.owned = 1",
            )?
            .query_map(params![&*tenant.0, record.module, record.id], |row| {
                let id = EventId { source: row.get(1)?, id: row.get(2)? };
                Ok((row.get::<_, i64>(0)?, id, row.get::<_, String>(3)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        for (position, id, type_) in rows {
            shared.extend(writer::remove(&transaction, tenant, position, logged)?);
            writer::remember_gone(&transaction, tenant, &id)?;
            events.push((position as u64, type_));
        }
    }
    for (position, data) in rewritten {
        let changed = transaction
            .prepare_cached("UPDATE events SET data = ?3 WHERE position = ?1 AND tenant = ?2")?
            .execute(params![*position as i64, &*tenant.0, data])?;
        if changed > 0 {
            shared.extend(writer::mark_members(&transaction, tenant, *position as i64, logged)?);
        }
    }
    for record in records {
        for table in ["memberships", "documents", "dirty"] {
            transaction
                .prepare_cached(&format!(
                    "DELETE FROM {table} WHERE tenant = ?1 AND module = ?2 AND record = ?3"
                ))?
                .execute(params![&*tenant.0, record.module, record.id])?;
        }
        super::outbox::erase(&transaction, tenant, record)?;
        super::digests::remove(&transaction, tenant, record)?;
        super::replays::remove_record(&transaction, tenant, record)?;
        shared.remove(record);
    }
    // Their digests may hold keywords of what is gone; they are made anew with the documents.
    for record in &shared {
        super::digests::remove(&transaction, tenant, record)?;
    }
    let ticket = writer::next_ticket(&transaction)?;
    let mut hash = Sha256::new();
    hash.update(at.to_string());
    hash.update(ticket.to_le_bytes());
    hash.update((events.len() as u64).to_le_bytes());
    let receipt: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    transaction.execute(
        "INSERT INTO receipts VALUES (?1, ?2, ?3)",
        params![receipt, at.to_string(), events.len() as i64],
    )?;
    transaction.commit()?;
    Ok(Some(Erased { events, shared: shared.into_iter().collect(), receipt }))
}

/// Moves everything into the main file, where deleted rows are overwritten, empties the write-ahead log, and cleans
/// pages of copies that SQLite left behind. The connection is opened anew, since its cache still has these.
pub fn scrub(connection: &mut Connection, path: &Path, file: &File) -> Result<(), StoreError> {
    empty_log(connection)?;
    if gaps::clean(file).map_err(StoreError::Scrub)?.is_none() {
        connection.execute_batch("VACUUM")?;
        empty_log(connection)?;
    }
    *connection = schema::open_writer(path)?;
    Ok(())
}

fn empty_log(connection: &Connection) -> Result<(), StoreError> {
    for _ in 0..SCRUB_TRIES_MAX {
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(SCRUB_PAUSE_MS));
    }
    Err(StoreError::NotScrubbed)
}

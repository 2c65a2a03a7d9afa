//! Everything that changes the file, on one thread that owns the connection.
//!
//! Appends that wait at the same time are written in one transaction, so that many requests share one sync of the disk.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};

use super::super::*;

/// Most events in one transaction of appends; a larger single batch is still written whole.
const GROUP_EVENTS_MAX: usize = 20_000;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;
type Reply = Sender<Result<Vec<Appended>, StoreError>>;

enum Command {
    Append(Vec<NewEvent>, Reply),
    Run(Job),
}

/// The way to the writing thread; it ends, with the connection, when this is dropped.
pub struct Writer {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(mut connection: Connection) -> Self {
        let (commands, queue) = channel();
        let thread = std::thread::spawn(move || serve(&mut connection, &queue));
        Self { commands: Some(commands), thread: Some(thread) }
    }

    pub fn append(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>, StoreError> {
        let (reply, answer) = channel();
        self.send(Command::Append(events, reply))?;
        answer.recv().map_err(|_| StoreError::Closed)?
    }

    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = channel();
        self.send(Command::Run(Box::new(move |connection| {
            // The caller may have gone; then nobody waits for the answer.
            let _ = reply.send(job(connection));
        })))?;
        answer.recv().map_err(|_| StoreError::Closed)?
    }

    fn send(&self, command: Command) -> Result<(), StoreError> {
        self.commands.as_ref().ok_or(StoreError::Closed)?.send(command).map_err(|_| StoreError::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(connection: &mut Connection, queue: &Receiver<Command>) {
    while let Ok(command) = queue.recv() {
        let mut next = Some(command);
        let mut group: Vec<(Vec<NewEvent>, Reply)> = Vec::new();
        let mut events = 0;
        while let Some(Command::Append(batch, reply)) = next.take_if(|c| matches!(c, Command::Append(..))) {
            events += batch.len();
            group.push((batch, reply));
            if events >= GROUP_EVENTS_MAX {
                break;
            }
            next = queue.try_recv().ok();
        }
        if !group.is_empty() {
            append_group(connection, group);
        }
        if let Some(Command::Run(job)) = next {
            job(connection);
        }
    }
}

/// One transaction for all; should that fail, one for each, so that a batch only fails for its own reasons.
fn append_group(connection: &mut Connection, group: Vec<(Vec<NewEvent>, Reply)>) {
    let whole = (|| {
        let transaction = connection.transaction()?;
        let outcomes = group
            .iter()
            .map(|(batch, _)| append_batch(&transaction, batch))
            .collect::<Result<Vec<_>, _>>()?;
        transaction.commit()?;
        Ok::<_, StoreError>(outcomes)
    })();
    match whole {
        Ok(outcomes) => {
            for ((_, reply), outcome) in group.into_iter().zip(outcomes) {
                let _ = reply.send(Ok(outcome));
            }
        }
        Err(error) if group.len() == 1 => {
            if let Some((_, reply)) = group.into_iter().next() {
                let _ = reply.send(Err(error));
            }
        }
        Err(_) => group.into_iter().for_each(|one| append_group(connection, vec![one])),
    }
}

fn append_batch(transaction: &Transaction, batch: &[NewEvent]) -> Result<Vec<Appended>, StoreError> {
    batch.iter().map(|event| append_event(transaction, event)).collect()
}

fn append_event(transaction: &Transaction, event: &NewEvent) -> Result<Appended, StoreError> {
    if is_gone(transaction, &event.tenant, &event.id)? {
        return Ok(Appended::Duplicate);
    }
    if let Some((position, revision)) = find(transaction, &event.tenant, &event.id)? {
        if revision >= event.revision {
            return Ok(Appended::Duplicate);
        }
        remove(transaction, &event.tenant, position)?;
    }
    if let Some(target) = &event.retracts {
        if let Some((position, _)) = find(transaction, &event.tenant, target)? {
            remove(transaction, &event.tenant, position)?;
        }
        remember_gone(transaction, &event.tenant, target)?;
    }
    transaction
        .prepare_cached(
            "INSERT INTO events (tenant, source, id, revision, type, time, received_at, link, data)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            &*event.tenant.0,
            event.id.source,
            event.id.id,
            event.revision,
            event.type_,
            event.time.to_string(),
            event.received_at.to_string(),
            event.link,
            event.data
        ])?;
    let position = transaction.last_insert_rowid();
    for Membership { record, owned } in &event.records {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO memberships VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![&*event.tenant.0, record.module, record.id, position, owned])?;
    }
    Ok(Appended::At(position as u64))
}

fn find(transaction: &Transaction, tenant: &Tenant, id: &EventId) -> Result<Option<(i64, u32)>, StoreError> {
    Ok(transaction
        .prepare_cached(
            "SELECT position, revision FROM events WHERE tenant = ?1 AND source = ?2 AND id = ?3",
        )?
        .query_row(params![&*tenant.0, id.source, id.id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Deletes one event; the records that it belonged to become dirty.
fn remove(transaction: &Transaction, tenant: &Tenant, position: i64) -> Result<Vec<RecordKey>, StoreError> {
    let records = transaction
        .prepare_cached("SELECT module, record FROM memberships WHERE position = ?1")?
        .query_map([position], |row| Ok(RecordKey { module: row.get(0)?, id: row.get(1)? }))?
        .collect::<Result<Vec<_>, _>>()?;
    for record in &records {
        mark_dirty(transaction, tenant, record)?;
    }
    transaction.prepare_cached("DELETE FROM memberships WHERE position = ?1")?.execute([position])?;
    transaction.prepare_cached("DELETE FROM events WHERE position = ?1")?.execute([position])?;
    Ok(records)
}

pub fn mark_dirty(transaction: &Transaction, tenant: &Tenant, record: &RecordKey) -> Result<(), StoreError> {
    let ticket: i64 = transaction
        .prepare_cached("UPDATE counters SET value = value + 1 WHERE name = 'ticket' RETURNING value")?
        .query_row([], |row| row.get(0))?;
    transaction
        .prepare_cached(
            "INSERT INTO dirty VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (tenant, module, record) DO UPDATE SET ticket = excluded.ticket",
        )?
        .execute(params![&*tenant.0, record.module, record.id, ticket])?;
    Ok(())
}

fn digest(tenant: &Tenant, id: &EventId) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in [&*tenant.0, &id.source, &id.id] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

fn is_gone(transaction: &Transaction, tenant: &Tenant, id: &EventId) -> Result<bool, StoreError> {
    Ok(transaction.prepare_cached("SELECT 1 FROM gone WHERE digest = ?1")?.exists([digest(tenant, id)])?)
}

fn remember_gone(transaction: &Transaction, tenant: &Tenant, id: &EventId) -> Result<(), StoreError> {
    transaction.prepare_cached("INSERT OR IGNORE INTO gone VALUES (?1)")?.execute([digest(tenant, id)])?;
    Ok(())
}

pub fn commit(connection: &mut Connection, commit: &Commit) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for (position, scores) in &commit.scores {
        transaction
            .prepare_cached("UPDATE events SET scores = ?2 WHERE position = ?1")?
            .execute(params![*position as i64, scores])?;
    }
    for ((tenant, record), document) in &commit.documents {
        let labels = serde_json::to_string(&document.labels)
            .map_err(|e| StoreError::Corrupt { what: "labels", why: e.to_string() })?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO documents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                &*tenant.0,
                record.module,
                record.id,
                &*document.etag,
                document.revision as i64,
                labels,
                document.interactions as i64,
                document.net_sentiment,
                document.last_activity_at.map(sortable),
                document.day.to_string(),
                &*document.bytes
            ])?;
    }
    for (tenant, record) in &commit.removed {
        remove_document(&transaction, tenant, record)?;
    }
    for mark in &commit.clean {
        transaction.prepare_cached("DELETE FROM dirty WHERE ticket = ?1")?.execute([mark.ticket as i64])?;
    }
    if let Some(applied) = commit.applied {
        transaction
            .prepare_cached("UPDATE counters SET value = ?1 WHERE name = 'applied'")?
            .execute([applied as i64])?;
    }
    Ok(transaction.commit()?)
}

/// A form in which text order is time order.
pub fn sortable(time: Timestamp) -> String {
    format!("{time:.9}")
}

fn remove_document(
    transaction: &Transaction,
    tenant: &Tenant,
    record: &RecordKey,
) -> Result<usize, StoreError> {
    Ok(transaction
        .prepare_cached("DELETE FROM documents WHERE tenant = ?1 AND module = ?2 AND record = ?3")?
        .execute(params![&*tenant.0, record.module, record.id])?)
}

pub fn put_setting(
    connection: &mut Connection,
    tenant: &Tenant,
    name: &str,
    body: &str,
) -> Result<Setting, StoreError> {
    let version: i64 = connection
        .prepare_cached(
            "INSERT INTO settings VALUES (?1, ?2, 1, ?3)
             ON CONFLICT (tenant, name) DO UPDATE SET version = version + 1, body = excluded.body
             RETURNING version",
        )?
        .query_row(params![&*tenant.0, name, body], |row| row.get(0))?;
    Ok(Setting { version: version as u64, body: body.into() })
}

pub fn erase(
    connection: &mut Connection,
    tenant: &Tenant,
    records: &[RecordKey],
    at: Timestamp,
) -> Result<Receipt, StoreError> {
    let transaction = connection.transaction()?;
    let mut erased = Vec::new();
    let mut shared = std::collections::BTreeSet::new();
    for record in records {
        let rows = transaction
            .prepare_cached(
                "SELECT e.position, e.source, e.id, e.type, m.owned FROM memberships m JOIN events e USING (position)
                 WHERE m.tenant = ?1 AND m.module = ?2 AND m.record = ?3",
            )?
            .query_map(params![&*tenant.0, record.module, record.id], |row| {
                let id = EventId { source: row.get(1)?, id: row.get(2)? };
                Ok((row.get::<_, i64>(0)?, id, row.get::<_, String>(3)?, row.get::<_, bool>(4)?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        for (position, id, type_, owned) in rows {
            if owned {
                shared.extend(remove(&transaction, tenant, position)?);
                remember_gone(&transaction, tenant, &id)?;
                erased.push(type_);
            }
        }
        transaction
            .prepare_cached("DELETE FROM memberships WHERE tenant = ?1 AND module = ?2 AND record = ?3")?
            .execute(params![&*tenant.0, record.module, record.id])?;
    }
    let mut documents = 0;
    for record in records {
        documents += remove_document(&transaction, tenant, record)?;
        shared.remove(record);
        transaction
            .prepare_cached("DELETE FROM dirty WHERE tenant = ?1 AND module = ?2 AND record = ?3")?
            .execute(params![&*tenant.0, record.module, record.id])?;
    }
    documents += shared.len();
    let interactions = erased.iter().filter(|t| t.starts_with("voc.interaction.received")).count();
    let ticket: i64 = transaction.query_row(
        "UPDATE counters SET value = value + 1 WHERE name = 'ticket' RETURNING value",
        [],
        |r| r.get(0),
    )?;
    let mut hash = Sha256::new();
    hash.update(at.to_string());
    hash.update(ticket.to_le_bytes());
    hash.update((erased.len() as u64).to_le_bytes());
    let receipt: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    transaction.execute(
        "INSERT INTO receipts VALUES (?1, ?2, ?3, ?4)",
        params![receipt, at.to_string(), erased.len() as i64, documents as i64],
    )?;
    transaction.commit()?;
    scrub(connection)?;
    Ok(Receipt { erased_interactions: interactions, documents_changed: documents, receipt })
}

/// Moves everything into the main file, where deleted rows are overwritten, and empties the write-ahead log.
pub fn scrub(connection: &Connection) -> Result<(), StoreError> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(())
}

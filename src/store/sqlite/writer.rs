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
type Reply = Sender<Result<Batch, StoreError>>;

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

    pub fn append(&self, events: Vec<NewEvent>) -> Result<Batch, StoreError> {
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

fn append_batch(transaction: &Transaction, batch: &[NewEvent]) -> Result<Batch, StoreError> {
    let events = batch.iter().map(|event| append_event(transaction, event)).collect::<Result<Vec<_>, _>>()?;
    let logged = super::reader::positions(transaction)?.logged;
    let ticket: i64 = transaction
        .prepare_cached("SELECT value FROM counters WHERE name = 'ticket'")?
        .query_row([], |row| row.get(0))?;
    Ok(Batch { events, logged, ticket: ticket as u64 })
}

fn append_event(transaction: &Transaction, event: &NewEvent) -> Result<Appended, StoreError> {
    if is_gone(transaction, &event.tenant, &event.id)? {
        return Ok(Appended::Duplicate);
    }
    if let Some((position, revision)) = find(transaction, &event.tenant, &event.id)? {
        if revision >= event.revision {
            return Ok(Appended::Duplicate);
        }
        remove(transaction, &event.tenant, position, next_position(transaction)?)?;
    }
    if let Some(target) = &event.retracts {
        if let Some((position, _)) = find(transaction, &event.tenant, target)? {
            remove(transaction, &event.tenant, position, next_position(transaction)?)?;
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

/// The position that the event being appended will have.
fn next_position(transaction: &Transaction) -> Result<u64, StoreError> {
    Ok(super::reader::positions(transaction)?.logged + 1)
}

fn find(transaction: &Transaction, tenant: &Tenant, id: &EventId) -> Result<Option<(i64, u32)>, StoreError> {
    Ok(transaction
        .prepare_cached(
            "SELECT position, revision FROM events WHERE tenant = ?1 AND source = ?2 AND id = ?3",
        )?
        .query_row(params![&*tenant.0, id.source, id.id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

/// Deletes one event; the records that it belonged to become dirty, by the event at position `by`.
pub fn remove(
    transaction: &Transaction,
    tenant: &Tenant,
    position: i64,
    by: u64,
) -> Result<Vec<RecordKey>, StoreError> {
    let records = mark_members(transaction, tenant, position, by)?;
    transaction.prepare_cached("DELETE FROM memberships WHERE position = ?1")?.execute([position])?;
    transaction.prepare_cached("DELETE FROM events WHERE position = ?1")?.execute([position])?;
    super::replays::remove_event(transaction, position)?;
    Ok(records)
}

/// Makes the records of one event dirty, by the event at position `by`.
pub fn mark_members(
    transaction: &Transaction,
    tenant: &Tenant,
    position: i64,
    by: u64,
) -> Result<Vec<RecordKey>, StoreError> {
    let records = transaction
        .prepare_cached("SELECT module, record FROM memberships WHERE position = ?1")?
        .query_map([position], |row| Ok(RecordKey { module: row.get(0)?, id: row.get(1)? }))?
        .collect::<Result<Vec<_>, _>>()?;
    for record in &records {
        mark_dirty(transaction, tenant, record, by)?;
    }
    Ok(records)
}

fn mark_dirty(
    transaction: &Transaction,
    tenant: &Tenant,
    record: &RecordKey,
    by: u64,
) -> Result<(), StoreError> {
    let ticket = next_ticket(transaction)?;
    transaction
        .prepare_cached(
            "INSERT INTO dirty VALUES (?1, ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT (tenant, module, record)
             DO UPDATE SET ticket = excluded.ticket, position = excluded.position",
        )?
        .execute(params![&*tenant.0, record.module, record.id, ticket, by as i64])?;
    Ok(())
}

pub fn next_ticket(transaction: &Transaction) -> Result<i64, StoreError> {
    Ok(transaction
        .prepare_cached("UPDATE counters SET value = value + 1 WHERE name = 'ticket' RETURNING value")?
        .query_row([], |row| row.get(0))?)
}

fn digest(tenant: &Tenant, id: &EventId) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in [&*tenant.0, &id.source, &id.id] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

pub fn is_gone(transaction: &Transaction, tenant: &Tenant, id: &EventId) -> Result<bool, StoreError> {
    Ok(transaction.prepare_cached("SELECT 1 FROM gone WHERE digest = ?1")?.exists([digest(tenant, id)])?)
}

pub fn remember_gone(transaction: &Transaction, tenant: &Tenant, id: &EventId) -> Result<(), StoreError> {
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
                "INSERT OR REPLACE INTO documents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
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
                document.basis.day.to_string(),
                document.basis.settings as i64,
                &*document.bytes
            ])?;
    }
    for (tenant, record) in &commit.removed {
        remove_document(&transaction, tenant, record)?;
    }
    for mark in &commit.clean {
        transaction.prepare_cached("DELETE FROM dirty WHERE ticket = ?1")?.execute([mark.ticket as i64])?;
    }
    for alert in &commit.alerts {
        super::outbox::put_alert(&transaction, alert)?;
    }
    super::outbox::put_actions(&transaction, &commit.actions)?;
    append_batch(&transaction, &commit.opened)?;
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

pub fn remove_document(
    transaction: &Transaction,
    tenant: &Tenant,
    record: &RecordKey,
) -> Result<usize, StoreError> {
    super::digests::remove(transaction, tenant, record)?;
    Ok(transaction
        .prepare_cached("DELETE FROM documents WHERE tenant = ?1 AND module = ?2 AND record = ?3")?
        .execute(params![&*tenant.0, record.module, record.id])?)
}

pub fn put_setting(
    connection: &Connection,
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

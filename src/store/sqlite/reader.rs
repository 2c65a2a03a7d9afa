//! Everything that is read from the file, on any connection.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::*;
use super::{replays::SHOWN_SCORES, writer::sortable};

pub fn positions(connection: &Connection) -> Result<Positions, StoreError> {
    let logged: i64 = connection
        .prepare_cached("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)")?
        .query_row([], |row| row.get(0))?;
    let applied: i64 = connection
        .prepare_cached("SELECT value FROM counters WHERE name = 'applied'")?
        .query_row([], |row| row.get(0))?;
    Ok(Positions { logged: logged as u64, applied: applied as u64 })
}

const COLUMNS: &str =
    "e.position, e.tenant, e.source, e.id, e.revision, e.type, e.time, e.received_at, e.data";

/// What a row holds before its times are read.
fn log_row(row: &Row) -> rusqlite::Result<LogRow> {
    Ok(LogRow {
        position: row.get::<_, i64>(0)? as u64,
        tenant: Tenant(row.get::<_, String>(1)?.into()),
        id: EventId { source: row.get(2)?, id: row.get(3)? },
        revision: row.get(4)?,
        type_: row.get(5)?,
        time: time(row, 6)?,
        received_at: time(row, 7)?,
        data: row.get(8)?,
        scores: row.get(9)?,
    })
}

pub fn time(row: &Row, column: usize) -> rusqlite::Result<Timestamp> {
    let text: String = row.get(column)?;
    text.parse().map_err(|e: jiff::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

pub fn read_after(
    connection: &Connection,
    position: u64,
    events_max: usize,
    data_bytes_max: usize,
) -> Result<Vec<LogRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, {SHOWN_SCORES} FROM events e WHERE e.position > ?1 ORDER BY e.position LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = Vec::new();
    let mut bytes = 0;
    for row in statement.query_map(params![position as i64, events_max as i64], log_row)? {
        let row = row?;
        bytes += row.data.len();
        rows.push(row);
        if bytes >= data_bytes_max {
            break;
        }
    }
    Ok(rows)
}

pub fn history(
    connection: &Connection,
    tenant: &Tenant,
    records: &[RecordKey],
) -> Result<Vec<LogRow>, StoreError> {
    history_with(connection, tenant, records, SHOWN_SCORES)
}

/// [`history`] with `scores`, an SQL expression over the event `e`.
pub fn history_with(
    connection: &Connection,
    tenant: &Tenant,
    records: &[RecordKey],
    scores: &str,
) -> Result<Vec<LogRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, {scores} FROM memberships m JOIN events e USING (position)
         WHERE m.tenant = ?1 AND m.module = ?2 AND m.record = ?3 ORDER BY m.position"
    );
    let mut rows = std::collections::BTreeMap::new();
    for record in records {
        let mut statement = connection.prepare_cached(&sql)?;
        for row in statement.query_map(params![&*tenant.0, record.module, record.id], log_row)? {
            let row = row?;
            rows.insert(row.position, row);
        }
    }
    Ok(rows.into_values().collect())
}

pub fn links(connection: &Connection) -> Result<Vec<LogRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS}, e.scores FROM events e WHERE e.link = 1 ORDER BY e.position");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_map([], log_row)?.collect::<Result<_, _>>()?)
}

pub fn dirty(connection: &Connection, limit: usize) -> Result<Vec<DirtyMark>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT ticket, position, tenant, module, record FROM dirty ORDER BY ticket LIMIT ?1",
    )?;
    let marks = statement.query_map([limit as i64], |row| {
        Ok(DirtyMark {
            ticket: row.get::<_, i64>(0)? as u64,
            position: row.get::<_, i64>(1)? as u64,
            record: tenant_record(row, 2)?,
        })
    })?;
    Ok(marks.collect::<Result<_, _>>()?)
}

pub fn dirty_since(connection: &Connection) -> Result<Option<u64>, StoreError> {
    let since: Option<i64> =
        connection.prepare_cached("SELECT min(since) FROM dirty")?.query_row([], |row| row.get(0))?;
    Ok(since.map(|t| t as u64))
}

pub fn tenant_record(row: &Row, first: usize) -> rusqlite::Result<TenantRecord> {
    let tenant = Tenant(row.get::<_, String>(first)?.into());
    Ok((tenant, RecordKey { module: row.get(first + 1)?, id: row.get(first + 2)? }))
}

const DOCUMENT_COLUMNS: &str =
    "etag, revision, labels, interactions, net_sentiment, last_activity_at, day, settings";

fn stored_document(row: &Row, bytes: Vec<u8>) -> rusqlite::Result<StoredDocument> {
    let labels: String = row.get(2)?;
    let last: Option<String> = row.get(5)?;
    let bad = |column: usize, why: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, why)
    };
    Ok(StoredDocument {
        bytes: bytes.into(),
        etag: row.get::<_, String>(0)?.into(),
        revision: row.get::<_, i64>(1)? as u64,
        labels: serde_json::from_str(&labels).map_err(|e| bad(2, e.into()))?,
        interactions: row.get::<_, i64>(3)? as u64,
        net_sentiment: row.get(4)?,
        last_activity_at: last.map(|t| t.parse()).transpose().map_err(|e: jiff::Error| bad(5, e.into()))?,
        basis: basis(row, 6)?,
    })
}

fn basis(row: &Row, first: usize) -> rusqlite::Result<Basis> {
    let day: String = row.get(first)?;
    let day = day.parse().map_err(|e: jiff::Error| {
        rusqlite::Error::FromSqlConversionFailure(first, rusqlite::types::Type::Text, Box::new(e))
    })?;
    Ok(Basis { day, settings: row.get::<_, i64>(first + 1)? as u64 })
}

pub fn document(
    connection: &Connection,
    tenant: &Tenant,
    record: &RecordKey,
) -> Result<Option<StoredDocument>, StoreError> {
    let sql = format!(
        "SELECT {DOCUMENT_COLUMNS}, bytes FROM documents WHERE tenant = ?1 AND module = ?2 AND record = ?3"
    );
    Ok(connection
        .prepare_cached(&sql)?
        .query_row(params![&*tenant.0, record.module, record.id], |row| stored_document(row, row.get(8)?))
        .optional()?)
}

pub fn records(
    connection: &Connection,
    tenant: &Tenant,
    filter: &RecordFilter,
) -> Result<Vec<RecordEntry>, StoreError> {
    // Activity falls, then module and id rise: the same order as the index. `~` comes after every time.
    let sql = format!(
        "SELECT {DOCUMENT_COLUMNS}, module, record FROM documents
         WHERE tenant = ?1
           AND (?2 IS NULL OR module = ?2)
           AND (?3 IS NULL OR EXISTS (SELECT 1 FROM json_each(labels) WHERE json_each.value = ?3))
           AND (?4 IS NULL OR instr(record, ?4) > 0)
           AND (?9 IS NULL OR sign(net_sentiment) = ?9)
           AND (?10 IS NULL OR EXISTS (SELECT 1 FROM digests g, json_each(g.competitors) c
                WHERE g.tenant = ?1 AND g.module = documents.module AND g.record = documents.record AND c.value = ?10))
           AND (?11 IS NULL OR EXISTS (SELECT 1 FROM digests g
                WHERE g.tenant = ?1 AND g.module = documents.module AND g.record = documents.record
                  AND g.changed_at >= ?11))
           AND coalesce(last_activity_at, '') <= coalesce(?5, '~')
           AND (?5 IS NULL OR coalesce(last_activity_at, '') < ?5
                OR (coalesce(last_activity_at, '') = ?5 AND (module, record) > (?6, ?7)))
         ORDER BY coalesce(last_activity_at, '') DESC, module, record LIMIT ?8"
    );
    let after_time = filter.after.as_ref().map(|(t, _)| t.map(sortable).unwrap_or_default());
    let after_key = filter.after.as_ref().map(|(_, key)| key.clone());
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(
        params![
            &*tenant.0,
            filter.module,
            filter.label,
            filter.search,
            after_time,
            after_key.as_ref().map(|k| &k.module),
            after_key.as_ref().map(|k| &k.id),
            filter.limit as i64,
            filter.mood.map(|mood| mood as i64),
            filter.competitor,
            filter.changed_since.map(sortable)
        ],
        |row| Ok((RecordKey { module: row.get(8)?, id: row.get(9)? }, stored_document(row, Vec::new())?)),
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub fn known_records(
    connection: &Connection,
    after: Option<&TenantRecord>,
    limit: usize,
) -> Result<Vec<TenantRecord>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT tenant, module, record FROM memberships
         WHERE (tenant, module, record) > (?1, ?2, ?3) ORDER BY tenant, module, record LIMIT ?4",
    )?;
    let (tenant, module, id) = first_after(after);
    let rows = statement.query_map(params![tenant, module, id, limit as i64], |row| tenant_record(row, 0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Nothing sorts before empty names, and no record has them.
pub fn first_after(after: Option<&TenantRecord>) -> (&str, &str, &str) {
    after.map_or(("", "", ""), |(tenant, key)| (&*tenant.0, key.module.as_str(), key.id.as_str()))
}

pub fn bases(
    connection: &Connection,
    after: Option<&TenantRecord>,
    limit: usize,
) -> Result<Vec<(TenantRecord, Basis)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT tenant, module, record, day, settings FROM documents
         WHERE (tenant, module, record) > (?1, ?2, ?3) ORDER BY tenant, module, record LIMIT ?4",
    )?;
    let (tenant, module, id) = first_after(after);
    let rows = statement.query_map(params![tenant, module, id, limit as i64], |row| {
        Ok((tenant_record(row, 0)?, basis(row, 3)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// All pages in one step: a copy in several would begin anew with every write in between.
pub fn backup(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let mut copy = Connection::open(path)
        .map_err(|source| StoreError::Open { path: path.display().to_string(), source })?;
    rusqlite::backup::Backup::new(connection, &mut copy)?.step(-1)?;
    Ok(())
}

pub fn setting(connection: &Connection, tenant: &Tenant, name: &str) -> Result<Option<Setting>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT version, body FROM settings WHERE tenant = ?1 AND name = ?2")?
        .query_row(params![&*tenant.0, name], |row| {
            Ok(Setting { version: row.get::<_, i64>(0)? as u64, body: row.get(1)? })
        })
        .optional()?)
}

pub fn settings(connection: &Connection) -> Result<Vec<(Tenant, String, Setting)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT tenant, name, version, body FROM settings")?;
    let rows = statement.query_map([], |row| {
        let setting = Setting { version: row.get::<_, i64>(2)? as u64, body: row.get(3)? };
        Ok((Tenant(row.get::<_, String>(0)?.into()), row.get(1)?, setting))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

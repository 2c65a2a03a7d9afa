//! Alerts, webhooks, deliveries and actions in SQLite: the tables, what a commit writes to them, and all queries.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::super::*;
use super::{SqliteStore, reader::time, writer::sortable};

/// Step 2 of the schema.
pub const TABLES: &str = "
-- What was raised. Rows of one record fall with it.
CREATE TABLE alerts (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL, id TEXT NOT NULL, module TEXT, record TEXT, type TEXT NOT NULL, rule TEXT NOT NULL,
  label TEXT NOT NULL, team TEXT, severity INTEGER NOT NULL, at TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX alerts_by_id ON alerts (tenant, id);
CREATE INDEX alerts_by_record ON alerts (tenant, module, record);
CREATE INDEX alerts_by_time ON alerts (tenant, at);

CREATE TABLE webhooks (
  tenant TEXT NOT NULL, id TEXT NOT NULL, enabled INTEGER NOT NULL, types TEXT NOT NULL, teams TEXT NOT NULL,
  body TEXT NOT NULL, PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
  tenant TEXT NOT NULL, webhook TEXT NOT NULL, number INTEGER NOT NULL, alert TEXT NOT NULL, state TEXT NOT NULL,
  attempts INTEGER NOT NULL, next_at TEXT NOT NULL, status INTEGER, error TEXT, changed_at TEXT NOT NULL,
  PRIMARY KEY (tenant, webhook, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_by_alert ON deliveries (number);
CREATE INDEX deliveries_pending ON deliveries (tenant, webhook, next_at, number) WHERE state = 'pending';

-- The actions that documents show.
CREATE TABLE actions (
  tenant TEXT NOT NULL, id TEXT NOT NULL, module TEXT NOT NULL, record TEXT NOT NULL, label TEXT NOT NULL,
  state TEXT NOT NULL, team TEXT, due_at TEXT, told INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX actions_by_record ON actions (tenant, module, record);
CREATE INDEX actions_by_due ON actions (tenant, coalesce(due_at, '~'), id);
";

/// Writes an alert and a delivery for each webhook that wants it; false where it is known already.
pub fn put_alert(transaction: &Transaction, alert: &NewAlert) -> Result<bool, StoreError> {
    let at = sortable(alert.at);
    let inserted = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO alerts (tenant, id, module, record, type, rule, label, team, severity, at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            &*alert.tenant.0,
            alert.id,
            alert.record.as_ref().map(|r| &r.module),
            alert.record.as_ref().map(|r| &r.id),
            alert.type_,
            alert.rule,
            alert.label,
            alert.team,
            alert.severity,
            at,
            &*alert.body
        ])?;
    if inserted == 0 {
        return Ok(false);
    }
    let number = transaction.last_insert_rowid();
    transaction
        .prepare_cached(
            "INSERT INTO deliveries (tenant, webhook, number, alert, state, attempts, next_at, changed_at)
             SELECT tenant, id, ?2, ?3, 'pending', 0, ?4, ?4 FROM webhooks
             WHERE tenant = ?1 AND (id = ?7 OR (?7 IS NULL AND enabled = 1
               AND (types = '[]' OR EXISTS (SELECT 1 FROM json_each(types) WHERE json_each.value = ?5))
               AND (teams = '[]' OR EXISTS (SELECT 1 FROM json_each(teams) WHERE json_each.value = ?6))))",
        )?
        .execute(params![&*alert.tenant.0, number, alert.id, at, alert.type_, alert.team, alert.only])?;
    Ok(true)
}

/// Replaces the actions of some records.
pub fn put_actions(transaction: &Transaction, actions: &[RecordActions]) -> Result<(), StoreError> {
    // First all that goes: a case may move from one record to another.
    for ((tenant, record), _) in actions {
        transaction
            .prepare_cached("DELETE FROM actions WHERE tenant = ?1 AND module = ?2 AND record = ?3")?
            .execute(params![&*tenant.0, record.module, record.id])?;
    }
    for ((tenant, record), rows) in actions {
        for row in rows {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO actions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    &*tenant.0,
                    row.id,
                    record.module,
                    record.id,
                    row.label,
                    row.state,
                    row.team,
                    row.due_at.map(sortable),
                    row.told,
                    row.body
                ])?;
        }
    }
    Ok(())
}

/// Removes what is held here on a record.
pub fn erase(transaction: &Transaction, tenant: &Tenant, record: &RecordKey) -> Result<(), StoreError> {
    let whose = "tenant = ?1 AND module = ?2 AND record = ?3";
    for sql in [
        format!("DELETE FROM deliveries WHERE number IN (SELECT number FROM alerts WHERE {whose})"),
        format!("DELETE FROM alerts WHERE {whose}"),
        format!("DELETE FROM actions WHERE {whose}"),
    ] {
        transaction.prepare_cached(&sql)?.execute(params![&*tenant.0, record.module, record.id])?;
    }
    Ok(())
}

fn list(names: &[String]) -> Result<String, StoreError> {
    serde_json::to_string(names)
        .map_err(|e| StoreError::Corrupt { what: "list of names", why: e.to_string() })
}

fn names(row: &Row, column: usize) -> rusqlite::Result<Vec<String>> {
    let json: String = row.get(column)?;
    serde_json::from_str(&json).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

fn maybe_time(row: &Row, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null {
        Ok(None)
    } else {
        time(row, column).map(Some)
    }
}

fn action_row(row: &Row) -> rusqlite::Result<ActionRow> {
    Ok(ActionRow {
        record: RecordKey { module: row.get(0)?, id: row.get(1)? },
        id: row.get(2)?,
        label: row.get(3)?,
        state: row.get(4)?,
        team: row.get(5)?,
        due_at: maybe_time(row, 6)?,
        told: row.get(7)?,
        body: row.get(8)?,
    })
}

const ACTION_COLUMNS: &str = "module, record, id, label, state, team, due_at, told, body";

fn delivery_row(row: &Row) -> rusqlite::Result<DeliveryRow> {
    let state: String = row.get(3)?;
    Ok(DeliveryRow {
        number: row.get::<_, i64>(0)? as u64,
        alert: row.get(1)?,
        type_: row.get(2)?,
        state: DeliveryState::named(&state).unwrap_or(DeliveryState::Dead),
        attempts: row.get(4)?,
        next_at: time(row, 5)?,
        status: row.get(6)?,
        error: row.get(7)?,
        changed_at: time(row, 8)?,
    })
}

fn settle(connection: &mut Connection, attempts: &[Settled]) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for attempt in attempts {
        // One that was deleted meanwhile, by an erasure or with its webhook, stays away.
        transaction
            .prepare_cached(
                "UPDATE deliveries SET state = ?4, attempts = attempts + 1, next_at = ?5, status = ?6, error = ?7,
                   changed_at = ?8
                 WHERE tenant = ?1 AND webhook = ?2 AND alert = ?3",
            )?
            .execute(params![
                &*attempt.tenant.0,
                attempt.webhook,
                attempt.alert,
                attempt.state.name(),
                sortable(attempt.next_at),
                attempt.status,
                attempt.error,
                sortable(attempt.at)
            ])?;
    }
    Ok(transaction.commit()?)
}

impl Outbox for SqliteStore {
    fn put_alerts(&self, alerts: Vec<NewAlert>) -> Result<usize, StoreError> {
        self.writer.run(move |connection| {
            let transaction = connection.transaction()?;
            let mut new = 0;
            for alert in &alerts {
                new += usize::from(put_alert(&transaction, alert)?);
            }
            transaction.commit()?;
            Ok(new)
        })
    }

    fn alerts(&self, tenant: &Tenant, filter: &AlertFilter) -> Result<Vec<AlertRow>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT number, id, body FROM alerts
                 WHERE tenant = ?1 AND (?2 IS NULL OR (module = ?2 AND record = ?3)) AND (?4 IS NULL OR rule = ?4)
                   AND (?5 IS NULL OR team = ?5) AND (?6 IS NULL OR number < ?6)
                 ORDER BY number DESC LIMIT ?7",
            )?;
            let record = filter.record.as_ref();
            let rows = statement.query_map(
                params![
                    &*tenant.0,
                    record.map(|r| &r.module),
                    record.map(|r| &r.id),
                    filter.rule,
                    filter.team,
                    filter.before.map(|n| n as i64),
                    filter.limit as i64
                ],
                |row| Ok(AlertRow { number: row.get::<_, i64>(0)? as u64, id: row.get(1)?, body: row.get(2)? }),
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn alert_counts(
        &self,
        tenant: &Tenant,
        team: Option<&str>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<AlertCount>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT rule, label, severity, count(*) FROM alerts
                 WHERE tenant = ?1 AND record IS NOT NULL AND team IS ?2 AND at >= ?3 AND at < ?4
                 GROUP BY rule, label, severity ORDER BY rule, label, severity DESC",
            )?;
            let rows =
                statement.query_map(params![&*tenant.0, team, sortable(from), sortable(to)], |row| {
                    Ok(AlertCount {
                        rule: row.get(0)?,
                        label: row.get(1)?,
                        severity: row.get(2)?,
                        count: row.get::<_, i64>(3)? as u64,
                    })
                })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn put_webhook(&self, tenant: &Tenant, webhook: &WebhookRow) -> Result<(), StoreError> {
        let (tenant, webhook) = (tenant.clone(), webhook.clone());
        self.writer.run(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO webhooks VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (tenant, id) DO UPDATE
                     SET enabled = excluded.enabled, types = excluded.types, teams = excluded.teams, body = excluded.body",
                )?
                .execute(params![
                    &*tenant.0,
                    webhook.id,
                    webhook.enabled,
                    list(&webhook.types)?,
                    list(&webhook.teams)?,
                    webhook.body
                ])?;
            Ok(())
        })
    }

    fn webhooks(&self, tenant: Option<&Tenant>) -> Result<Vec<(Tenant, WebhookRow)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT tenant, id, enabled, types, teams, body FROM webhooks WHERE ?1 IS NULL OR tenant = ?1
                 ORDER BY tenant, id",
            )?;
            let rows = statement.query_map([tenant.map(|t| &*t.0)], |row| {
                let webhook = WebhookRow {
                    id: row.get(1)?,
                    enabled: row.get(2)?,
                    types: names(row, 3)?,
                    teams: names(row, 4)?,
                    body: row.get(5)?,
                };
                Ok((Tenant(row.get::<_, String>(0)?.into()), webhook))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn delete_webhook(&self, tenant: &Tenant, id: &str) -> Result<bool, StoreError> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        self.writer.run(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(
                "DELETE FROM deliveries WHERE tenant = ?1 AND webhook = ?2",
                params![&*tenant.0, id],
            )?;
            let gone = transaction
                .execute("DELETE FROM webhooks WHERE tenant = ?1 AND id = ?2", params![&*tenant.0, id])?;
            transaction.commit()?;
            Ok(gone > 0)
        })
    }

    fn pending(
        &self,
        tenant: &Tenant,
        webhook: &str,
        limit: usize,
    ) -> Result<Vec<PendingDelivery>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.alert, d.attempts, d.next_at, a.body FROM deliveries d JOIN alerts a USING (number)
                 WHERE d.tenant = ?1 AND d.webhook = ?2 AND d.state = 'pending' ORDER BY d.next_at, d.number LIMIT ?3",
            )?;
            let rows = statement.query_map(params![&*tenant.0, webhook, limit as i64], |row| {
                Ok(PendingDelivery {
                    alert: row.get(0)?,
                    attempts: row.get(1)?,
                    next_at: time(row, 2)?,
                    body: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn settle(&self, attempts: Vec<Settled>) -> Result<(), StoreError> {
        self.writer.run(move |connection| settle(connection, &attempts))
    }

    fn deliveries(
        &self,
        tenant: &Tenant,
        webhook: &str,
        state: Option<DeliveryState>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.number, d.alert, a.type, d.state, d.attempts, d.next_at, d.status, d.error, d.changed_at
                 FROM deliveries d JOIN alerts a USING (number)
                 WHERE d.tenant = ?1 AND d.webhook = ?2 AND (?3 IS NULL OR d.state = ?3) AND (?4 IS NULL OR d.number < ?4)
                 ORDER BY d.number DESC LIMIT ?5",
            )?;
            let rows = statement.query_map(
                params![&*tenant.0, webhook, state.map(|s| s.name()), before.map(|n| n as i64), limit as i64],
                delivery_row,
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn resend(&self, tenant: &Tenant, webhook: &str, alert: &str, at: Timestamp) -> Result<bool, StoreError> {
        let (tenant, webhook, alert) = (tenant.clone(), webhook.to_owned(), alert.to_owned());
        self.writer.run(move |connection| {
            let changed = connection.execute(
                "UPDATE deliveries SET state = 'pending', attempts = 0, next_at = ?4, changed_at = ?4
                 WHERE tenant = ?1 AND webhook = ?2 AND alert = ?3",
                params![&*tenant.0, webhook, alert, sortable(at)],
            )?;
            Ok(changed > 0)
        })
    }

    fn depth(&self) -> Result<Depth, StoreError> {
        self.read(|connection| {
            let (pending, oldest): (i64, Option<i64>) = connection
                .prepare_cached("SELECT count(*), min(number) FROM deliveries WHERE state = 'pending'")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let oldest = connection
                .prepare_cached("SELECT at FROM alerts WHERE number = ?1")?
                .query_row([oldest], |row| time(row, 0))
                .optional()?;
            Ok(Depth { pending: pending as u64, oldest })
        })
    }

    fn prune(&self, before: Timestamp) -> Result<usize, StoreError> {
        self.writer.run(move |connection| {
            let transaction = connection.transaction()?;
            let gone = transaction.execute(
                "DELETE FROM alerts WHERE at < ?1 AND NOT EXISTS
                   (SELECT 1 FROM deliveries d JOIN webhooks w ON w.tenant = d.tenant AND w.id = d.webhook
                    WHERE d.number = alerts.number AND d.state = 'pending' AND w.enabled = 1)",
                [sortable(before)],
            )?;
            if gone > 0 {
                transaction
                    .execute("DELETE FROM deliveries WHERE number NOT IN (SELECT number FROM alerts)", [])?;
            }
            transaction.commit()?;
            Ok(gone)
        })
    }

    fn action(&self, tenant: &Tenant, id: &str) -> Result<Option<ActionRow>, StoreError> {
        self.read(|connection| {
            let sql = format!("SELECT {ACTION_COLUMNS} FROM actions WHERE tenant = ?1 AND id = ?2");
            let mut statement = connection.prepare_cached(&sql)?;
            Ok(statement.query_row(params![&*tenant.0, id], action_row).optional()?)
        })
    }

    fn actions(&self, tenant: &Tenant, filter: &ActionFilter) -> Result<Vec<ActionRow>, StoreError> {
        self.read(|connection| {
            let sql = format!(
                "SELECT {ACTION_COLUMNS} FROM actions
                 WHERE tenant = ?1 AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR team = ?3)
                   AND (?4 IS NULL OR label = ?4) AND (?5 IS NULL OR due_at < ?5)
                   AND (?6 IS NULL OR (coalesce(due_at, '~'), id) > (?6, ?7))
                 ORDER BY coalesce(due_at, '~'), id LIMIT ?8"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let after = filter.after.as_ref();
            let rows = statement.query_map(
                params![
                    &*tenant.0,
                    filter.state,
                    filter.team,
                    filter.label,
                    filter.due_before.map(sortable),
                    after.map(|(due, _)| due.map_or_else(|| "~".into(), sortable)),
                    after.map(|(_, id)| id),
                    filter.limit as i64
                ],
                action_row,
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn action_counts(
        &self,
        tenant: &Tenant,
        team: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<ActionCount>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT state, label, count(*), sum(due_at IS NOT NULL AND due_at < ?3), sum(told = 0) FROM actions
                 WHERE tenant = ?1 AND team IS ?2 GROUP BY state, label ORDER BY state, label",
            )?;
            let rows = statement.query_map(params![&*tenant.0, team, sortable(now)], |row| {
                Ok(ActionCount {
                    state: row.get(0)?,
                    label: row.get(1)?,
                    count: row.get::<_, i64>(2)? as u64,
                    overdue: row.get::<_, i64>(3)? as u64,
                    untold: row.get::<_, i64>(4)? as u64,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

//! Digests in the file: one row per document, clustered in the order in which questions read them.

use rusqlite::{Connection, Transaction, params};

use super::super::*;
use super::{SqliteStore, reader, writer::sortable};

pub const TABLES: &str = "
-- What questions about many records read, each with the document of its etag.
CREATE TABLE digests (
  tenant TEXT NOT NULL, module TEXT NOT NULL, record TEXT NOT NULL, etag TEXT NOT NULL, labels TEXT NOT NULL,
  competitors TEXT NOT NULL, changed_at TEXT, body TEXT NOT NULL,
  PRIMARY KEY (tenant, module, record)
) STRICT, WITHOUT ROWID;
";

impl Digests for SqliteStore {
    fn put_digests(&self, digests: Vec<NewDigest>) -> Result<(), StoreError> {
        self.writer.run(move |connection| put(connection, &digests))
    }

    fn digests(
        &self,
        tenant: &Tenant,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<DigestRow>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT module, record, labels, body FROM digests
                 WHERE tenant = ?1 AND (module, record) > (?2, ?3) ORDER BY module, record LIMIT ?4",
            )?;
            let (module, id) = after.map_or(("", ""), |key| (key.module.as_str(), key.id.as_str()));
            let rows = statement.query_map(params![&*tenant.0, module, id, limit as i64], |row| {
                let labels: String = row.get(2)?;
                Ok(DigestRow {
                    key: RecordKey { module: row.get(0)?, id: row.get(1)? },
                    labels: serde_json::from_str(&labels).map_err(|e| {
                        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, e.into())
                    })?,
                    body: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    fn digest_states(
        &self,
        after: Option<&TenantRecord>,
        limit: usize,
    ) -> Result<Vec<(TenantRecord, bool)>, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT d.tenant, d.module, d.record, coalesce(g.etag = d.etag, 0)
                 FROM documents d LEFT JOIN digests g USING (tenant, module, record)
                 WHERE (d.tenant, d.module, d.record) > (?1, ?2, ?3)
                 ORDER BY d.tenant, d.module, d.record LIMIT ?4",
            )?;
            let (tenant, module, id) = reader::first_after(after);
            let rows = statement.query_map(params![tenant, module, id, limit as i64], |row| {
                Ok((reader::tenant_record(row, 0)?, row.get(3)?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

fn put(connection: &mut Connection, digests: &[NewDigest]) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for digest in digests {
        let (tenant, record) = &digest.record;
        let competitors = serde_json::to_string(&digest.competitors)
            .map_err(|e| StoreError::Corrupt { what: "competitors", why: e.to_string() })?;
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO digests
                 SELECT tenant, module, record, etag, labels, ?5, ?6, ?7 FROM documents
                 WHERE tenant = ?1 AND module = ?2 AND record = ?3 AND etag = ?4",
            )?
            .execute(params![
                &*tenant.0,
                record.module,
                record.id,
                &*digest.etag,
                competitors,
                digest.changed_at.map(sortable),
                digest.body
            ])?;
    }
    Ok(transaction.commit()?)
}

/// Takes away the digest of a record whose document goes, or has lost an interaction for good.
pub fn remove(transaction: &Transaction, tenant: &Tenant, record: &RecordKey) -> Result<(), StoreError> {
    transaction
        .prepare_cached("DELETE FROM digests WHERE tenant = ?1 AND module = ?2 AND record = ?3")?
        .execute(params![&*tenant.0, record.module, record.id])?;
    Ok(())
}

//! Digests of records for questions about many: the part of a store's contract behind [`super::Store::digests`].
//!
//! A digest goes with one version of a document. It is written beside the documents, a little later, and leaves with
//! them. What a digest says is insight's business.

use std::sync::Arc;

use jiff::Timestamp;

use super::{StoreError, TenantRecord};
use crate::{insight::event::RecordKey, pipeline::Tenant};

/// A digest to keep. It is dropped where the document is another one by now, or gone.
#[derive(Clone, Debug)]
pub struct NewDigest {
    pub record: TenantRecord,
    /// Of the document that it goes with.
    pub etag: Arc<str>,
    /// When that document was brought up to date.
    pub changed_at: Option<Timestamp>,
    /// Names of the competitors in it.
    pub competitors: Vec<String>,
    /// The digest as JSON.
    pub body: String,
}

/// A digest as questions read it.
#[derive(Clone, Debug, PartialEq)]
pub struct DigestRow {
    pub key: RecordKey,
    /// Ids of the labels that were active in the document.
    pub labels: Vec<String>,
    pub body: String,
}

/// Calls block, as those of the store do.
pub trait Digests {
    fn put_digests(&self, digests: Vec<NewDigest>) -> Result<(), StoreError>;

    /// Digests of a tenant in order of their records, after `after`.
    fn digests(
        &self,
        tenant: &Tenant,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<DigestRow>, StoreError>;

    /// Documents in order after `after`, and whether the digest of each goes with it.
    fn digest_states(
        &self,
        after: Option<&TenantRecord>,
        limit: usize,
    ) -> Result<Vec<(TenantRecord, bool)>, StoreError>;
}

//! When a document was brought up to date, as it says itself: the two members of `meta` that are no part of its content.
//!
//! They stand near the beginning of the bytes and are read and put there, so that a document is written as JSON once.

use std::ops::Range;

use jiff::Timestamp;

use crate::insight::document::Document;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    pub as_of: Option<Timestamp>,
    pub lag_ms: Option<u64>,
}

const AS_OF: &[u8] = b"\"as_of\":";
const LAG_MS: &[u8] = b",\"lag_ms\":";

/// Where the values of both stand. In a JSON text the names with their quotes cannot be part of a string: there the
/// quotes would be escaped. `None` for bytes that are no document.
fn places(bytes: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let from = bytes.windows(AS_OF.len()).position(|part| part == AS_OF)? + AS_OF.len();
    let value = |from: usize| Some(from..from + bytes[from..].iter().position(|byte| *byte == b',')?);
    let as_of = value(from)?;
    let rest = as_of.end + LAG_MS.len();
    if bytes.get(as_of.end..rest)? != LAG_MS {
        return None;
    }
    let lag_ms = value(rest)?;
    Some((as_of, lag_ms))
}

impl Stamps {
    /// The stamps of a document's bytes; none where there are none.
    pub fn read(bytes: &[u8]) -> Stamps {
        let Some((as_of, lag_ms)) = places(bytes) else { return Stamps::default() };
        Stamps {
            as_of: serde_json::from_slice(&bytes[as_of]).unwrap_or_default(),
            lag_ms: serde_json::from_slice(&bytes[lag_ms]).unwrap_or_default(),
        }
    }

    pub fn put(self, document: &mut Document) {
        document.meta.as_of = self.as_of;
        document.meta.lag_ms = self.lag_ms;
    }

    /// The bytes of a document with these stamps in the place of its own.
    pub fn put_bytes(self, bytes: &[u8]) -> Vec<u8> {
        let Some((as_of, lag_ms)) = places(bytes) else { return bytes.to_vec() };
        let mut stamped = Vec::with_capacity(bytes.len() + 64);
        stamped.extend_from_slice(&bytes[..as_of.start]);
        // Neither can fail: a time and a number.
        stamped.extend(serde_json::to_vec(&self.as_of).unwrap_or_default());
        stamped.extend_from_slice(LAG_MS);
        stamped.extend(serde_json::to_vec(&self.lag_ms).unwrap_or_default());
        stamped.extend_from_slice(&bytes[lag_ms.end..]);
        stamped
    }
}

/// Whether two documents say the same, whatever their stamps.
pub fn same_content(a: &[u8], b: &[u8]) -> bool {
    match (places(a), places(b)) {
        (Some((as_of_a, lag_a)), Some((as_of_b, lag_b))) => {
            a[..as_of_a.start] == b[..as_of_b.start] && a[lag_a.end..] == b[lag_b.end..]
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_stamped_as_documents_are() {
        let mut document = Document::default();
        document.record.id = "\"as_of\":1,\"lag_ms\":2,".into();
        let plain = document.to_bytes();
        assert_eq!(Stamps::read(&plain), Stamps::default());
        let stamps = Stamps { as_of: Some("2026-03-02T12:00:00.25Z".parse().unwrap()), lag_ms: Some(1234) };
        stamps.put(&mut document);
        let stamped = document.to_bytes();
        assert_eq!(Stamps::read(&stamped), stamps);
        assert_eq!(stamps.put_bytes(&plain), stamped);
        assert_eq!(Stamps::default().put_bytes(&stamped), plain);
        assert!(same_content(&plain, &stamped));
        document.meta.revision = 7;
        assert!(!same_content(&plain, &document.to_bytes()));
        document.meta.revision = 0;
        document.links.self_ = "x".into();
        assert!(!same_content(&plain, &document.to_bytes()));
        assert_eq!(Stamps::read(b"{}"), Stamps::default());
        assert!(same_content(b"{}", b"{}") && !same_content(b"{}", &plain));
    }
}

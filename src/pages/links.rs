//! Addresses of pages. Whatever comes from a customer or a CRM is percent-encoded here, and nowhere else.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::insight::event::RecordKey;

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The page of a record.
pub fn record(key: &RecordKey) -> String {
    format!("/records/{}/{}", encode(&key.module), encode(&key.id))
}

/// The page with the interactions behind a number; `item` as [`crate::pipeline::Pipeline::evidence`] takes it.
pub fn evidence(key: &RecordKey, panel: &str, item: Option<&str>) -> String {
    query(&format!("{}/evidence", record(key)), &[("panel", Some(panel)), ("key", item)])
}

/// `path` with those of the parameters that have a value.
pub fn query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut address = path.to_owned();
    let mut separator = '?';
    for (name, value) in parameters {
        if let Some(value) = value {
            address.push(separator);
            address.push_str(name);
            address.push('=');
            address.push_str(&encode(value));
            separator = '&';
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_ids_and_keywords_stay_inside_their_place() {
        let key = RecordKey { module: "contact".into(), id: "../a?b#c".into() };
        assert_eq!(record(&key), "/records/contact/..%2Fa%3Fb%23c");
        let address = evidence(&key, "keywords", Some("a&panel=x \"قطع\""));
        assert_eq!(
            address,
            "/records/contact/..%2Fa%3Fb%23c/evidence?panel=keywords&key=a%26panel%3Dx%20%22%D9%82%D8%B7%D8%B9%22"
        );
    }

    #[test]
    fn parameters_without_a_value_are_left_out() {
        assert_eq!(query("/", &[("q", None), ("label", Some("x")), ("cursor", None)]), "/?label=x");
        assert_eq!(query("/", &[("q", None)]), "/");
    }
}

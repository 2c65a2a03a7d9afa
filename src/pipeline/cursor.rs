//! Opaque cursors: where a list goes on, as JSON in hexadecimal digits.

use serde::{Serialize, de::DeserializeOwned};

use super::PipelineError;

pub fn encode(place: &impl Serialize) -> String {
    // Cannot fail: places are tuples of strings and numbers.
    let json = serde_json::to_vec(place).unwrap_or_default();
    json.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn decode<T: DeserializeOwned>(cursor: &str) -> Result<T, PipelineError> {
    let bytes: Option<Vec<u8>> = cursor
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    bytes
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| PipelineError::Query(format!("cursor {cursor:?} is not one that this list gave out")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_there_and_back() {
        let place = ("2026-03-01T00:00:00Z".to_owned(), 7_u64);
        assert_eq!(decode::<(String, u64)>(&encode(&place)).unwrap(), place);
        for bad in ["", "zz", "7b", "é", "5b315d"] {
            assert!(decode::<(String, u64)>(bad).is_err(), "{bad:?}");
        }
    }
}

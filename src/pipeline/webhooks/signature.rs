//! Signatures of webhooks, as Standard Webhooks 1.0 defines them: HMAC-SHA256 over `id.timestamp.body`.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret: as few and as many as the standard allows, and as many as are made here.
const SECRET_BYTES_MIN: usize = 24;
const SECRET_BYTES_MAX: usize = 64;
const SECRET_BYTES: usize = 32;

/// A new secret of the system's random numbers; an error where it has none.
pub fn new_secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", BASE64_STANDARD.encode(bytes)))
}

/// The key in a secret, or why it is none.
pub fn key(secret: &str) -> Result<Vec<u8>, String> {
    let form =
        || format!("a secret is {PREFIX} and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in base64");
    let encoded = secret.strip_prefix(PREFIX).ok_or_else(form)?;
    let key = BASE64_STANDARD.decode(encoded).map_err(|_| form())?;
    if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&key.len()) { Ok(key) } else { Err(form()) }
}

/// The header `webhook-signature`: one signature for each secret, so that a receiver may know either.
pub fn header(secrets: &[&str], id: &str, timestamp: i64, body: &str) -> Result<String, String> {
    let signed = format!("{id}.{timestamp}.{body}");
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key(secret)?).map_err(|e| e.to_string())?;
            mac.update(signed.as_bytes());
            Ok(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
        })
        .collect::<Result<_, String>>()?;
    Ok(signatures.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector of the standard's reference libraries.
    #[test]
    fn signs_as_the_reference_does() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = r#"{"test": 2432232314}"#;
        let signature = header(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = header(&[secret, &new_secret().unwrap()], "a", 1, "b").unwrap();
        assert_eq!(both.split(' ').filter(|s| s.starts_with("v1,")).count(), 2);
    }

    #[test]
    fn secrets_are_of_one_form() {
        assert_eq!(key(&new_secret().unwrap()).unwrap().len(), SECRET_BYTES);
        for bad in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_aGk=", "whsec_%%%"] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }
}

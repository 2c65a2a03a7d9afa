//! Who calls: API keys, their scopes and their tenant.
//!
//! A handler names the scope that it needs in the type of its first parameter, `Caller<scope::Ingest>`, so that no
//! route can forget to ask, and nothing of a body is read before the key is known to be good.

use std::{marker::PhantomData, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, Method, header, request::Parts},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

use super::{
    AppState,
    problem::{self, Problem},
};
use crate::{
    config::{ApiKey, Scope},
    pipeline::Tenant,
};

/// The scopes, as types.
pub mod scope {
    use crate::config;

    /// A scope that a handler needs; `None` means any good key.
    pub trait Needed: Send + Sync + 'static {
        const SCOPE: Option<config::Scope>;
    }

    macro_rules! needed {
        ($($name:ident = $scope:expr;)*) => {
            $(pub struct $name;
            impl Needed for $name {
                const SCOPE: Option<config::Scope> = $scope;
            })*
        };
    }

    needed! {
        Any = None;
        Score = Some(config::Scope::Score);
        Ingest = Some(config::Scope::Ingest);
        InsightsRead = Some(config::Scope::InsightsRead);
        ModelsAdmin = Some(config::Scope::ModelsAdmin);
        Admin = Some(config::Scope::Admin);
    }
}

/// The caller of a request, known to have the scope `S`.
pub struct Caller<S> {
    pub tenant: Tenant,
    _scope: PhantomData<S>,
}

impl<S: scope::Needed> FromRequestParts<AppState> for Caller<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let tenant = state.keys.admit(&parts.method, &parts.headers, S::SCOPE)?;
        Ok(Caller { tenant, _scope: PhantomData })
    }
}

impl<S> From<Caller<S>> for Tenant {
    fn from(caller: Caller<S>) -> Tenant {
        caller.tenant
    }
}

/// The keys of the configuration, as digests.
pub struct Keys(Vec<Key>);

struct Key {
    digest: [u8; 32],
    tenant: Tenant,
    scopes: Vec<Scope>,
}

impl Keys {
    pub fn new(keys: &[ApiKey]) -> Keys {
        let key = |k: &ApiKey| Key {
            digest: Sha256::digest(&k.key).into(),
            tenant: Tenant(Arc::from(k.tenant.as_str())),
            scopes: k.scopes.clone(),
        };
        Keys(keys.iter().map(key).collect())
    }

    /// The tenant of a caller who may do what needs `scope`. Without keys everybody may do everything.
    fn admit(&self, method: &Method, headers: &HeaderMap, scope: Option<Scope>) -> Result<Tenant, Problem> {
        if self.0.is_empty() {
            return Ok(Tenant::default());
        }
        let Some(given) = bearer(headers).or_else(|| basic(method, headers)) else {
            return Err(unauthorized(headers, "this server needs an API key: Authorization: Bearer KEY"));
        };
        let key = self.find(&given).ok_or_else(|| unauthorized(headers, "the API key is not known"))?;
        match scope {
            Some(scope) if !key.scopes.contains(&scope) && !key.scopes.contains(&Scope::Admin) => {
                let detail = format!("the key does not have the scope {:?}", scope.name());
                Err(Problem::new(problem::FORBIDDEN, detail))
            }
            _ => Ok(key.tenant.clone()),
        }
    }

    /// Compares digests, all of them to their end: how long it takes says nothing about any key.
    fn find(&self, given: &str) -> Option<&Key> {
        let digest: [u8; 32] = Sha256::digest(given).into();
        let mut found = None;
        for key in &self.0 {
            let difference = key.digest.iter().zip(digest).fold(0u8, |sum, (a, b)| sum | (a ^ b));
            if difference == 0 {
                found = Some(key);
            }
        }
        found
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    credentials(headers, "bearer").map(str::to_owned)
}

/// The key as the password of a browser's sign-in, for reading only: a browser sends it along with whatever another
/// site makes it ask for.
fn basic(method: &Method, headers: &HeaderMap) -> Option<String> {
    if !method.is_safe() {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(credentials(headers, "basic")?).ok()?;
    let (_name, key) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(key.to_owned())
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// A browser is asked to sign in; any other client is told of the header.
fn unauthorized(headers: &HeaderMap, detail: &str) -> Problem {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let challenge = if accept.contains("text/html") {
        "Basic realm=\"hearken: the API key is the password\""
    } else {
        "Bearer realm=\"hearken\""
    };
    Problem::new(problem::UNAUTHORIZED, detail)
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let key = |key: &str, tenant: &str, scopes: &[Scope]| ApiKey {
            key: key.into(),
            tenant: tenant.into(),
            scopes: scopes.to_vec(),
        };
        Keys::new(&[key("reader", "a", &[Scope::InsightsRead]), key("chief", "b", &[Scope::Admin])])
    }

    fn status(authorization: Option<&str>, scope: Option<Scope>) -> Result<String, u16> {
        status_of(&Method::GET, authorization, scope)
    }

    fn status_of(method: &Method, authorization: Option<&str>, scope: Option<Scope>) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        keys().admit(method, &headers, scope).map(|t| t.0.to_string()).map_err(|p| p.status().as_u16())
    }

    #[test]
    fn a_key_opens_what_its_scopes_say() {
        assert_eq!(status(Some("Bearer reader"), Some(Scope::InsightsRead)), Ok("a".into()));
        assert_eq!(status(Some("bearer reader"), None), Ok("a".into()));
        assert_eq!(status(Some("Bearer reader"), Some(Scope::Ingest)), Err(403));
        assert_eq!(status(Some("Bearer chief"), Some(Scope::Ingest)), Ok("b".into()));
    }

    #[test]
    fn without_a_good_key_nothing_opens() {
        for authorization in [
            None,
            Some("Bearer readerx"),
            Some("Bearer "),
            Some("Basic cmVhZGVy"),
            Some("Basic %"),
            Some("reader"),
        ] {
            assert_eq!(status(authorization, None), Err(401), "{authorization:?}");
        }
    }

    #[test]
    fn a_browser_signs_in_with_the_key_as_password_to_read() {
        let x_reader = Some("Basic eDpyZWFkZXI=");
        assert_eq!(status_of(&Method::GET, x_reader, None), Ok("a".into()));
        assert_eq!(status_of(&Method::POST, x_reader, None), Err(401));
    }
}

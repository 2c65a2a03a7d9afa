//! The shapes of other servers, so that their clients work unchanged.

pub mod tei;

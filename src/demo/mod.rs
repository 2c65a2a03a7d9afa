//! A bundled multilingual history, so that a fresh machine shows what hearken does.

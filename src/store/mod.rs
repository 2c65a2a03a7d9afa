//! Where events, scores and documents are kept: one trait, one file per backend.

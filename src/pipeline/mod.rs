//! Moves data between the rooms: ingest, score, apply, verify.

//! Server-rendered pages over what the pipeline serves; no data access of its own.

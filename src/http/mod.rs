//! The public HTTP API: one file per family of routes, problems, limits and the OpenAPI document.

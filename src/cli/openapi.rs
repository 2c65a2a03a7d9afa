//! `hearken openapi`: prints the schema of the HTTP API.

use std::process::ExitCode;

pub fn run() -> anyhow::Result<ExitCode> {
    print!("{}", crate::http::openapi::text());
    Ok(ExitCode::SUCCESS)
}

//! Lists as files: CSV and JSON lines beside JSON, chosen by `format`.

use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    layers::bytes_response,
    problem::{self, Problem},
};

/// How a list is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Json,
    /// Comma-separated values, RFC 4180, with a header row, in UTF-8.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl Format {
    /// The media type of a file in this format.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Jsonl => "application/x-ndjson",
        }
    }
}

/// Rows of text, as CSV. Spreadsheets take a cell that begins like a formula for one, so such a text gets a quote before
/// it (OWASP, "CSV Injection"); numbers are left as they are.
pub struct Csv(csv::Writer<Vec<u8>>);

impl Csv {
    /// With a header row.
    pub fn new(head: &[&str]) -> Result<Csv, Problem> {
        let mut csv = Csv::without_head();
        csv.row(head.iter().map(|name| (*name).to_owned()))?;
        Ok(csv)
    }

    /// For the rows after the first part of a file.
    pub fn without_head() -> Csv {
        Csv(csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new()))
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) -> Result<(), Problem> {
        let cells = cells.into_iter().map(harmless);
        self.0.write_record(cells).map_err(|error| failed(&error.to_string()))
    }

    pub fn finish(self) -> Result<Vec<u8>, Problem> {
        self.0.into_inner().map_err(|error| failed(&error.to_string()))
    }

    /// The whole table as an answer.
    pub fn response(self) -> Result<Response, Problem> {
        Ok(bytes_response(Format::Csv.media_type(), self.finish()?).into_response())
    }
}

fn failed(why: &str) -> Problem {
    Problem::new(problem::INTERNAL, format!("the table could not be written: {why}"))
}

fn harmless(cell: String) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if formula && cell.parse::<f64>().is_err() { format!("'{cell}") } else { cell }
}

/// A number or nothing, as a cell.
pub fn cell(value: Option<impl ToString>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_needed_and_never_become_formulas() {
        let mut csv = Csv::new(&["id", "net"]).unwrap();
        csv.row(["=1+1".into(), "-0.5".into()]).unwrap();
        csv.row(["a, \"b\"".into(), cell(None::<f64>)]).unwrap();
        let text = String::from_utf8(csv.finish().unwrap()).unwrap();
        assert_eq!(text, "id,net\r\n'=1+1,-0.5\r\n\"a, \"\"b\"\"\",\r\n");
    }
}

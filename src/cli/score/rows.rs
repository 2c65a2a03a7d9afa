//! The rows of a file: CSV and TSV by header, JSON lines, or one text a line. Nothing is held but the row at hand.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, bail};
use serde_json::{Map, Value, value::RawValue};

use super::Format;

/// One text and what stands beside it.
#[derive(Debug)]
pub struct Row {
    pub id: Option<Box<RawValue>>,
    /// The text, or why there is none.
    pub text: Result<String, String>,
    /// The other columns or fields.
    pub others: Map<String, Value>,
}

/// Iterates over the rows of a file.
pub enum Rows<R: Read> {
    Separated {
        records: csv::ByteRecordsIntoIter<BufReader<R>>,
        header: Vec<String>,
        text: usize,
        id: Option<usize>,
    },
    Lines {
        lines: Lines<R>,
        column: String,
        json: bool,
    },
}

impl<R: Read> Rows<R> {
    /// `format` where it is known; else the first character decides between JSON lines and plain ones.
    pub fn new(input: R, format: Option<Format>, column: &str) -> anyhow::Result<Rows<R>> {
        let mut input = BufReader::new(input);
        let format = match format {
            Some(format) => format,
            None if first_character(&mut input)? == Some(b'{') => Format::Jsonl,
            None => Format::Text,
        };
        let delimiter = match format {
            Format::Csv => b',',
            Format::Tsv => b'\t',
            Format::Jsonl | Format::Text => {
                let lines = Lines { input, first: true };
                return Ok(Rows::Lines { lines, column: column.to_owned(), json: format == Format::Jsonl });
            }
        };
        let mut reader = csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_reader(input);
        let header: Vec<String> = reader
            .byte_headers()
            .context("cannot read the header")?
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        let Some(text) = header.iter().position(|name| name == column) else {
            bail!("there is no column {column:?}; there are {}. Name yours with --column", header.join(", "));
        };
        let id = header.iter().position(|name| name == "id");
        Ok(Rows::Separated { records: reader.into_byte_records(), header, text, id })
    }
}

fn first_character<R: Read>(input: &mut BufReader<R>) -> anyhow::Result<Option<u8>> {
    let start = input.fill_buf().context("cannot read the input")?;
    let start = start.strip_prefix(BOM).unwrap_or(start);
    Ok(start.iter().copied().find(|b| !b.is_ascii_whitespace()))
}

/// The byte order mark that some editors put before UTF-8.
const BOM: &[u8] = b"\xEF\xBB\xBF";

impl<R: Read> Iterator for Rows<R> {
    type Item = anyhow::Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Rows::Separated { records, header, text, id } => {
                let record = records.next()?.context("cannot read the input");
                Some(record.map(|record| separated(&record, header, *text, *id)))
            }
            Rows::Lines { lines, column, json } => loop {
                match lines.next()? {
                    Ok(line) if *json && line.trim_ascii().is_empty() => {}
                    Ok(line) if *json => return Some(Ok(json_row(&line, column))),
                    Ok(line) => return Some(Ok(Row { id: None, text: utf8(&line), others: Map::new() })),
                    Err(error) => return Some(Err(error)),
                }
            },
        }
    }
}

/// Lines without their ends, whatever bytes they hold.
pub struct Lines<R: Read> {
    input: BufReader<R>,
    first: bool,
}

impl<R: Read> Iterator for Lines<R> {
    type Item = anyhow::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line).context("cannot read the input") {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(error)),
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if std::mem::take(&mut self.first) && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        Some(Ok(line))
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|e| format!("the text is not UTF-8: byte {} does not belong there", e.valid_up_to()))
}

fn separated(record: &csv::ByteRecord, header: &[String], text: usize, id: Option<usize>) -> Row {
    let cell = |column: usize| record.get(column).map(|c| String::from_utf8_lossy(c).into_owned());
    let others = header
        .iter()
        .enumerate()
        .filter(|(column, _)| *column != text && Some(*column) != id)
        .filter_map(|(column, name)| Some((name.clone(), Value::String(cell(column)?))))
        .collect();
    Row {
        id: id.and_then(cell).filter(|id| !id.is_empty()).and_then(|id| raw(&Value::String(id))),
        text: match record.get(text) {
            Some(text) => utf8(text),
            None => Err("the row ends before the text".into()),
        },
        others,
    }
}

fn json_row(line: &[u8], column: &str) -> Row {
    let broken = |detail: String| Row { id: None, text: Err(detail), others: Map::new() };
    let line = match utf8(line) {
        Ok(line) => line,
        Err(detail) => return broken(detail),
    };
    match serde_json::from_str::<Value>(&line) {
        Err(error) => broken(format!("the line is not JSON: {error}")),
        Ok(Value::String(text)) => Row { id: None, text: Ok(text), others: Map::new() },
        Ok(Value::Object(mut fields)) => {
            let text = match fields.shift_remove(column) {
                Some(Value::String(text)) => Ok(text),
                Some(_) => Err(format!("the field {column:?} is not a text")),
                None => Err(format!("there is no field {column:?}")),
            };
            let id = fields.shift_remove("id").filter(|id| !id.is_null()).and_then(|id| raw(&id));
            Row { id, text, others: fields }
        }
        Ok(_) => broken("the line is neither an object nor a text".into()),
    }
}

fn raw(value: &Value) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(input: &[u8], format: Option<Format>) -> Vec<(Option<String>, Result<String, String>, String)> {
        let shown = |row: Row| {
            let others = Value::Object(row.others).to_string();
            (row.id.map(|id| id.get().to_owned()), row.text, others)
        };
        Rows::new(input, format, "text").unwrap().map(|row| shown(row.unwrap())).collect()
    }

    #[test]
    fn csv_keeps_other_columns_and_survives_bad_bytes_and_short_rows() {
        let found = rows(b"id,text,channel\n1,\"a,\nb\",email\n2,\xff,chat\n3\n", Some(Format::Csv));
        assert_eq!(found[0], (Some("\"1\"".into()), Ok("a,\nb".into()), r#"{"channel":"email"}"#.into()));
        assert!(found[1].1.as_ref().unwrap_err().contains("not UTF-8") && found[1].2.contains("chat"));
        assert!(found[2].1.as_ref().unwrap_err().contains("ends before"));
    }

    #[test]
    fn json_lines_are_told_by_their_first_character() {
        let found = rows(b"\xEF\xBB\xBF{\"text\":\"a\",\"id\":7,\"n\":1}\n\n{\"t\":1}\n[\n\"b\"", None);
        assert_eq!(found[0], (Some("7".into()), Ok("a".into()), r#"{"n":1}"#.into()));
        assert!(found[1].1.as_ref().unwrap_err().contains("no field"));
        assert!(found[2].1.as_ref().unwrap_err().contains("not JSON"));
        assert_eq!(found[3].1, Ok("b".into()));
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn plain_lines_are_one_text_each_blank_ones_too() {
        let found = rows(b"one\r\n\nthree\xff\n", None);
        assert_eq!(found[0].1, Ok("one".into()));
        assert_eq!(found[1].1, Ok("".into()));
        assert!(found[2].1.is_err());
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_are_there() {
        let error = Rows::new(&b"a,b\n1,2\n"[..], Some(Format::Csv), "text").err().unwrap().to_string();
        assert!(error.contains("a, b"), "{error}");
    }
}

//! Where `hearken score` writes: a JSON line per row, and a file that can be gone on with.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::http::score::ScoreResult;

/// One line: the result, and what stood beside the text.
#[derive(Serialize)]
pub struct Line {
    #[serde(flatten)]
    result: ScoreResult,
    #[serde(flatten)]
    others: Map<String, Value>,
    /// Other columns whose names are those of a result.
    #[serde(skip_serializing_if = "Map::is_empty")]
    input: Map<String, Value>,
}

/// Names that a line has of its own.
const OWN: &[&str] = &[
    "id",
    "language",
    "tokens",
    "truncated",
    "sentiment",
    "intent",
    "keyphrases",
    "emotion",
    "error",
    "input",
];

impl Line {
    pub fn new(result: ScoreResult, others: Map<String, Value>) -> Line {
        let (input, others) = others.into_iter().partition(|(name, _)| OWN.contains(&name.as_str()));
        Line { result, others, input }
    }
}

pub struct Output {
    writer: Box<dyn Write>,
    lines: usize,
    failed: usize,
}

impl Output {
    /// Standard output, or a file. One that holds something is not overwritten unless `force` says so; `resume` cuts off
    /// a last line that is not whole and goes on after it.
    pub fn open(path: Option<&Path>, resume: bool, force: bool) -> anyhow::Result<Output> {
        let Some(path) = path else {
            return Ok(Output { writer: Box::new(BufWriter::new(std::io::stdout())), lines: 0, failed: 0 });
        };
        let holds = std::fs::metadata(path).is_ok_and(|m| m.len() > 0);
        if holds && !resume && !force {
            bail!(
                "{} holds something already: --resume goes on with it, --force replaces it",
                path.display()
            );
        }
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let mut file = opened.with_context(|| format!("cannot write {}", path.display()))?;
        let (lines, bytes) = if resume { whole_lines(&file)? } else { (0, 0) };
        file.set_len(bytes)?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(bytes))?;
        Ok(Output { writer: Box::new(BufWriter::new(file)), lines, failed: 0 })
    }

    /// Lines in the file, those of earlier runs included.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Lines of this run without scores.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Writes whole batches, so that what is lost in an interruption is little and whole.
    pub fn write(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        for line in lines {
            serde_json::to_writer(&mut self.writer, line).context("cannot write the results")?;
            self.writer.write_all(b"\n").context("cannot write the results")?;
            self.lines += 1;
            self.failed += usize::from(matches!(line.result, ScoreResult::Failed { .. }));
        }
        self.finish()
    }

    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.writer.flush().context("cannot write the results")
    }
}

/// Number and bytes of the lines that have their end.
fn whole_lines(file: &File) -> anyhow::Result<(usize, u64)> {
    let mut reader = BufReader::new(file);
    let (mut lines, mut bytes, mut line) = (0, 0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok((lines, bytes));
        }
        lines += 1;
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_are_called_like_a_result_are_kept_apart() {
        let others = serde_json::json!({"language": "fr", "channel": "email"});
        let Value::Object(others) = others else { unreachable!() };
        let error = crate::http::problem::Problem::new(crate::http::problem::INVALID_INPUT, "no").into_body();
        let line = serde_json::to_value(Line::new(ScoreResult::Failed { id: None, error }, others)).unwrap();
        assert_eq!(line["channel"], "email");
        assert_eq!(line["input"]["language"], "fr");
        assert_eq!(line["error"]["status"], 422);
        assert!(line.get("language").is_none());
    }
}

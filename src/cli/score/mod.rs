//! `hearken score`: scores the texts of a file, as `POST /v1/score` would, one JSON line each, in order.
//!
//! Nothing stops in the middle: a row without a usable text gets a line with an `error`. What was interrupted goes on
//! with `--resume`.

mod output;
mod rows;

use std::{
    fs::File,
    io::{BufReader, IsTerminal, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};

use super::model_flags::ModelFlags;
use crate::{
    engine::{Engine, Lane, ScoreOptions},
    http::score::{Input, Task, results, tasks_of},
};
use output::{Line, Output};
use rows::{Row, Rows};

/// Score the texts of a CSV, JSON-lines or text file
#[derive(Args)]
#[command(
    after_help = "Each row gives one JSON line, in order, as POST /v1/score answers it; other columns and fields are kept.

Examples:
  hearken score mails.csv --out scores.jsonl
  hearken score mails.csv --out scores.jsonl --resume     after an interruption
  hearken score tickets.jsonl --tasks sentiment,intent
  echo 'Great service!' | hearken score -"
)]
pub struct Arguments {
    /// File to read, or - for standard input: CSV or TSV with a header, JSON lines, or one text a line
    #[arg(default_value = "-")]
    file: PathBuf,

    /// What to score
    #[arg(long, value_delimiter = ',', default_value = "sentiment,intent,keyphrases,emotion")]
    tasks: Vec<TaskName>,

    /// File to write instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Go on after the last whole line of --out
    #[arg(long, requires = "out")]
    resume: bool,

    /// Replace what --out holds
    #[arg(long, requires = "out", conflicts_with = "resume")]
    force: bool,

    /// Kind of file [default: by its ending, or by its first character]
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Column or field that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    column: String,

    #[command(flatten)]
    model: ModelFlags,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TaskName {
    Sentiment,
    Intent,
    Keyphrases,
    Emotion,
}

impl From<TaskName> for Task {
    fn from(name: TaskName) -> Task {
        match name {
            TaskName::Sentiment => Task::Sentiment,
            TaskName::Intent => Task::Intent,
            TaskName::Keyphrases => Task::Keyphrases,
            TaskName::Emotion => Task::Emotion,
        }
    }
}

/// How a file holds its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Csv,
    Tsv,
    Jsonl,
    /// One text a line
    Text,
}

/// Rows that go to the engine at once.
const BATCH_ROWS: usize = 256;
/// Bytes of text after which a batch takes no more rows.
const BATCH_BYTES: usize = 256 << 10;
/// Batches under way: the next is cut into tokens while one goes through the model.
const BATCHES_IN_FLIGHT: usize = 3;

pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    super::logs::start("text", "warn");
    let mut output = Output::open(arguments.out.as_deref(), arguments.resume, arguments.force)?;
    let (input, bytes) = open(&arguments.file)?;
    let progress = progress(bytes);
    let rows = Rows::new(
        progress.wrap_read(input),
        arguments.format.or_else(|| by_ending(&arguments.file)),
        &arguments.column,
    )?;
    let (mut options, limits) = arguments.model.options()?;
    // What waits is bounded here, by batches, and must never be refused.
    options.queue_tokens_max = usize::MAX;
    let engine = Engine::open(&options).context("cannot load the models")?;
    let tasks: Vec<Task> = arguments.tasks.into_iter().map(Into::into).collect();
    let options = ScoreOptions { tasks: tasks_of(&tasks), lane: Lane::Bulk, deadline: None };

    let skipped = output.lines();
    let batches = Batches { rows: rows.skip(skipped), failed: false };
    tokio::runtime::Runtime::new().context("cannot start the async runtime")?.block_on(async {
        let scored = stream::iter(batches).map(|batch| {
            let (engine, options) = (engine.clone(), options.clone());
            async move { score(&engine, batch?, options, limits.text_bytes_max).await }
        });
        let mut scored = std::pin::pin!(scored.buffered(BATCHES_IN_FLIGHT));
        while let Some(lines) = scored.next().await {
            output.write(&lines?)?;
            progress.set_message(format!("{} texts", output.lines()));
        }
        anyhow::Ok(())
    })?;
    output.finish()?;
    progress.finish_and_clear();
    if progress_shown() {
        eprintln!("{} texts scored, {} without scores", output.lines() - skipped, output.failed());
    }
    Ok(ExitCode::SUCCESS)
}

fn open(file: &Path) -> anyhow::Result<(Box<dyn Read>, Option<u64>)> {
    if file == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let metadata = opened.metadata()?;
    if metadata.is_dir() {
        bail!("{} is a folder", file.display());
    }
    Ok((Box::new(BufReader::new(opened)), metadata.is_file().then_some(metadata.len())))
}

fn by_ending(file: &Path) -> Option<Format> {
    match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(Format::Csv),
        "tsv" | "tab" => Some(Format::Tsv),
        "jsonl" | "ndjson" | "json" => Some(Format::Jsonl),
        "txt" | "text" => Some(Format::Text),
        _ => None,
    }
}

fn progress_shown() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar over the bytes of the file, or a counter where their number is not known.
fn progress(bytes: Option<u64>) -> ProgressBar {
    if !progress_shown() {
        return ProgressBar::hidden();
    }
    let bar = match bytes {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::new_spinner(),
    };
    let template = match bytes {
        Some(_) => "{bar:40} {percent:>3} %  {msg}  {elapsed} gone, {eta} to go",
        None => "{spinner} {msg}  {elapsed} gone",
    };
    // Falls back to the usual look; the template is fixed and right.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Rows, in batches; ends after the first error.
struct Batches<I> {
    rows: I,
    failed: bool,
}

impl<I: Iterator<Item = anyhow::Result<Row>>> Iterator for Batches<I> {
    type Item = anyhow::Result<Vec<Row>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ROWS && bytes < BATCH_BYTES {
            match self.rows.next() {
                None => break,
                Some(Ok(row)) => {
                    bytes += row.text.as_ref().map_or(0, String::len);
                    batch.push(row);
                }
                Some(Err(error)) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        (!batch.is_empty()).then_some(Ok(batch))
    }
}

/// The lines for a batch.
async fn score(
    engine: &Engine,
    batch: Vec<Row>,
    options: ScoreOptions,
    text_bytes_max: usize,
) -> anyhow::Result<Vec<Line>> {
    let mut kept = Vec::with_capacity(batch.len());
    let inputs = batch.into_iter().map(|row| {
        kept.push(row.others);
        Input::new(row.id, row.text, text_bytes_max)
    });
    let inputs = inputs.collect();
    let scored = results(engine, inputs, options).await.map_err(|problem| anyhow!("{}", problem.detail()))?;
    Ok(scored.results.into_iter().zip(kept).map(|(result, others)| Line::new(result, others)).collect())
}

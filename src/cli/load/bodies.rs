//! What is sent: request bodies, made before the clock runs.
//!
//! The built-in texts are whole messages in 14 languages. How many sentences a message has is log-normal, as the length
//! of real customer messages is: most have one to three, a few fill pages.

use std::path::Path;

use anyhow::{Context, bail};
use axum::body::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Value, json, value::RawValue};

/// Sentences by language: a block for each, blocks apart by an empty line.
const SENTENCES: &str = include_str!("sentences.txt");

/// Different bodies that are sent in turn.
const BODIES: usize = 1024;
/// Texts of a file beyond this many are not read.
const TEXTS_MAX: usize = 100_000;

/// Log-normal number of sentences: the median is 2, one message in twenty has more than 10.
const SENTENCES_MU: f64 = 0.7;
const SENTENCES_SIGMA: f64 = 1.0;
const SENTENCES_MAX: f64 = 60.0;

pub struct Wanted<'a> {
    pub file: Option<&'a Path>,
    pub texts_per_request: usize,
    pub tasks: &'a [String],
    pub lane: &'a str,
    pub deadline_ms: Option<u64>,
    pub seed: u64,
}

/// Bodies of `POST /v1/score`, ready to send.
pub struct Bodies(Vec<Bytes>);

impl Bodies {
    pub fn new(wanted: &Wanted) -> anyhow::Result<Bodies> {
        let mut random = StdRng::seed_from_u64(wanted.seed);
        let mut texts: Box<dyn FnMut() -> String> = match wanted.file {
            Some(path) => {
                let texts = read(path)?;
                let mut next = 0;
                Box::new(move || {
                    next += 1;
                    texts[(next - 1) % texts.len()].clone()
                })
            }
            None => Box::new(move || message(&mut random)),
        };
        let mut options = json!({"lane": wanted.lane});
        if let Some(ms) = wanted.deadline_ms {
            options["deadline_ms"] = ms.into();
        }
        let bodies = (0..BODIES)
            .map(|_| {
                let inputs: Vec<String> = (0..wanted.texts_per_request).map(|_| texts()).collect();
                json!({"inputs": inputs, "tasks": wanted.tasks, "options": options}).to_string().into()
            })
            .collect();
        Ok(Bodies(bodies))
    }

    /// The body of the `i`-th request.
    pub fn get(&self, i: u64) -> Bytes {
        self.0[(i % self.0.len() as u64) as usize].clone()
    }
}

/// A message in one language.
fn message(random: &mut StdRng) -> String {
    let blocks: Vec<Vec<&str>> = SENTENCES.split("\n\n").map(|block| block.lines().collect()).collect();
    let block = &blocks[random.random_range(0..blocks.len())];
    let z: f64 = StandardNormal.sample(random);
    let count = (SENTENCES_MU + SENTENCES_SIGMA * z).exp();
    let first = random.random_range(0..block.len());
    let sentences = (0..count.clamp(1.0, SENTENCES_MAX) as usize).map(|i| block[(first + i) % block.len()]);
    sentences.collect::<Vec<_>>().join(" ")
}

/// The texts of a file: JSON lines with `text` (or plain JSON strings), or one text a line.
fn read(path: &Path) -> anyhow::Result<Vec<String>> {
    let content = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the texts of {}", path.display()))?;
    let lines = content.lines().filter(|l| !l.trim().is_empty()).take(TEXTS_MAX);
    let texts: Vec<String> = if content.trim_start().starts_with('{') {
        lines.enumerate().map(|(i, line)| of_json(line, i + 1)).collect::<Result<_, _>>()?
    } else {
        lines.map(str::to_owned).collect()
    };
    if texts.is_empty() {
        bail!("{} has no texts", path.display());
    }
    Ok(texts)
}

fn of_json(line: &str, number: usize) -> anyhow::Result<String> {
    let row: Value = serde_json::from_str(line).with_context(|| format!("line {number} is not JSON"))?;
    match row["text"].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("line {number} has no `text`"),
    }
}

/// What is read of an answer.
#[derive(serde::Deserialize)]
pub struct AnswerBody<'a> {
    #[serde(borrow)]
    pub results: Vec<ResultBody<'a>>,
    pub usage: UsageBody,
    pub timing_ms: TimingBody,
}

#[derive(serde::Deserialize)]
pub struct ResultBody<'a> {
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
pub struct UsageBody {
    pub texts: u64,
    pub tokens: u64,
}

/// Where the server says that its time went.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub struct TimingBody {
    pub tokenize: f64,
    pub queue: f64,
    pub forward: f64,
    pub total: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(file: Option<&Path>) -> Wanted<'_> {
        Wanted { file, texts_per_request: 2, tasks: &[], lane: "bulk", deadline_ms: Some(5), seed: 1 }
    }

    #[test]
    fn built_in_messages_are_of_many_languages_and_lengths() {
        let mut random = StdRng::seed_from_u64(1);
        let messages: Vec<String> = (0..2000).map(|_| message(&mut random)).collect();
        let mut lengths: Vec<usize> = messages.iter().map(|m| m.chars().count()).collect();
        lengths.sort_unstable();
        assert!(lengths[1000] < 200, "{}", lengths[1000]);
        assert!(lengths[1999] > 1500, "{}", lengths[1999]);
        assert!(SENTENCES.split("\n\n").count() >= 14);
        assert!(messages.iter().all(|m| !m.trim().is_empty()));
    }

    #[test]
    fn a_file_is_read_as_lines_or_as_json_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("texts");
        let bodies = |content: &str| {
            std::fs::write(&path, content).unwrap();
            let body = Bodies::new(&wanted(Some(&path)))?.get(BODIES as u64);
            anyhow::Ok(serde_json::from_slice::<Value>(&body)?)
        };
        let body = bodies("one\n\ntwo\nthree\n").unwrap();
        assert_eq!(body["inputs"], json!(["one", "two"]));
        assert_eq!(body["options"], json!({"lane": "bulk", "deadline_ms": 5}));
        assert_eq!(
            bodies("{\"text\":\"a\",\"x\":1}\n{\"text\":\"b\"}").unwrap()["inputs"],
            json!(["a", "b"])
        );
        let error = |content: &str| bodies(content).unwrap_err().to_string();
        assert_eq!(error("{\"text\":\"a\"}\n{\"t\":1}"), "line 2 has no `text`");
        assert_eq!(error("{\"text\""), "line 1 is not JSON");
        assert!(error("\n \n").contains("has no texts"));
    }
}

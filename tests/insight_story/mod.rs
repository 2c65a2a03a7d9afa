//! Histories told in lines, and a check of the document that they make: what the insight tests share.
//!
//! A line is one interaction: `TIME CHANNEL ID SENTIMENT INTENT key=value ... | text`. In the text `{outage}` is a
//! keyphrase, `{fast install:positive}` one with its own sentiment, and `[-]`, `[=]`, `[+]` before a sentence give that
//! sentence a sentiment of its own. `SENTIMENT` and `INTENT` may be `-` (not scored).

// Each test binary uses its own part of this.
#![allow(dead_code)]

use hearken::insight::document::Document;
use hearken::insight::event::{Event, EventData, EventId, RecordKey};
use hearken::insight::history::{Entry, History, ModelRevisions};
use hearken::insight::identity::Identity;
use hearken::insight::render::{View, document};
use hearken::insight::settings::Settings;
use hearken::scores::{Classified, Intent, Keyphrase, Label, Scores, Sentence, Sentiment};
use hearken::text::{offsets::ScalarOffsets, sentence::sentences};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Now, for all stories.
pub const NOW: &str = "2026-03-02T12:00:00Z";

pub struct Story {
    pub entries: Vec<Entry>,
    pub settings: Settings,
    pub record: RecordKey,
    pub window: Option<&'static str>,
    pub as_of: Option<&'static str>,
}

pub fn key(module: &str, id: &str) -> RecordKey {
    RecordKey { module: module.into(), id: id.into() }
}

/// A story of contact 1, told in lines.
pub fn story(lines: &str) -> Story {
    let story = Story {
        entries: vec![],
        settings: Settings::default(),
        record: key("contact", "1"),
        window: None,
        as_of: None,
    };
    story.and(lines)
}

impl Story {
    /// Goes on with more lines.
    pub fn and(mut self, lines: &str) -> Self {
        let lines = lines.lines().map(str::trim).filter(|l| !l.is_empty());
        let told: Vec<Entry> = lines.map(|line| interaction(line, &self.record)).collect();
        self.entries.extend(told);
        self
    }

    /// Something else that happened.
    pub fn event(mut self, time: &str, type_: &str, id: &str, data: Value) -> Self {
        self.entries.push(Entry {
            event: event(time, type_, id, data),
            received_at: NOW.parse().unwrap(),
            scores: None,
            models: ModelRevisions::new(),
        });
        self
    }

    pub fn of(self, record: RecordKey) -> Self {
        Self { record, ..self }
    }

    pub fn window(self, window: &'static str) -> Self {
        Self { window: Some(window), ..self }
    }

    pub fn seen_at(self, as_of: &'static str) -> Self {
        Self { as_of: Some(as_of), ..self }
    }

    /// With some settings, as JSON.
    pub fn with(self, settings: Value) -> Self {
        Self { settings: serde_json::from_value(settings).unwrap(), ..self }
    }

    pub fn view(&self) -> View {
        View::parse(self.window, self.as_of, NOW.parse().unwrap()).unwrap()
    }

    pub fn fold(&self) -> (History, Identity) {
        fold(&self.entries, &self.settings)
    }

    pub fn document(&self) -> Document {
        let (history, identity) = self.fold();
        document(&self.record, &history, &identity, &self.settings, &self.view())
    }

    /// The document holds `expected`: its objects may have more keys, its arrays have exactly these items.
    pub fn check(self, expected: Value) -> Self {
        let found = serde_json::to_value(self.document()).unwrap();
        if let Err(difference) = holds(&found, &expected, "") {
            panic!("{difference}");
        }
        self
    }
}

pub fn fold(entries: &[Entry], settings: &Settings) -> (History, Identity) {
    let (mut history, mut identity) = (History::new(), Identity::new());
    history.redigest(settings);
    for entry in entries {
        identity.apply(&entry.event);
        history.apply(entry.clone());
    }
    (history, identity)
}

fn holds(found: &Value, expected: &Value, path: &str) -> Result<(), String> {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => expected.iter().try_for_each(|(key, value)| {
            let inner = found.get(key).ok_or(format!("{path}/{key} is not there"))?;
            holds(inner, value, &format!("{path}/{key}"))
        }),
        (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => found
            .iter()
            .zip(expected)
            .enumerate()
            .try_for_each(|(i, (f, e))| holds(f, e, &format!("{path}/{i}"))),
        (Value::Number(f), Value::Number(e)) if f.as_f64() == e.as_f64() => Ok(()),
        _ if found == expected => Ok(()),
        _ => Err(format!("at {path}\nfound    {found}\nexpected {expected}")),
    }
}

pub fn event(time: &str, type_: &str, id: &str, data: Value) -> Event {
    Event {
        id: EventId { source: "crm".into(), id: id.into() },
        time: at(time),
        data: EventData::parse(type_, &data.to_string()).unwrap(),
    }
}

/// `2026-02-01` is noon of that day.
pub fn at(time: &str) -> Timestamp {
    if time.contains('T') { time.parse().unwrap() } else { format!("{time}T12:00:00Z").parse().unwrap() }
}

pub fn classified<L: Label>(label: L, certainty: f32) -> Classified<L> {
    let rest = (1.0 - certainty) / (L::ALL.len() - 1) as f32;
    let probabilities: Vec<f32> = L::ALL.iter().map(|l| if *l == label { certainty } else { rest }).collect();
    Classified::new(&probabilities).unwrap()
}

fn interaction(line: &str, record: &RecordKey) -> Entry {
    let (head, marked) = line.split_once('|').unwrap_or_else(|| panic!("no text in {line:?}"));
    let mut words = head.split_whitespace();
    let mut next = || words.next().unwrap_or_else(|| panic!("too short: {line:?}"));
    let (time, channel, id) = (next(), next(), next());
    let (sentiment, intent) = (Sentiment::from_name(next()), Intent::from_name(next()));
    let (text, phrases, tones) = read(marked);
    let mut data = json!({"record": record, "channel": channel, "language": "en"});
    if !text.is_empty() {
        data["text"] = json!(text);
    }
    let mut source = "crm";
    for option in words {
        match option.split_once('=').unwrap_or((option, "")) {
            ("source", value) => source = value,
            ("record", value) => {
                let (module, id) = value.split_once(':').unwrap();
                data["record"] = json!(key(module, id));
            }
            ("related", value) => {
                let (module, id) = value.split_once(':').unwrap();
                data["related"] = json!([key(module, id)]);
            }
            ("survey", value) => {
                let (metric, answer) = value.split_once(':').unwrap();
                let answers: Vec<f64> = answer.split(',').map(|a| a.parse().unwrap()).collect();
                data["survey"] = match answers.as_slice() {
                    [one] => json!({"metric": metric, "value": one}),
                    many => json!({"metric": metric, "values": many}),
                };
            }
            ("scale", value) => {
                let parts: Vec<&str> = value.split(':').collect();
                data["survey"]["scale"] = json!({"min": parts[0].parse::<f64>().unwrap(), "max": parts[1].parse::<f64>().unwrap(),
                           "direction": parts.get(2)});
            }
            ("resolved", value) => data["ops"]["resolved"] = json!(value == "true"),
            ("wait", value) => data["ops"]["wait_s"] = json!(value.parse::<f64>().unwrap()),
            ("revision", value) => data["revision"] = json!(value.parse::<u32>().unwrap()),
            ("thread", value) => data["thread_id"] = json!(value),
            (name, value) => data[name] = json!(value),
        }
    }
    let scores = sentiment.map(|sentiment| scores(&text, sentiment, intent, &phrases, &tones));
    let revision = |slot: &str| (slot.to_string(), format!("sha256:{slot}"));
    let models = scores.iter().flat_map(|_| ["sentiment", "intent", "keyphrases"]).map(revision).collect();
    let mut event = event(time, "voc.interaction.received.v1", id, data);
    event.id.source = source.into();
    Entry { event, received_at: NOW.parse().unwrap(), scores, models }
}

pub type Phrase = (std::ops::Range<usize>, Option<Sentiment>);

/// The text without marks, its keyphrases, and the tone of each sentence that has one, by where it begins.
fn read(marked: &str) -> (String, Vec<Phrase>, Vec<(usize, Sentiment)>) {
    let (mut text, mut phrases, mut tones) = (String::new(), vec![], vec![]);
    let mut rest = marked.trim();
    while let Some(at) = rest.find(['{', '[']) {
        text.push_str(&rest[..at]);
        let close = if rest.as_bytes()[at] == b'{' { '}' } else { ']' };
        let end = at + rest[at..].find(close).unwrap();
        let inside = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if close == '}' {
            let (phrase, tone) = inside.split_once(':').unwrap_or((inside, ""));
            phrases.push((text.len()..text.len() + phrase.len(), Sentiment::from_name(tone)));
            text.push_str(phrase);
        } else {
            let tone = match inside {
                "+" => Sentiment::Positive,
                "=" => Sentiment::Neutral,
                _ => Sentiment::Negative,
            };
            tones.push((text.len(), tone));
            rest = rest.trim_start();
        }
    }
    text.push_str(rest);
    (text, phrases, tones)
}

pub fn scores(
    text: &str,
    sentiment: Sentiment,
    intent: Option<Intent>,
    phrases: &[Phrase],
    tones: &[(usize, Sentiment)],
) -> Scores {
    let offsets = ScalarOffsets::new(text);
    let sentence = |range: std::ops::Range<usize>| {
        let own = tones.iter().find(|(at, _)| range.contains(at)).map_or(sentiment, |(_, tone)| *tone);
        Sentence {
            start: offsets.scalar(range.start),
            end: offsets.scalar(range.end),
            sentiment: classified(own, 0.9),
        }
    };
    Scores {
        language: Some("en".into()),
        tokens: text.split_whitespace().count() as u32,
        truncated: false,
        sentiment: Some(classified(sentiment, 0.9)),
        intent: intent.map(|i| classified(i, 0.9)),
        keyphrases: Some(
            phrases
                .iter()
                .map(|(range, tone)| Keyphrase {
                    text: text[range.clone()].into(),
                    start: offsets.scalar(range.start),
                    end: offsets.scalar(range.end),
                    score: 0.9,
                    sentiment: *tone,
                })
                .collect(),
        ),
        sentences: sentences(text).into_iter().map(sentence).collect(),
        emotion: None,
    }
}

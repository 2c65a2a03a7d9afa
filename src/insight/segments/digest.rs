//! One record, boiled down for questions about many: a row of small numbers per response, names kept once.
//!
//! It is made from the same facts as the record's document and holds no text beyond keywords and names.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::insight::{
    event::EventData,
    panels::{emotions, friction::After},
    reading::Reading,
    standing,
};
use crate::scores::{Emotion, Intent, Label, Sentiment};

/// Version of the stored form; digests of another one are made anew.
pub const VERSION: u32 = 1;

/// A record as segments read it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordDigest {
    v: u32,
    /// What the rows name by number.
    names: Vec<String>,
    /// See [`Row`]; flat, so that a hundred thousand records are read quickly.
    rows: Vec<Vec<i32>>,
    /// Segments that cut by record: country, stage, ...
    pub standing: Vec<(String, String)>,
    /// Days (since 1970) and answers 0-10 on the standard scale.
    pub nps: Vec<(i32, u8)>,
}

/// One response of a digest.
#[derive(Clone, Copy, Debug)]
pub struct Row<'d> {
    digest: &'d RecordDigest,
    numbers: &'d [i32],
}

/// A keyword of a response.
#[derive(Clone, Copy, Debug)]
pub struct RowKeyword<'d> {
    pub key: &'d str,
    pub form: &'d str,
    pub sentiment: Option<Sentiment>,
}

/// What followed a negative response within the days of [`crate::insight::panels::friction::AFTERMATH_DAYS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    pub contacted_again: bool,
    pub recovered: bool,
    pub churned: bool,
    pub purchased: bool,
}

/// No such name or label.
const NONE: i32 = -1;
/// Numbers of a row before its keywords, which are three each: key, form, sentiment.
const FIXED: usize = 9;

#[derive(Default)]
struct Names<'a> {
    numbers: HashMap<&'a str, i32>,
    names: Vec<String>,
}

impl<'a> Names<'a> {
    fn number(&mut self, name: &'a str) -> i32 {
        *self.numbers.entry(name).or_insert_with(|| {
            self.names.push(name.to_owned());
            self.names.len() as i32 - 1
        })
    }
}

impl RecordDigest {
    /// Reads all responses of a record; `reading` should have a view without bounds.
    pub fn of(reading: &Reading) -> Self {
        let after = After::of(reading);
        let languages: Vec<Option<String>> = reading.responses.iter().map(|r| r.language()).collect();
        let mut names = Names::default();
        let mut rows = Vec::with_capacity(reading.responses.len());
        for (i, response) in reading.responses.iter().enumerate() {
            let label = |index: Option<usize>| index.map_or(NONE, |i| i as i32);
            let negative = response.sentiment == Sentiment::Negative;
            let mut row = vec![
                day(response.at),
                names.number(&response.interaction.channel),
                response.interaction.product.as_deref().map_or(NONE, |n| names.number(n)),
                response.interaction.touchpoint.as_deref().map_or(NONE, |n| names.number(n)),
                languages[i].as_deref().map_or(NONE, |n| names.number(n)),
                response.sentiment.index() as i32,
                label(response.intent.map(|c| c.label.index())),
                label(emotions::of_response(response).map(Emotion::index)),
                if negative { bits(after.followed(&reading.responses, i)) } else { NONE },
            ];
            for keyword in &response.digest.keywords {
                row.push(names.number(&keyword.key));
                row.push(names.number(&keyword.surface));
                row.push(label(keyword.sentiment.map(Sentiment::index)));
            }
            rows.push(row);
        }
        let standing = standing::segments(reading).into_iter().map(|s| (s.name, s.value)).collect();
        Self { v: VERSION, names: names.names, rows, standing, nps: nps(reading) }
    }

    /// As it is stored.
    pub fn to_json(&self) -> String {
        // Cannot fail: strings and numbers only.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None` for what another version wrote, or what cannot be read.
    pub fn read(json: &str) -> Option<Self> {
        serde_json::from_str::<Self>(json).ok().filter(|d| d.v == VERSION)
    }

    /// The responses, in order of time.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let whole = self.rows.iter().filter(|numbers| numbers.len() >= FIXED);
        whole.map(|numbers| Row { digest: self, numbers })
    }
}

impl<'d> Row<'d> {
    /// Days since 1970, in UTC.
    pub fn day(&self) -> i32 {
        self.numbers[0]
    }

    fn name(&self, place: usize) -> Option<&'d str> {
        let number = usize::try_from(self.numbers[place]).ok()?;
        self.digest.names.get(number).map(String::as_str)
    }

    pub fn channel(&self) -> Option<&'d str> {
        self.name(1)
    }

    pub fn product(&self) -> Option<&'d str> {
        self.name(2)
    }

    pub fn touchpoint(&self) -> Option<&'d str> {
        self.name(3)
    }

    pub fn language(&self) -> Option<&'d str> {
        self.name(4)
    }

    pub fn sentiment(&self) -> Sentiment {
        label(self.numbers[5]).unwrap_or(Sentiment::Neutral)
    }

    pub fn intent(&self) -> Option<Intent> {
        label(self.numbers[6])
    }

    pub fn emotion(&self) -> Option<Emotion> {
        label(self.numbers[7])
    }

    /// `None` unless it is negative.
    pub fn followed(&self) -> Option<Followed> {
        let bits = self.numbers[8];
        (bits != NONE).then_some(Followed {
            contacted_again: bits & 1 != 0,
            recovered: bits & 2 != 0,
            churned: bits & 4 != 0,
            purchased: bits & 8 != 0,
        })
    }

    pub fn keywords(&self) -> impl Iterator<Item = RowKeyword<'d>> + use<'d> {
        let (digest, numbers) = (self.digest, self.numbers);
        numbers[FIXED..].chunks_exact(3).filter_map(move |of| {
            let name = |number: i32| digest.names.get(usize::try_from(number).ok()?).map(String::as_str);
            Some(RowKeyword { key: name(of[0])?, form: name(of[1])?, sentiment: label(of[2]) })
        })
    }
}

fn label<L: Label>(number: i32) -> Option<L> {
    L::ALL.get(usize::try_from(number).ok()?).copied()
}

fn bits(followed: Followed) -> i32 {
    let Followed { contacted_again, recovered, churned, purchased } = followed;
    i32::from(contacted_again)
        | i32::from(recovered) << 1
        | i32::from(churned) << 2
        | i32::from(purchased) << 3
}

/// Days since 1970, in UTC.
pub fn day(time: jiff::Timestamp) -> i32 {
    const SECONDS_PER_DAY: i64 = 86_400;
    time.as_second().div_euclid(SECONDS_PER_DAY) as i32
}

/// Answers that enter the net promoter score, see [`crate::insight::metrics::Nps`].
fn nps(reading: &Reading) -> Vec<(i32, u8)> {
    let facts = reading.facts.iter().filter_map(|fact| match &fact.event.data {
        EventData::InteractionReceived(i) if i.by_customer() => {
            let answer = crate::insight::metrics::nps_answer(i.survey.as_ref()?)?;
            Some((day(fact.event.time), answer.round() as u8))
        }
        _ => None,
    });
    facts.collect()
}

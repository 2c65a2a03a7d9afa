//! Counts keywords over any set of responses; panels that list keywords share it.

use super::digest::Keyword;
use super::event::EventId;
use super::panels::keywords::MentionSentiment;
use super::reading::{Reading, Response};
use crate::scores::Sentiment;

/// What was counted of one keyword.
#[derive(Default)]
pub struct Count<'a> {
    /// The keyword's number in the reading.
    pub keyword: u32,
    pub mentions: u64,
    pub sentiment: Mentions,
    /// Positions, in the slice that was counted, of the responses that mention it, in order.
    pub responses: Vec<u32>,
    forms: Vec<(&'a str, u64)>,
}

/// Mentions by sentiment; one without a sentiment is in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    pub positive: u64,
    pub neutral: u64,
    pub negative: u64,
}

impl Mentions {
    pub fn add(&mut self, sentiment: Option<Sentiment>) {
        match sentiment {
            Some(Sentiment::Positive) => self.positive += 1,
            Some(Sentiment::Neutral) => self.neutral += 1,
            Some(Sentiment::Negative) => self.negative += 1,
            None => {}
        }
    }

    /// The most frequent one; of equals the more urgent: negative, positive, neutral.
    pub fn label(self) -> Option<Sentiment> {
        let most = self.positive.max(self.neutral).max(self.negative);
        match most {
            0 => None,
            n if n == self.negative => Some(Sentiment::Negative),
            n if n == self.positive => Some(Sentiment::Positive),
            _ => Some(Sentiment::Neutral),
        }
    }
}

impl From<Mentions> for MentionSentiment {
    fn from(mentions: Mentions) -> Self {
        Self {
            label: mentions.label(),
            positive: mentions.positive,
            neutral: mentions.neutral,
            negative: mentions.negative,
        }
    }
}

impl<'a> Count<'a> {
    /// The form in which it was written most often; the first in the alphabet of equals.
    pub fn form(&self) -> String {
        self.name().into()
    }

    /// [`Count::form`], borrowed.
    pub fn name(&self) -> &'a str {
        let best = self.forms.iter().max_by_key(|(form, n)| (*n, std::cmp::Reverse(*form)));
        best.map_or("", |(form, _)| *form)
    }

    /// The ids of the responses that mention it, in order of time.
    pub fn ids<'r>(&'r self, responses: &'r [Response<'a>]) -> impl Iterator<Item = &'r EventId> {
        self.responses.iter().map(|i| &responses[*i as usize].fact.event.id)
    }

    /// The last response that mentions it.
    pub fn last<'r>(&self, responses: &'r [Response<'a>]) -> Option<&'r Response<'a>> {
        self.responses.last().map(|i| &responses[*i as usize])
    }
}

/// The keywords of some responses, in the order in which they first appear. `wanted` can leave occurrences out.
pub fn count<'a>(
    reading: &Reading<'a>,
    responses: &[Response<'a>],
    mut wanted: impl FnMut(&Response<'a>, &Keyword) -> bool,
) -> Vec<Count<'a>> {
    const NONE: u32 = u32::MAX;
    let mut places = vec![NONE; reading.keywords.len()];
    let mut counts: Vec<Count> = Vec::new();
    for (i, response) in responses.iter().enumerate() {
        let digest: &'a super::digest::Digest = response.digest;
        for (keyword, number) in digest.keywords.iter().zip(response.keywords) {
            if !wanted(response, keyword) {
                continue;
            }
            let place = &mut places[*number as usize];
            if *place == NONE {
                *place = counts.len() as u32;
                counts.push(Count { keyword: *number, ..Count::default() });
            }
            let count = &mut counts[*place as usize];
            count.mentions += 1;
            count.sentiment.add(keyword.sentiment);
            if count.responses.last() != Some(&(i as u32)) {
                count.responses.push(i as u32);
            }
            match count.forms.iter_mut().find(|(form, _)| *form == &*keyword.surface) {
                Some((_, n)) => *n += 1,
                None => count.forms.push((&keyword.surface, 1)),
            }
        }
    }
    counts
}

/// Most frequent first; of equals the most recent, then by the keyword's key.
pub fn by_mentions(reading: &Reading, counts: &mut [Count]) {
    counts.sort_by_key(|c| {
        let key = &reading.keywords[c.keyword as usize];
        (std::cmp::Reverse((c.mentions, c.responses.last().copied())), key)
    });
}

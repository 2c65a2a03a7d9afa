//! What documents count in one customer text, found once when it is applied: keywords, competitors, watched phrases,
//! cues, what it is about.
//!
//! Only the customer's own words count: in e-mails the quoted history and the signature are left out. Spans are Unicode
//! scalar values of [`Interaction::customer_text`].

use std::ops::Range;

use super::event::Interaction;
use super::lexicon::{Cause, Cue, Lexicon, causes, cues};
use super::statistics::Mean;
use crate::scores::{Classified, Scores, Sentence, Sentiment};
use crate::text::{keyword, mail, normalize::Normalized, offsets::ScalarOffsets, sentence};

/// Most characters of an [`Digest::summary`].
pub const SUMMARY_CHARS_MAX: usize = 80;

/// From where to where, in Unicode scalar values.
pub type Span = (u32, u32);

/// What counts in one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Digest {
    pub keywords: Vec<Keyword>,
    pub competitors: Vec<Mention>,
    /// Valence of the sentences that name no competitor.
    pub elsewhere: Mean,
    pub watched: Vec<Watched>,
    pub cues: Vec<(Cue, Span)>,
    /// What the negative sentences are about; of a text without sentences, all of it.
    pub causes: Vec<(Cause, Span)>,
    /// The best keyphrase, or the first words.
    pub summary: Box<str>,
    /// p(positive) - p(negative) of the whole text.
    pub valence: Option<f64>,
}

/// An occurrence of a keyword.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyword {
    /// What makes it one with other forms.
    pub key: Box<str>,
    /// As it was written.
    pub surface: Box<str>,
    pub sentiment: Option<Sentiment>,
    pub span: Span,
    /// Names a competitor (index into the settings) and nothing else.
    pub names: Option<usize>,
}

/// An occurrence of a competitor's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Mention {
    /// Index into the settings.
    pub competitor: usize,
    pub span: Span,
    /// Of the sentence that holds it.
    pub sentiment: Option<Sentiment>,
    pub valence: Option<f64>,
    /// False where an earlier mention of the same competitor stands in the same sentence.
    pub first_in_sentence: bool,
}

/// An occurrence of a watched phrase; both are indices into the settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    pub list: usize,
    pub phrase: usize,
    pub span: Span,
}

/// p(positive) - p(negative).
pub fn valence(sentiment: &Classified<Sentiment>) -> f64 {
    f64::from(sentiment.probability(Sentiment::Positive))
        - f64::from(sentiment.probability(Sentiment::Negative))
}

impl Digest {
    /// `None` where the customer says nothing.
    pub fn of(interaction: &Interaction, scores: Option<&Scores>, lexicon: &Lexicon) -> Option<Digest> {
        let text = interaction.customer_text()?;
        Some(Reader::new(interaction, &text, scores).digest(lexicon))
    }

    pub fn says(&self, cue: Cue) -> bool {
        self.cues.iter().any(|(c, _)| *c == cue)
    }
}

/// One text while it is read.
struct Reader<'t> {
    text: &'t str,
    language: Option<String>,
    scores: Option<&'t Scores>,
    /// The customer's own words, in bytes, and as they are searched.
    own: Vec<(Range<usize>, Normalized)>,
    offsets: ScalarOffsets<'t>,
}

impl<'t> Reader<'t> {
    fn new(interaction: &Interaction, text: &'t str, scores: Option<&'t Scores>) -> Self {
        let own = if interaction.channel == "email" && interaction.segments.is_empty() {
            mail::own_words(text)
        } else {
            std::iter::once(0..text.len()).collect()
        };
        let own = own.into_iter().map(|part| (part.clone(), Normalized::new(&text[part]))).collect();
        let language = interaction.language.as_deref().or(scores.and_then(|s| s.language.as_deref()));
        // "pt-BR" speaks "pt".
        let language = language.and_then(|l| l.split(['-', '_']).next()).map(str::to_lowercase);
        Self { text, language, scores, own, offsets: ScalarOffsets::new(text) }
    }

    fn digest(&self, lexicon: &Lexicon) -> Digest {
        let language = self.language.as_deref();
        let mut competitors: Vec<Mention> = Vec::new();
        for (competitor, range) in self.search(|_, part| lexicon.competitors(part).collect()) {
            let span = self.span(range);
            let sentence = self.sentence(span.0);
            let first_in_sentence = !competitors.iter().any(|m| {
                m.competitor == competitor && self.sentence_index(m.span.0) == self.sentence_index(span.0)
            });
            competitors.push(Mention {
                competitor,
                span,
                sentiment: sentence.map(|s| s.label),
                valence: sentence.map(valence),
                first_in_sentence,
            });
        }
        let watched = self.search(|_, part| lexicon.watched(part).map(|(l, p, r)| ((l, p), r)).collect());
        let cues = self.search(|text, part| cues(text, part, language));
        let causes = self.search(|_, part| causes(part, language));
        let keywords = self.keywords(&competitors);
        Digest {
            elsewhere: self.elsewhere(&competitors),
            watched: watched
                .into_iter()
                .map(|((list, phrase), range)| Watched { list, phrase, span: self.span(range) })
                .collect(),
            cues: cues.into_iter().map(|(cue, range)| (cue, self.span(range))).collect(),
            causes: causes
                .into_iter()
                .map(|(cause, range)| (cause, self.span(range)))
                .filter(|(_, span)| self.sentence(span.0).is_none_or(|s| s.label == Sentiment::Negative))
                .collect(),
            summary: self.summary(),
            valence: self.overall().map(valence),
            keywords,
            competitors,
        }
    }

    /// Looks through the customer's own words, part by part.
    fn search<T>(
        &self,
        find: impl Fn(&str, &Normalized) -> Vec<(T, Range<usize>)>,
    ) -> Vec<(T, Range<usize>)> {
        let mut found = Vec::new();
        for (part, normalized) in &self.own {
            for (what, range) in find(&self.text[part.clone()], normalized) {
                found.push((what, part.start + range.start..part.start + range.end));
            }
        }
        found
    }

    fn span(&self, range: Range<usize>) -> Span {
        (self.offsets.scalar(range.start), self.offsets.scalar(range.end))
    }

    fn overall(&self) -> Option<&Classified<Sentiment>> {
        self.scores.and_then(|s| s.sentiment.as_ref())
    }

    fn sentences(&self) -> &[Sentence] {
        self.scores.map_or(&[], |s| s.sentences.as_slice())
    }

    fn sentence_index(&self, at: u32) -> Option<usize> {
        self.sentences().iter().position(|s| s.start <= at && at < s.end)
    }

    /// The sentiment of the sentence that holds a character, or else of the whole text.
    fn sentence(&self, at: u32) -> Option<&Classified<Sentiment>> {
        self.sentence_index(at).map(|i| &self.sentences()[i].sentiment).or(self.overall())
    }

    fn is_own(&self, span: Span) -> bool {
        self.own.iter().any(|(part, _)| {
            let own = self.span(part.clone());
            own.0 <= span.0 && span.0 < own.1
        })
    }

    fn elsewhere(&self, competitors: &[Mention]) -> Mean {
        let mut valences = Mean::default();
        for sentence in self.sentences() {
            let named = competitors.iter().any(|m| sentence.start <= m.span.0 && m.span.0 < sentence.end);
            if !named && self.is_own((sentence.start, sentence.end)) {
                valences.add(valence(&sentence.sentiment));
            }
        }
        valences
    }

    fn keywords(&self, competitors: &[Mention]) -> Vec<Keyword> {
        let phrases = self.scores.and_then(|s| s.keyphrases.as_deref()).unwrap_or(&[]);
        let own = phrases.iter().filter(|p| self.is_own((p.start, p.end)));
        own.filter_map(|phrase| {
            let key = keyword::key(&phrase.text, self.language.as_deref());
            let names = competitors
                .iter()
                .find(|m| m.span.0 <= phrase.start && phrase.end <= m.span.1)
                .map(|m| m.competitor);
            let sentiment =
                phrase.sentiment.or_else(|| self.sentence(phrase.start).map(|classified| classified.label));
            let surface = phrase.text.split_whitespace().collect::<Vec<_>>().join(" ");
            (!key.is_empty()).then(|| Keyword {
                key: key.into(),
                surface: surface.into(),
                sentiment,
                span: (phrase.start, phrase.end),
                names,
            })
        })
        .collect()
    }

    /// The likeliest keyphrase (the first of equals), or the beginning of the first sentence.
    fn summary(&self) -> Box<str> {
        let phrases = self.scores.and_then(|s| s.keyphrases.as_deref()).unwrap_or(&[]);
        let best = phrases
            .iter()
            .filter(|p| self.is_own((p.start, p.end)) && !p.text.trim().is_empty())
            .reduce(|best, p| if p.score > best.score { p } else { best });
        if let Some(best) = best {
            return shorten(&best.text);
        }
        let own = self.own.first().map_or(self.text, |(part, _)| &self.text[part.clone()]);
        let first = sentence::sentences(own).into_iter().next();
        shorten(first.map_or(own, |range| &own[range]))
    }
}

/// Cut at the last word that fits.
fn shorten(text: &str) -> Box<str> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((cut, _)) = text.char_indices().nth(SUMMARY_CHARS_MAX) else { return text.into() };
    let head = &text[..cut];
    let whole = head.rfind(' ').filter(|at| *at >= cut / 2).map_or(head, |at| &head[..at]);
    format!("{whole}…").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::settings::{Competitor, Settings};
    use crate::scores::Keyphrase;
    use crate::text::offsets::slice;

    fn classified(negative: f32, positive: f32) -> Classified<Sentiment> {
        Classified::new(&[negative, 1.0 - negative - positive, positive]).unwrap()
    }

    fn read(channel: &str, text: &str, scores: Scores) -> Digest {
        let interaction: Interaction = serde_json::from_value(serde_json::json!({
            "record": {"module": "contact", "id": "1"}, "channel": channel, "text": text, "language": "en-GB"
        }))
        .unwrap();
        let settings = Settings {
            competitors: vec![Competitor {
                name: "Airo Networks".into(),
                aliases: vec!["Airo".into(), "艾罗".into()],
            }],
            ..Settings::default()
        };
        Digest::of(&interaction, Some(&scores), &Lexicon::new(&settings)).unwrap()
    }

    #[test]
    fn only_own_words_count_in_mail() {
        let text = "😭 Airo is better than you.\n\nOn Monday, Support wrote:\n> Airo Networks is expensive";
        let own = read("email", text, Scores::default());
        assert_eq!(own.competitors.len(), 1);
        let (start, end) = own.competitors[0].span;
        assert_eq!(slice(text, start, end), "Airo");
        assert_eq!(read("chat", text, Scores::default()).competitors.len(), 2);
    }

    #[test]
    fn a_mention_feels_like_its_sentence() {
        let text = "You are slow. Airo is great.";
        let scores = Scores {
            sentiment: Some(classified(0.5, 0.2)),
            sentences: vec![
                Sentence { start: 0, end: 13, sentiment: classified(0.9, 0.1) },
                Sentence { start: 14, end: 28, sentiment: classified(0.0, 0.9) },
            ],
            keyphrases: Some(vec![
                Keyphrase { text: "Airo".into(), start: 14, end: 18, score: 0.9, sentiment: None },
                Keyphrase { text: "slow".into(), start: 8, end: 12, score: 0.4, sentiment: None },
            ]),
            ..Scores::default()
        };
        let digest = read("chat", text, scores);
        assert_eq!(digest.competitors[0].sentiment, Some(Sentiment::Positive));
        assert!((digest.elsewhere.value().unwrap() + 0.8).abs() < 1e-6);
        assert_eq!(digest.keywords[0].names, Some(0));
        assert_eq!(digest.keywords[1].sentiment, Some(Sentiment::Negative));
        assert_eq!(&*digest.summary, "Airo");
    }

    #[test]
    fn a_summary_is_short_and_ends_with_a_word() {
        let text = "word ".repeat(40);
        let summary = read("chat", &text, Scores::default()).summary;
        assert!(summary.chars().count() <= SUMMARY_CHARS_MAX + 1 && summary.ends_with("word…"), "{summary}");
    }
}

//! What is looked for in customers' words: competitors and watched phrases of the settings, and the built-in cues of
//! `cues.tsv` (leaving, comparing, wanting a person, causes of displeasure) in 18 languages.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use super::settings::Settings;
use crate::text::{
    normalize::{Normalized, normalize},
    phrases::Matcher,
};

/// The phrases of one set of settings, ready to search.
pub struct Lexicon {
    competitors: Matcher,
    /// Phrase to competitor, both as indices.
    competitor_of: Vec<usize>,
    watchlists: Vec<Matcher>,
}

impl Lexicon {
    pub fn new(settings: &Settings) -> Self {
        let mut phrases = Vec::new();
        let mut competitor_of = Vec::new();
        for (i, competitor) in settings.competitors.iter().enumerate() {
            for phrase in std::iter::once(&competitor.name).chain(&competitor.aliases) {
                phrases.push(phrase.as_str());
                competitor_of.push(i);
            }
        }
        Self {
            competitors: Matcher::new(&phrases),
            competitor_of,
            watchlists: settings.watchlists.iter().map(|w| Matcher::new(&w.phrases)).collect(),
        }
    }

    /// Indices of the competitors that a text names, with the bytes of each mention.
    pub fn competitors(&self, text: &Normalized) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.competitors.find_in(text).into_iter().map(|hit| (self.competitor_of[hit.phrase], hit.range))
    }

    /// Watchlist, phrase and bytes of each watched phrase in a text. Lists do not hide each other's phrases.
    pub fn watched(&self, text: &Normalized) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
        self.watchlists.iter().enumerate().flat_map(move |(list, m)| {
            m.find_in(text).into_iter().map(move |hit| (list, hit.phrase, hit.range))
        })
    }
}

/// What a cue says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cue {
    /// Goes over to somebody, or finds them better: counts beside the name of a competitor.
    Switching,
    /// Leaves, or looks for somebody else: counts alone.
    Leaving,
    /// Has left, or gives notice.
    Churn,
    /// Wants to speak to a human.
    Person,
}

/// What displeases a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    Product,
    Service,
    Communication,
}

impl Cause {
    pub const ALL: [Cause; 3] = [Cause::Product, Cause::Service, Cause::Communication];

    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Service => "service",
            Self::Communication => "communication",
        }
    }
}

/// A negation takes a cue back where it stands in the same clause, at most this many bytes before it.
const NEGATION_REACH_BYTES: usize = 24;

struct Cues {
    statements: Matcher,
    statement_of: Vec<Cue>,
    negations: Matcher,
    /// Phrase to the languages in which it negates.
    negation_of: Vec<Vec<&'static str>>,
    causes: Matcher,
    /// Phrase to cause and the languages in which it means that.
    cause_of: Vec<(Cause, Vec<&'static str>)>,
}

static CUES: LazyLock<Cues> = LazyLock::new(|| Cues::read(include_str!("cues.tsv")));

impl Cues {
    fn read(table: &'static str) -> Self {
        let mut statements: Vec<(&str, Cue)> = Vec::new();
        // One phrase can mean the same in several languages; the matcher must know it once.
        let mut negations: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut causes: BTreeMap<(String, Cause), Vec<&str>> = BTreeMap::new();
        for line in table.lines().filter(|l| !l.starts_with('#')) {
            let mut columns = line.split('\t');
            let (Some(kind), Some(language), Some(list)) = (columns.next(), columns.next(), columns.next())
            else {
                continue;
            };
            let phrases = list.split('|').map(str::trim).filter(|p| !p.is_empty());
            let cue = match kind {
                "switching" => Cue::Switching,
                "leaving" => Cue::Leaving,
                "churn" => Cue::Churn,
                "person" => Cue::Person,
                "negation" => {
                    for phrase in phrases {
                        negations.entry(normalize(phrase)).or_default().push(language);
                    }
                    continue;
                }
                _ => {
                    if let Some(cause) = Cause::ALL.into_iter().find(|c| c.name() == kind) {
                        for phrase in phrases {
                            causes.entry((normalize(phrase), cause)).or_default().push(language);
                        }
                    }
                    continue;
                }
            };
            statements.extend(phrases.map(|p| (p, cue)));
        }
        let (cause_phrases, cause_of): (Vec<String>, Vec<_>) =
            causes.into_iter().map(|((phrase, cause), languages)| (phrase, (cause, languages))).unzip();
        let (negation_phrases, negation_of): (Vec<String>, Vec<_>) = negations.into_iter().unzip();
        Self {
            statements: Matcher::fast(&statements.iter().map(|(p, _)| *p).collect::<Vec<_>>()),
            statement_of: statements.iter().map(|(_, cue)| *cue).collect(),
            negations: Matcher::fast(&negation_phrases),
            negation_of,
            causes: Matcher::fast(&cause_phrases),
            cause_of,
        }
    }
}

/// The cues in `text` (and as `normalized`) that nothing takes back, with their bytes. Cues are told in every language, negations only in the
/// language of the text, where it is known: short words mean different things.
pub fn cues(text: &str, normalized: &Normalized, language: Option<&str>) -> Vec<(Cue, Range<usize>)> {
    let cues = &*CUES;
    let hits = cues.statements.find_in(normalized);
    if hits.is_empty() {
        return vec![];
    }
    let negations = cues.negations.find_in(normalized);
    hits.into_iter()
        .filter(|hit| {
            !negations.iter().any(|n| {
                language.is_none_or(|l| cues.negation_of[n.phrase].contains(&l))
                    && n.range.end <= hit.range.start
                    && hit.range.start - n.range.end <= NEGATION_REACH_BYTES
                    && !text[n.range.end..hit.range.start].contains(ends_clause)
            })
        })
        .map(|hit| (cues.statement_of[hit.phrase], hit.range))
        .collect()
}

fn ends_clause(c: char) -> bool {
    matches!(
        c,
        '.' | ','
            | ';'
            | ':'
            | '!'
            | '?'
            | '\n'
            | '،'
            | '؛'
            | '؟'
            | '。'
            | '，'
            | '、'
            | '；'
            | '！'
            | '？'
            | '।'
    )
}

/// What a text is about, among the causes of displeasure, with the bytes of each word that says so. Words of other
/// languages do not count where the language is known.
pub fn causes(text: &Normalized, language: Option<&str>) -> Vec<(Cause, Range<usize>)> {
    let cues = &*CUES;
    cues.causes
        .find_in(text)
        .into_iter()
        .filter_map(|hit| {
            let (cause, languages) = &cues.cause_of[hit.phrase];
            language.is_none_or(|l| languages.contains(&l)).then_some((*cause, hit.range))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(Cue, &str)]) {
        let found: Vec<(Cue, &str)> = cues(text, &Normalized::new(text), None)
            .into_iter()
            .map(|(cue, range)| (cue, &text[range]))
            .collect();
        assert_eq!(found, expected, "in {text}");
    }

    #[test]
    fn cues_in_many_languages() {
        check("We are switching to Airo in May.", &[(Cue::Switching, "switching to")]);
        check("Hiermit kündige ich zum Monatsende.", &[(Cue::Churn, "Hiermit kündige ich")]);
        check("我打算换到艾罗网络", &[(Cue::Switching, "换到")]);
        check("解約したいです", &[(Cue::Churn, "解約したい")]);
        check("Я хочу расторгнуть договор", &[(Cue::Churn, "расторгнуть договор")]);
        check("Quero cancelar minha assinatura!", &[(Cue::Churn, "cancelar minha assinatura")]);
        check("أريد إلغاء اشتراكي", &[(Cue::Churn, "إلغاء اشتراكي")]);
        check("Let me speak to a human", &[(Cue::Person, "speak to a human")]);
    }

    #[test]
    fn a_negation_in_the_same_clause_takes_a_cue_back() {
        check("Please do not cancel my subscription.", &[]);
        check("If not, cancel my subscription.", &[(Cue::Churn, "cancel my subscription")]);
        check("I will never go to Airo", &[]);
    }

    #[test]
    fn causes_keep_to_their_language() {
        let names = |text: &str, language| -> Vec<&str> {
            causes(&Normalized::new(text), language).into_iter().map(|(c, _)| c.name()).collect()
        };
        assert_eq!(names("The outage again, and no reply", Some("en")), ["product", "communication"]);
        assert_eq!(names("Die Rechnung kam zu spät", Some("de")), ["service"]);
        assert_eq!(names("Die Rechnung kam zu spät", Some("fr")), Vec::<&str>::new());
        assert_eq!(names("Die Rechnung kam zu spät", None), ["service"]);
    }

    #[test]
    fn every_kind_is_known_in_every_language() {
        let table = include_str!("cues.tsv");
        let kinds = |language: &str| table.lines().filter(|l| l.split('\t').nth(1) == Some(language)).count();
        for language in [
            "ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr",
            "vi", "zh",
        ] {
            assert_eq!(kinds(language), 8, "{language}");
        }
    }
}

//! Keyphrases from token labels: decoding, cutting to whole words, and merging windows without doubles.

use std::ops::Range;

use super::classify::softmax;
use crate::engine::{
    error::ModelError,
    executor::HeadId,
    heads::{HeadSpec, HeadTask},
    source::LabelMap,
};
use crate::text::script::{is_hangul, is_unspaced};

/// What a token label says about a phrase (Ramshaw and Marcus 1995, "Text Chunking Using Transformation-Based
/// Learning"). Which kind of phrase it is does not matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Outside,
    Begin,
    Inside,
}

/// A token classifier whose labels mark phrases: `O`, `B-...`, `I-...`.
#[derive(Clone, Debug)]
pub struct PhraseTagger {
    pub head: HeadId,
    temperature: f32,
    roles: Vec<Role>,
}

/// A phrase in tokens of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct PhraseSpan {
    pub tokens: Range<usize>,
    /// Mean probability, over its tokens, of being part of a phrase.
    pub score: f64,
}

impl PhraseTagger {
    /// Refuses a head whose task or labels do not fit. `map` renames labels first.
    pub fn new(slot: &str, head: HeadId, spec: &HeadSpec, map: &LabelMap) -> Result<Self, ModelError> {
        if spec.task != HeadTask::TokenClassification {
            return Err(ModelError::head(slot, "is not a token classifier"));
        }
        let role = |label: &String| match map.get(label).unwrap_or(label).as_str() {
            "O" => Some(Role::Outside),
            l if l.starts_with("B-") => Some(Role::Begin),
            l if l.starts_with("I-") => Some(Role::Inside),
            _ => None,
        };
        let roles: Option<Vec<Role>> = spec.labels.iter().map(role).collect();
        match roles {
            Some(roles) if roles.iter().filter(|r| **r == Role::Outside).count() == 1 && roles.len() >= 2 => {
                Ok(Self { head, temperature: spec.temperature, roles })
            }
            _ => Err(ModelError::head(
                slot,
                format!(
                    "has the labels {}; it must have O and B-... or I-...; \"labels\" can rename them",
                    spec.labels.join(", ")
                ),
            )),
        }
    }

    pub fn labels(&self) -> usize {
        self.roles.len()
    }

    /// The likeliest label of each row of logits, as a place among the head's labels.
    pub fn decide<'a>(&self, logits: &'a [f32]) -> impl Iterator<Item = usize> + use<'a> {
        logits
            .chunks_exact(self.roles.len())
            .map(|row| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }))
    }

    /// The phrases of a window that reads the text's tokens from `first_token` on; `None` where a logit is not finite.
    pub fn spans(&self, logits: &[f32], first_token: usize) -> Option<Vec<PhraseSpan>> {
        let mut spans: Vec<PhraseSpan> = Vec::new();
        let mut open = false;
        let labels = self.decide(logits);
        for (i, (row, label)) in logits.chunks_exact(self.roles.len()).zip(labels).enumerate() {
            let scaled: Vec<f64> = row.iter().map(|x| f64::from(*x) / f64::from(self.temperature)).collect();
            let probabilities = softmax(&scaled)?;
            let role = self.roles[label];
            if role == Role::Outside {
                open = false;
                continue;
            }
            let inside: f64 = probabilities
                .iter()
                .zip(&self.roles)
                .filter(|(_, role)| **role != Role::Outside)
                .map(|(p, _)| p)
                .sum();
            let token = first_token + i;
            match spans.last_mut() {
                Some(last) if open && role == Role::Inside => {
                    let n = last.tokens.len() as f64;
                    last.score = (last.score * n + inside) / (n + 1.0);
                    last.tokens.end = token + 1;
                }
                _ => spans.push(PhraseSpan { tokens: token..token + 1, score: inside }),
            }
            open = true;
        }
        Some(spans)
    }
}

/// The byte range of a phrase, grown to whole words and cut free of white space and punctuation at its ends, and of a
/// conjunction that Arabic writes into the first word; `None` where nothing is left.
pub fn trimmed(text: &str, bytes: Range<usize>) -> Option<Range<usize>> {
    let mut range = whole_words(text, bytes);
    let phrase = &text[range.clone()];
    let rest = phrase.trim_start_matches(|c| !is_edge(c));
    range.start += phrase.len() - rest.len();
    range.end = range.start + rest.trim_end_matches(|c| !is_edge(c) && !is_mark(c)).len();
    range.start += conjunction(&text[range.clone()]);
    (!range.is_empty()).then_some(range)
}

/// Bytes of an Arabic "and" (waw) that is written into the phrase's first word before the article, which no phrase
/// begins with; 0 where there is none, or where the word is a parent ("walid" and its forms begin with the same letters).
fn conjunction(phrase: &str) -> usize {
    const AND: &str = "\u{0648}";
    const ARTICLE: &str = "\u{0627}\u{0644}";
    const PARENT: &str = "\u{0648}\u{0627}\u{0644}\u{062F}";
    // Endings of "walid", "walida" with and without possessives; "wal-da..." with any other ending is "and the da...".
    const PARENT_ENDINGS: [&str; 16] = [
        "",
        "\u{0629}",
        "\u{064A}",
        "\u{0643}",
        "\u{0647}",
        "\u{0647}\u{0627}",
        "\u{0646}\u{0627}",
        "\u{062A}\u{064A}",
        "\u{062A}\u{0643}",
        "\u{062A}\u{0647}",
        "\u{062A}\u{0647}\u{0627}",
        "\u{062A}\u{0646}\u{0627}",
        "\u{064A}\u{0646}",
        "\u{0627}\u{0646}",
        "\u{064A}\u{0647}",
        "\u{064A}\u{0627}",
    ];
    let word = phrase.split(|c: char| !c.is_alphanumeric()).next().unwrap_or(phrase);
    let parent = word.strip_prefix(PARENT).is_some_and(|ending| PARENT_ENDINGS.contains(&ending));
    let letters = word
        .strip_prefix(AND)
        .and_then(|rest| rest.strip_prefix(ARTICLE))
        .map_or(0, |stem| stem.chars().count());
    if letters >= 2 && !parent { AND.len() } else { 0 }
}

/// Whether a phrase may begin or end with this character: letters, digits, and symbols such as emoji.
fn is_edge(c: char) -> bool {
    c.is_alphanumeric() || !(c.is_whitespace() || c.is_control() || is_punctuation(c) || is_mark(c))
}

/// General punctuation of the scripts in use; what Unicode calls `P*` outside ASCII, by block.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(c,
            '\u{A1}' | '\u{A7}' | '\u{AB}' | '\u{B6}' | '\u{B7}' | '\u{BB}' | '\u{BF}'
            | '\u{0589}' | '\u{05BE}' | '\u{060C}' | '\u{061B}' | '\u{061F}' | '\u{066A}'..='\u{066D}' | '\u{06D4}'
            | '\u{0964}' | '\u{0965}' | '\u{0E2F}' | '\u{0E5A}' | '\u{0E5B}'
            | '\u{2000}'..='\u{206F}' | '\u{2E00}'..='\u{2E7F}' | '\u{2581}'
            | '\u{3000}'..='\u{3003}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301F}' | '\u{30FB}'
            | '\u{FE10}'..='\u{FE1F}' | '\u{FE30}'..='\u{FE6F}'
            | '\u{FF01}'..='\u{FF0F}' | '\u{FF1A}'..='\u{FF20}' | '\u{FF3B}'..='\u{FF3F}'
            | '\u{FF5B}'..='\u{FF65}' | '\u{FFFD}')
}

/// Combining marks, joiners and variation selectors: they end what stands before them and begin nothing.
fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{0300}'..='\u{036F}' | '\u{0591}'..='\u{05BD}' | '\u{0610}'..='\u{061A}' | '\u{064B}'..='\u{065F}'
        | '\u{0900}'..='\u{0903}' | '\u{093A}'..='\u{094F}' | '\u{0E31}' | '\u{0E34}'..='\u{0E3A}'
        | '\u{0E47}'..='\u{0E4E}' | '\u{200C}' | '\u{200D}' | '\u{20D0}'..='\u{20FF}' | '\u{FE00}'..='\u{FE0F}'
        | '\u{1F3FB}'..='\u{1F3FF}')
}

/// Letters a phrase may grow by on one side: a token boundary inside a word, not a run of letters without end.
const GROWTH_CHARACTERS_MAX: usize = 32;

/// Sub-word tokens may begin or end inside a word: the phrase then takes the whole word, in scripts that have them. Not
/// in Korean: what a token leaves there is mostly a particle (measured, see the card of the default pack).
fn whole_words(text: &str, range: Range<usize>) -> Range<usize> {
    let joins = |a: char, b: char| {
        let of_word = |c: char| (c.is_alphanumeric() || is_mark(c)) && !is_unspaced(c) && !is_hangul(c);
        of_word(a) && of_word(b)
    };
    let mut start = range.start;
    for _ in 0..GROWTH_CHARACTERS_MAX {
        match (text[..start].chars().next_back(), text[start..].chars().next()) {
            (Some(before), Some(first)) if joins(before, first) => start -= before.len_utf8(),
            _ => break,
        }
    }
    let mut end = range.end;
    for _ in 0..GROWTH_CHARACTERS_MAX {
        match (text[..end].chars().next_back(), text[end..].chars().next()) {
            (Some(last), Some(after)) if joins(last, after) => end += after.len_utf8(),
            _ => break,
        }
    }
    start..end
}

/// Of phrases that overlap, keeps the likeliest (the first of equals); the result is in text order.
pub fn without_overlaps<T>(mut phrases: Vec<(Range<usize>, f64, T)>) -> Vec<(Range<usize>, f64, T)> {
    phrases.sort_by(|a, b| a.0.start.cmp(&b.0.start).then(a.0.end.cmp(&b.0.end)));
    let mut kept: Vec<(Range<usize>, f64, T)> = Vec::with_capacity(phrases.len());
    for phrase in phrases {
        match kept.last_mut() {
            Some(last) if phrase.0.start < last.0.end => {
                if phrase.1 > last.1 {
                    *last = phrase;
                }
            }
            _ => kept.push(phrase),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagger() -> PhraseTagger {
        PhraseTagger {
            head: HeadId(0),
            temperature: 1.0,
            roles: vec![Role::Outside, Role::Begin, Role::Inside],
        }
    }

    fn logits(labels: &str) -> Vec<f32> {
        labels.chars().flat_map(|c| ['O', 'B', 'I'].map(|l| if l == c { 5.0 } else { 0.0 })).collect()
    }

    #[test]
    fn decodes_begin_and_inside() {
        let spans = |labels: &str| -> Vec<Range<usize>> {
            tagger().spans(&logits(labels), 10).unwrap().into_iter().map(|s| s.tokens).collect()
        };
        assert_eq!(spans("OBIIOBB"), [11..14, 15..16, 16..17]);
        assert_eq!(spans("IIOI"), [10..12, 13..14]);
        assert!(spans("OOO").is_empty());
    }

    #[test]
    fn the_score_is_the_mean_probability_of_the_span() {
        let mut l = logits("BI");
        l[4] = 5.0; // the second token is as likely to begin as to continue a phrase
        let expected = |inside: f64| inside / (inside + 1.0);
        let e = 5f64.exp();
        let score = tagger().spans(&l, 0).unwrap();
        // Equal logits: the first label wins, so the second token begins a phrase of its own.
        assert_eq!(score.len(), 2);
        assert!((score[0].score - expected(e + 1.0)).abs() < 1e-9);
        assert!((score[1].score - expected(2.0 * e)).abs() < 1e-9);
        assert_eq!(tagger().spans(&[f32::NAN, 0.0, 0.0], 0), None);
    }

    #[test]
    fn ends_are_cut_to_words() {
        let check = |text: &str, piece: &str, expected: Option<&str>| {
            let start = text.find(piece).unwrap();
            let range = trimmed(text, start..start + piece.len());
            assert_eq!(range.map(|r| &text[r]), expected, "{piece} in {text}");
        };
        check("the connection quality, again", " connection quality,", Some("connection quality"));
        check("the connection quality", "nnection qual", Some("connection quality"));
        check("网络连接质量很差。", "连接质量", Some("连接质量"));
        check("网络连接质量很差。", "很差。", Some("很差"));
        check("خدمة العملاء، سيئة", " العملاء،", Some("العملاء"));
        check("السعر والخدمة", "والخدمة", Some("الخدمة"));
        check("السعر والدعم الفني", "الدعم الفني", Some("الدعم الفني"));
        check("حساب والدتي مغلق", "والدتي", Some("والدتي"));
        check("so 😭👍🏽!", "👍🏽!", Some("👍🏽"));
        check("well ... ok", " ...", None);
        check("at 3.5% now", " 3.5%", Some("3.5"));
    }

    #[test]
    fn of_overlapping_phrases_the_likeliest_stays() {
        let kept = without_overlaps(vec![(4..8, 0.9, 'b'), (0..5, 0.5, 'a'), (8..9, 0.1, 'c')]);
        assert_eq!(kept.iter().map(|k| k.2).collect::<String>(), "bc");
    }
}

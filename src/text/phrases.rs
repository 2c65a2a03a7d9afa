//! Finds many phrases (competitors, watched words, switching cues) in a text at once, in any script.
//!
//! One Aho-Corasick automaton over normalised text. A hit must stand between word boundaries in scripts that write
//! spaces; scripts that don't (Han, kana, Thai, ...) have no boundary to check, and where a script glues particles to a
//! name (Korean after it, Arabic before it) the glue is allowed.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::{
    normalize::{Normalized, normalize},
    script::{is_arabic, is_hangul, is_unspaced},
};

/// A phrase found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index into the list that the matcher was made from.
    pub phrase: usize,
    /// Where it stands, as bytes of the text that was searched.
    pub range: Range<usize>,
}

/// A set of phrases, ready to search.
pub struct Matcher {
    automaton: Option<AhoCorasick>,
    /// Automaton pattern to phrase index: blank phrases have no pattern.
    phrases: Vec<usize>,
}

impl Matcher {
    /// Blank phrases match nothing. The automaton is bounded by the settings' limits on phrases, so building it cannot
    /// fail in practice; should it, nothing matches.
    pub fn new<S: AsRef<str>>(phrases: &[S]) -> Self {
        Self::of_kind(phrases, None)
    }

    /// [`Matcher::new`] for a list that the program holds for ever: several times the memory, half the time.
    pub fn fast<S: AsRef<str>>(phrases: &[S]) -> Self {
        Self::of_kind(phrases, Some(AhoCorasickKind::DFA))
    }

    fn of_kind<S: AsRef<str>>(phrases: &[S], kind: Option<AhoCorasickKind>) -> Self {
        let mut patterns = Vec::new();
        let mut indices = Vec::new();
        for (i, phrase) in phrases.iter().enumerate() {
            let pattern = normalize(phrase.as_ref().trim());
            if !pattern.is_empty() {
                patterns.push(pattern);
                indices.push(i);
            }
        }
        let automaton = (!patterns.is_empty())
            .then(|| AhoCorasick::builder().match_kind(MatchKind::Standard).kind(kind).build(&patterns).ok())
            .flatten();
        Self { automaton, phrases: indices }
    }

    /// Hits in order, the longest first where two begin together; hits do not overlap.
    pub fn find(&self, text: &str) -> Vec<Hit> {
        if self.automaton.is_none() { Vec::new() } else { self.find_in(&Normalized::new(text)) }
    }

    /// [`Matcher::find`] in a text that is normalised already; ranges are bytes of what it was made from.
    pub fn find_in(&self, normalized: &Normalized) -> Vec<Hit> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let mut found: Vec<(usize, usize, usize)> = automaton
            .find_overlapping_iter(&normalized.text)
            .filter(|m| stands_alone(&normalized.text, m.start(), m.end()))
            .map(|m| (m.start(), m.end(), self.phrases[m.pattern().as_usize()]))
            .collect();
        if found.is_empty() {
            return Vec::new();
        }
        found.sort_by_key(|(start, end, phrase)| (*start, std::cmp::Reverse(*end), *phrase));
        let mut hits: Vec<Hit> = Vec::new();
        let mut free_from = 0;
        for (start, end, phrase) in found {
            if start >= free_from {
                free_from = end;
                hits.push(Hit { phrase, range: normalized.origin(start, end) });
            }
        }
        hits
    }
}

fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let inside = &text[start..end];
    let (Some(first), Some(last)) = (inside.chars().next(), inside.chars().next_back()) else { return false };
    starts_word(&text[..start], first) && ends_word(last, &text[end..])
}

fn starts_word(before: &str, first: char) -> bool {
    let Some(previous) = before.chars().next_back() else { return true };
    if !joins(previous, first) {
        return true;
    }
    is_arabic(first) && {
        let glued = before.rsplit(|c: char| !is_arabic(c)).next().unwrap_or("");
        matches!(
            glued,
            "و" | "ف" | "ب" | "ك" | "ل" | "ال" | "لل" | "وال" | "بال" | "فال" | "كال" | "ول" | "وب"
        )
    }
}

fn ends_word(last: char, after: &str) -> bool {
    let Some(next) = after.chars().next() else { return true };
    !joins(last, next) || is_hangul(next)
}

/// Whether two neighbours belong to one word.
fn joins(a: char, b: char) -> bool {
    let in_word = |c: char| c.is_alphanumeric() && !is_unspaced(c);
    in_word(a) && in_word(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(phrases: &[&str], text: &str, expected: &[&str]) {
        let found: Vec<&str> = Matcher::new(phrases).find(text).into_iter().map(|h| &text[h.range]).collect();
        assert_eq!(found, expected, "in {text}");
    }

    #[test]
    fn finds_names_in_any_script() {
        check(&["Airo", "艾罗网络"], "我打算换到艾罗网络，Airo的速度快", &["艾罗网络", "Airo"]);
        check(&["에어로"], "에어로가 더 싸요", &["에어로"]);
        check(&["إيرو"], "سأنتقل إلى إيرو وإيرو أفضل", &["إيرو", "إيرو"]);
        check(&["Airo"], "AIRO'nun fiyatı iyi; ＡＩＲＯ", &["AIRO", "ＡＩＲＯ"]);
        check(&["แอโร"], "ย้ายไปแอโรดีกว่า", &["แอโร"]);
    }

    #[test]
    fn a_name_inside_a_word_is_no_mention() {
        check(&["Airo"], "Cairo and airoplane", &[]);
        check(&["one"], "everyone phones one", &["one"]);
    }

    #[test]
    fn the_longest_name_wins() {
        check(&["Airo", "Airo Networks"], "Airo  Networks or Airo", &["Airo  Networks", "Airo"]);
        check(&["", "  "], "anything", &[]);
    }
}

//! The sentences of a text that hold a mention, with the mention marked. Offsets are Unicode scalar values.

use crate::scores::{Sentence, Sentiment};

/// Characters around a mention that lies in no sentence.
const AROUND_CHARS: usize = 80;

/// Part of a text: pieces in order, `true` where a piece is a mention.
#[derive(Debug, PartialEq, Eq)]
pub struct Passage<'a> {
    /// Of the sentence, where it is one.
    pub sentiment: Option<Sentiment>,
    pub pieces: Vec<(bool, &'a str)>,
    /// Whether the text goes on before and after.
    pub cut: (bool, bool),
}

/// The passages with a mention, in the order of the text; the whole text where nothing is marked. Offsets that do not
/// fit the text are pulled inside it.
pub fn passages<'a>(text: &'a str, sentences: &[Sentence], spans: &[(u32, u32)]) -> Vec<Passage<'a>> {
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let length = bytes.len() - 1;
    let spans = merged(spans, length);
    if spans.is_empty() {
        return vec![Passage { sentiment: None, pieces: vec![(false, text)], cut: (false, false) }];
    }
    let mut passages: Vec<(usize, usize, Option<Sentiment>)> = Vec::new();
    for &(start, end) in &spans {
        let holder = sentences.iter().find(|s| s.start as usize <= start && start < s.end as usize);
        let (from, to, sentiment) = match holder {
            Some(s) => (s.start as usize, (s.end as usize).min(length).max(end), Some(s.sentiment.label)),
            None => (start.saturating_sub(AROUND_CHARS), (end + AROUND_CHARS).min(length), None),
        };
        match passages.last_mut() {
            Some(last) if from < last.1 => last.1 = last.1.max(to),
            _ => passages.push((from, to, sentiment)),
        }
    }
    passages
        .into_iter()
        .map(|(from, to, sentiment)| {
            let mut pieces = Vec::new();
            let mut at = from;
            for &(start, end) in spans.iter().filter(|(start, end)| from <= *start && *end <= to) {
                pieces.push((false, &text[bytes[at]..bytes[start]]));
                pieces.push((true, &text[bytes[start]..bytes[end]]));
                at = end;
            }
            pieces.push((false, &text[bytes[at]..bytes[to]]));
            pieces.retain(|(_, piece)| !piece.is_empty());
            Passage { sentiment, pieces, cut: (from > 0, to < length) }
        })
        .collect()
}

/// Spans in order, inside the text, without overlaps and without empty ones.
fn merged(spans: &[(u32, u32)], length: usize) -> Vec<(usize, usize)> {
    let mut sorted: Vec<(usize, usize)> = spans
        .iter()
        .map(|(start, end)| ((*start as usize).min(length), (*end as usize).min(length)))
        .filter(|(start, end)| start < end)
        .collect();
    sorted.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (start, end) in sorted {
        match merged.last_mut() {
            Some(last) if start < last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::Classified;

    fn sentence(start: u32, end: u32) -> Sentence {
        let sentiment = Classified::new(&[0.8, 0.1, 0.1]).unwrap();
        Sentence { start, end, sentiment }
    }

    fn marked<'a>(passage: &Passage<'a>) -> Vec<&'a str> {
        passage.pieces.iter().filter(|(is, _)| *is).map(|(_, piece)| *piece).collect()
    }

    #[test]
    fn shows_the_sentence_with_the_mention_and_not_the_others() {
        let text = "Bonjour. La qualité baisse. Merci.";
        let sentences = [sentence(0, 8), sentence(9, 27), sentence(28, 34)];
        let found = passages(text, &sentences, &[(12, 19)]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pieces, [(false, "La "), (true, "qualité"), (false, " baisse.")]);
        assert_eq!(found[0].sentiment, Some(Sentiment::Negative));
        assert_eq!(found[0].cut, (true, true));
    }

    #[test]
    fn offsets_count_characters_in_every_script() {
        let text = "انقطاع الشبكة 🙁 اليوم";
        let found = passages(text, &[], &[(7, 13)]);
        assert_eq!(marked(&found[0]), ["الشبكة"]);
        assert_eq!(found[0].pieces.iter().map(|(_, p)| *p).collect::<String>(), text);
    }

    #[test]
    fn overlapping_and_impossible_spans_do_no_harm() {
        let found = passages("outage again", &[], &[(3, 6), (0, 5), (9, 9), (90, 99), (8, 3)]);
        assert_eq!(found.len(), 1);
        assert_eq!(marked(&found[0]), ["outage"]);
        assert_eq!(passages("", &[], &[(0, 4)]).len(), 1);
    }

    #[test]
    fn without_a_mention_the_whole_text_speaks() {
        let found = passages("All of it.", &[sentence(0, 10)], &[]);
        assert_eq!(found[0].pieces, [(false, "All of it.")]);
    }
}

//! From the labels of tokens to parts of a text that have one, as the token-classification pipeline of `transformers`
//! groups them.
//!
//! Label schemes: BIO (Ramshaw and Marcus 1995), IO (labels without a prefix), and BILOU (Ratinov and Roth 2009,
//! "Design Challenges and Misconceptions in Named Entity Recognition"), whose `L-` and `U-` end a group.

use std::ops::Range;

use crate::{engine::tokenize::Tokenizer, text::offsets::ScalarOffsets};

/// How tokens become entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// Every token by itself.
    None,
    /// Neighbouring tokens of one kind.
    Simple,
    /// As simple, and a word has the label of its first token.
    First,
    /// As simple, and a word has the likeliest label of the mean over its tokens.
    Average,
    /// As simple, and a word has the label of its surest token.
    Max,
}

/// A part of a text that has a label.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// The kind (`PER`); with [`Aggregation::None`] the label itself (`B-PER`).
    pub label: String,
    pub score: f64,
    /// Place of the token in its sequence, special tokens counted; only with [`Aggregation::None`].
    pub index: Option<usize>,
    /// The tokens as text, by the model's own decoder.
    pub word: String,
    /// Offsets in Unicode scalar values.
    pub start: u32,
    pub end: u32,
}

/// Probabilities of a token's labels.
pub struct TokenScores {
    pub index: usize,
    pub id: u32,
    pub bytes: Range<usize>,
    pub probabilities: Vec<f64>,
}

/// A token or a word with its label.
struct Labelled<'l> {
    label: &'l str,
    score: f64,
    index: Option<usize>,
    word: String,
    bytes: Range<usize>,
}

/// The label that marks nothing.
const OUTSIDE: &str = "O";

pub fn entities(
    text: &str,
    tokenizer: &Tokenizer,
    labels: &[String],
    aggregation: Aggregation,
    tokens: Vec<TokenScores>,
) -> Vec<Entity> {
    let continues = |t: &TokenScores| tokenizer.continues_word(t.id, text, &t.bytes);
    let labelled: Vec<Labelled> = match aggregation {
        Aggregation::None | Aggregation::Simple => {
            tokens.iter().map(|t| word(tokenizer, labels, aggregation, std::slice::from_ref(t))).collect()
        }
        _ => tokens
            .chunk_by(|_, next| continues(next))
            .map(|tokens| word(tokenizer, labels, aggregation, tokens))
            .collect(),
    };
    let scalars = ScalarOffsets::new(text);
    let entity = |label: &str, score, index, word, bytes: Range<usize>| Entity {
        label: label.to_owned(),
        score,
        index,
        word,
        start: scalars.scalar(bytes.start),
        end: scalars.scalar(bytes.end),
    };
    if aggregation == Aggregation::None {
        return labelled
            .into_iter()
            .filter(|l| l.label != OUTSIDE)
            .map(|l| entity(l.label, l.score, l.index, l.word, l.bytes))
            .collect();
    }
    let same = |last: &Labelled, next: &Labelled| {
        let (last_role, last_kind) = tag(last.label);
        let (role, kind) = tag(next.label);
        kind == last_kind
            && matches!(role, Role::Inside | Role::Last)
            && !matches!(last_role, Role::Last | Role::Unit)
    };
    labelled
        .chunk_by(same)
        .filter_map(|group| {
            let (first, last) = (group.first()?, group.last()?);
            let (_, kind) = tag(first.label);
            if kind == OUTSIDE {
                return None;
            }
            let score = group.iter().map(|l| l.score).sum::<f64>() / group.len() as f64;
            let word = tokenizer.joined(group.iter().map(|l| l.word.clone()).collect());
            Some(entity(kind, score, None, word, first.bytes.start..last.bytes.end))
        })
        .collect()
}

/// The label of a word, from those of its tokens.
fn word<'l>(
    tokenizer: &Tokenizer,
    labels: &'l [String],
    aggregation: Aggregation,
    tokens: &[TokenScores],
) -> Labelled<'l> {
    let likeliest = |p: &[f64]| (0..p.len()).fold(0, |best, i| if p[i] > p[best] { i } else { best });
    let top = |t: &TokenScores| t.probabilities[likeliest(&t.probabilities)];
    let mean = || {
        let mut sum = vec![0.0; labels.len()];
        for token in tokens {
            sum.iter_mut().zip(&token.probabilities).for_each(|(s, p)| *s += p);
        }
        sum.into_iter().map(|s| s / tokens.len() as f64).collect::<Vec<f64>>()
    };
    let probabilities = match aggregation {
        Aggregation::Average => mean(),
        // The first of the surest wins.
        Aggregation::Max => tokens
            .iter()
            .reduce(|best, t| if top(t) > top(best) { t } else { best })
            .map(|t| t.probabilities.clone())
            .unwrap_or_default(),
        _ => tokens.first().map(|t| t.probabilities.clone()).unwrap_or_default(),
    };
    let label = likeliest(&probabilities);
    let parts: Vec<String> = tokens.iter().map(|t| tokenizer.token(t.id)).collect();
    let start = tokens.first().map_or(0, |t| t.bytes.start);
    Labelled {
        label: labels.get(label).map_or(OUTSIDE, String::as_str),
        score: probabilities.get(label).copied().unwrap_or(0.0),
        index: (aggregation == Aggregation::None).then(|| tokens.first().map_or(0, |t| t.index)),
        word: match aggregation {
            Aggregation::None | Aggregation::Simple => parts.concat(),
            _ => tokenizer.joined(parts),
        },
        bytes: start..tokens.last().map_or(start, |t| t.bytes.end),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Begin,
    Inside,
    Last,
    Unit,
}

/// What a label says of its token, and the kind. A label without a prefix goes on with what stands before it.
fn tag(label: &str) -> (Role, &str) {
    for (prefix, role) in [("B-", Role::Begin), ("I-", Role::Inside), ("L-", Role::Last), ("U-", Role::Unit)]
    {
        if let Some(kind) = label.strip_prefix(prefix) {
            return (role, kind);
        }
    }
    (Role::Inside, label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{
        decoders::wordpiece::WordPiece as Joiner, models::wordpiece::WordPiece,
        pre_tokenizers::whitespace::WhitespaceSplit,
    };

    fn tokenizer() -> Tokenizer {
        let vocabulary = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&vocabulary, "[UNK]\nmicro\n##soft\nin\nparis\njo\n").unwrap();
        let model = WordPiece::from_file(vocabulary.path().to_str().unwrap()).build().unwrap();
        let mut inner = tokenizers::Tokenizer::new(model);
        inner.with_pre_tokenizer(Some(WhitespaceSplit));
        inner.with_decoder(Some(Joiner::default()));
        Tokenizer::new(inner).unwrap()
    }

    /// Groups of "microsoft in paris jo" whose tokens (micro, ##soft, in, paris, jo) have these labels and chances.
    fn check(
        aggregation: Aggregation,
        labels: &[&str],
        chosen: &[(usize, f64)],
        expected: &[(&str, &str, u32, u32)],
    ) {
        let (text, tokenizer) = ("microsoft in paris jo", tokenizer());
        let tokens = tokenizer.encode(text).unwrap();
        let scores = (0..tokens.ids.len())
            .map(|i| {
                let (label, p) = chosen[i];
                let mut probabilities = vec![(1.0 - p) / (labels.len() - 1) as f64; labels.len()];
                probabilities[label] = p;
                TokenScores { index: i, id: tokens.ids[i], bytes: tokens.offsets[i].clone(), probabilities }
            })
            .collect();
        let labels: Vec<String> = labels.iter().map(|l| l.to_string()).collect();
        let found = entities(text, &tokenizer, &labels, aggregation, scores);
        let found: Vec<_> =
            found.iter().map(|e| (e.label.as_str(), e.word.as_str(), e.start, e.end)).collect();
        assert_eq!(found, expected, "{aggregation:?}");
    }

    #[test]
    fn every_strategy_decides_words_in_its_own_way() {
        let bio = ["O", "B-ORG", "I-ORG", "B-LOC"];
        let labels = [(1, 0.6), (3, 0.9), (0, 0.9), (3, 0.8), (0, 0.9)];
        check(
            Aggregation::None,
            &bio,
            &labels,
            &[("B-ORG", "micro", 0, 5), ("B-LOC", "##soft", 5, 9), ("B-LOC", "paris", 13, 18)],
        );
        check(
            Aggregation::Simple,
            &bio,
            &labels,
            &[("ORG", "micro", 0, 5), ("LOC", "##soft", 5, 9), ("LOC", "paris", 13, 18)],
        );
        check(Aggregation::First, &bio, &labels, &[("ORG", "microsoft", 0, 9), ("LOC", "paris", 13, 18)]);
        check(Aggregation::Max, &bio, &labels, &[("LOC", "microsoft", 0, 9), ("LOC", "paris", 13, 18)]);
        check(Aggregation::Average, &bio, &labels, &[("LOC", "microsoft", 0, 9), ("LOC", "paris", 13, 18)]);
    }

    #[test]
    fn io_goes_on_and_bilou_ends_its_groups() {
        let io = ["O", "LOC"];
        check(
            Aggregation::Simple,
            &io,
            &[(0, 0.9), (0, 0.9), (1, 0.9), (1, 0.9), (0, 0.9)],
            &[("LOC", "in paris", 10, 18)],
        );
        let bilou = ["O", "B-LOC", "I-LOC", "L-LOC", "U-LOC"];
        check(
            Aggregation::Simple,
            &bilou,
            &[(0, 0.9), (0, 0.9), (1, 0.9), (3, 0.9), (4, 0.9)],
            &[("LOC", "in paris", 10, 18), ("LOC", "jo", 19, 21)],
        );
        // Two that begin stand apart.
        check(
            Aggregation::Simple,
            &bilou,
            &[(0, 0.9), (0, 0.9), (1, 0.9), (1, 0.9), (2, 0.9)],
            &[("LOC", "in", 10, 12), ("LOC", "paris jo", 13, 21)],
        );
    }
}

//! Charts as SVG: pure functions from counts to markup, without colours, sizes or text of their own style.
//!
//! Colours come from the style sheet by class (`positive`, `complaint`, ...), so that light and dark and colour-blind
//! readers are served in one place. A chart carries a title and a description for screen readers; the numbers
//! themselves stand in a table beside it, which is the panel's work.

pub mod balance;

pub mod columns;

pub mod interval;

pub mod ring;

pub mod share;

use crate::scores::{Intent, Label, Sentiment};

/// A countable part of a whole, with the style class that colours it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: &'static str,
    pub class: &'static str,
    pub count: u64,
}

/// Positive, neutral and negative, in the order in which charts show them.
pub fn sentiment_parts(positive: u64, neutral: u64, negative: u64) -> [Part; 3] {
    [(Sentiment::Positive, positive), (Sentiment::Neutral, neutral), (Sentiment::Negative, negative)]
        .map(|(label, count)| Part { name: label.name(), class: label.name(), count })
}

/// The four intents, in the order in which charts show them.
pub fn intent_parts(complaint: u64, purchase: u64, request: u64, other: u64) -> [Part; 4] {
    [
        (Intent::Complaint, complaint),
        (Intent::Purchase, purchase),
        (Intent::Request, request),
        (Intent::Other, other),
    ]
    .map(|(label, count)| Part { name: label.name(), class: label.name(), count })
}

pub fn total(parts: &[Part]) -> u64 {
    parts.iter().map(|p| p.count).sum()
}

/// `12 positive (28.6 %), 13 neutral (31.0 %)`: what a screen reader says of a chart.
pub fn in_words(parts: &[Part]) -> String {
    let total = total(parts);
    if total == 0 {
        return "nothing yet".into();
    }
    let words: Vec<String> = parts
        .iter()
        .map(|p| format!("{} {} ({:.1} %)", p.count, p.name, share_pct(p.count, total)))
        .collect();
    words.join(", ")
}

/// Percent of a whole; 0 of nothing.
pub fn share_pct(count: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { count as f64 * 100.0 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_counts_and_shares_in_words() {
        let words = in_words(&sentiment_parts(1, 0, 3));
        assert_eq!(words, "1 positive (25.0 %), 0 neutral (0.0 %), 3 negative (75.0 %)");
        assert_eq!(in_words(&sentiment_parts(0, 0, 0)), "nothing yet");
    }
}

//! Long texts in windows: which tokens each window reads, and which of them it answers for.

use std::ops::Range;

/// A part of a text that goes through the model as one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Tokens that it reads.
    pub tokens: Range<usize>,
    /// Tokens that it answers for: every token of the text belongs to the one window that has most context around it.
    pub owned: Range<usize>,
}

/// Tokens that neighbouring windows share, as a part of a window: an eighth on the least favourable side.
const OVERLAP_DIVISOR: usize = 8;

/// Cuts `tokens` into windows of at most `window_tokens_max`, evenly spread; their number grows linearly.
pub fn windows(tokens: usize, window_tokens_max: usize) -> Vec<Window> {
    if tokens <= window_tokens_max {
        return vec![Window { tokens: 0..tokens, owned: 0..tokens }];
    }
    let stride_max = window_tokens_max - window_tokens_max / OVERLAP_DIVISOR;
    let count = (tokens - window_tokens_max).div_ceil(stride_max.max(1)) + 1;
    let starts = (0..count).map(|i| i * (tokens - window_tokens_max) / (count - 1));
    let mut windows: Vec<Window> =
        starts.map(|start| Window { tokens: start..start + window_tokens_max, owned: 0..tokens }).collect();
    for i in 1..windows.len() {
        let middle = (windows[i].tokens.start + windows[i - 1].tokens.end) / 2;
        windows[i - 1].owned.end = middle;
        windows[i].owned.start = middle;
    }
    windows
}

/// The window that holds most of `span`; of several, the one in which it lies furthest from the edges.
pub fn best_window(windows: &[Window], span: &Range<usize>) -> Option<usize> {
    let rank = |w: &Window| {
        let from = w.tokens.start.max(span.start);
        let to = w.tokens.end.min(span.end);
        let margin = from.saturating_sub(w.tokens.start).min(w.tokens.end.saturating_sub(to));
        (to.saturating_sub(from), margin)
    };
    // The first of the best wins, so that the choice does not depend on the order of comparisons.
    let mut best: Option<(usize, (usize, usize))> = None;
    for (i, window) in windows.iter().enumerate() {
        let rank = rank(window);
        if rank.0 > 0 && best.is_none_or(|(_, b)| rank > b) {
            best = Some((i, rank));
        }
    }
    best.map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_is_one_window() {
        assert_eq!(windows(10, 10), [Window { tokens: 0..10, owned: 0..10 }]);
        assert_eq!(windows(0, 10), [Window { tokens: 0..0, owned: 0..0 }]);
    }

    #[test]
    fn every_token_is_owned_once_by_a_window_that_reads_it() {
        for window in [2, 16, 62, 510] {
            for tokens in [1, window, window + 1, 2 * window - 1, 5 * window + 3, 20_000] {
                let all = windows(tokens, window);
                let mut next = 0;
                for w in &all {
                    assert_eq!(w.owned.start, next);
                    assert!(w.tokens.start <= w.owned.start && w.owned.end <= w.tokens.end, "{w:?}");
                    assert!(w.tokens.len() <= window);
                    next = w.owned.end;
                }
                assert_eq!(next, tokens);
                let read: usize = all.iter().map(|w| w.tokens.len()).sum();
                assert!(window < 16 || read <= tokens * 8 / 7 + 2 * window, "{tokens} cost {read}");
            }
        }
    }

    #[test]
    fn a_span_goes_to_the_window_that_holds_it_best() {
        let all = windows(180, 100);
        assert_eq!(all.iter().map(|w| w.tokens.clone()).collect::<Vec<_>>(), [0..100, 80..180]);
        assert_eq!(best_window(&all, &(81..85)), Some(0));
        assert_eq!(best_window(&all, &(95..99)), Some(1));
        assert_eq!(best_window(&all, &(98..104)), Some(1));
        assert_eq!(best_window(&all, &(180..180)), None);
    }
}

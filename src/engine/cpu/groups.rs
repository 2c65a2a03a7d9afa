//! How a batch is cut into groups of whole sequences.
//!
//! A group goes through all layers on one thread: its rows stay in that core's cache and no thread waits for another
//! until the end. Only a batch that is a single sequence is worked on by several threads at a time.

use std::ops::Range;

use crate::engine::batch::PackedBatch;

/// Sequences of a group, and the rows that they take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub sequences: Range<usize>,
    pub rows: Range<usize>,
}

/// Cuts into groups of about `rows_max` rows, or of fewer, so that every thread gets as many groups as the others.
pub fn groups(batch: &PackedBatch, threads: usize, rows_max: usize) -> Vec<Group> {
    let ends = &batch.cu_seqlens;
    let sequences = ends.len() - 1;
    let rounds = batch.tokens().div_ceil(rows_max * threads).max(1);
    let target = batch.tokens().div_ceil(rounds * threads);
    let mut groups = Vec::with_capacity(rounds * threads + 1);
    let mut first = 0;
    while first < sequences {
        let start = ends[first] as usize;
        // The end that comes closest to the target, by whole sequences and at least one.
        let mut end = first + 1;
        while end < sequences {
            let (now, next) = (ends[end] as usize - start, ends[end + 1] as usize - start);
            if now >= target || next - target.min(next) > target - now {
                break;
            }
            end += 1;
        }
        groups.push(Group { sequences: first..end, rows: start..ends[end] as usize });
        first = end;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(lens: &[usize], threads: usize, rows_max: usize) -> Vec<usize> {
        let mut batch = PackedBatch::new();
        for len in lens {
            batch.push(vec![7; *len]);
        }
        let groups = groups(&batch, threads, rows_max);
        let mut at = (0, 0);
        for group in &groups {
            assert_eq!((group.sequences.start, group.rows.start), at);
            at = (group.sequences.end, group.rows.end);
        }
        assert_eq!(at, (lens.len(), batch.tokens()), "nothing is left out");
        groups.iter().map(|g| g.rows.len()).collect()
    }

    #[test]
    fn groups_are_even_and_of_whole_sequences() {
        assert_eq!(cut(&[10; 8], 2, 1000), [40, 40]);
        assert_eq!(cut(&[10; 8], 2, 20), [20, 20, 20, 20]);
        assert_eq!(cut(&[100, 1, 1, 1], 2, 64), [100, 3]);
        assert_eq!(cut(&[1, 100, 1], 2, 64), [101, 1]);
        assert_eq!(cut(&[512], 4, 64), [512]);
        assert_eq!(cut(&[], 2, 64), Vec::<usize>::new());
        assert_eq!(cut(&[0, 3, 0], 2, 64).iter().sum::<usize>(), 3);
    }
}

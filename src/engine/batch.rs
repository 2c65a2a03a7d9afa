//! Sequences of different lengths, laid end to end: no padding anywhere.

/// The input of one forward pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedBatch {
    /// Token ids of all sequences, one after another.
    pub ids: Vec<u32>,
    /// Place of each token in its own sequence, from 0.
    pub positions: Vec<u32>,
    /// Where each sequence starts, and where the last one ends: one entry more than there are sequences.
    pub cu_seqlens: Vec<u32>,
    /// Token type of each token where a sequence holds a pair of texts; empty where every token is of the first type.
    pub token_types: Vec<u32>,
}

impl PackedBatch {
    pub fn new() -> Self {
        Self { ids: Vec::new(), positions: Vec::new(), cu_seqlens: vec![0], token_types: Vec::new() }
    }

    /// Appends a sequence and returns the row of its first token.
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>) -> usize {
        let first_row = self.ids.len();
        self.ids.extend(ids);
        self.positions.extend(0..(self.ids.len() - first_row) as u32);
        self.cu_seqlens.push(self.ids.len() as u32);
        if !self.token_types.is_empty() {
            self.token_types.resize(self.ids.len(), 0);
        }
        first_row
    }

    /// Appends a sequence that holds two texts: from its token `second` on, tokens are of type `second_type`.
    pub fn push_pair(
        &mut self,
        ids: impl IntoIterator<Item = u32>,
        second: usize,
        second_type: u32,
    ) -> usize {
        let first_row = self.push(ids);
        if second_type != 0 {
            self.token_types.resize((first_row + second).min(self.ids.len()), 0);
            self.token_types.resize(self.ids.len(), second_type);
        }
        first_row
    }

    /// Token type of a row.
    pub fn token_type(&self, row: usize) -> u32 {
        self.token_types.get(row).copied().unwrap_or(0)
    }

    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// First row and length of every sequence.
    pub fn sequences(&self) -> impl Iterator<Item = (usize, usize)> {
        self.cu_seqlens.windows(2).map(|w| (w[0] as usize, (w[1] - w[0]) as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_begin_anew_in_every_sequence() {
        let mut batch = PackedBatch::new();
        assert_eq!((batch.push([5, 6, 7]), batch.push([]), batch.push([8, 9])), (0, 3, 3));
        assert_eq!(batch.ids, [5, 6, 7, 8, 9]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1]);
        assert_eq!(batch.cu_seqlens, [0, 3, 3, 5]);
        assert_eq!(batch.sequences().collect::<Vec<_>>(), [(0, 3), (3, 0), (3, 2)]);
    }

    #[test]
    fn only_the_second_text_of_a_pair_has_another_type() {
        let mut batch = PackedBatch::new();
        batch.push([1, 2]);
        assert!(batch.token_types.is_empty());
        batch.push_pair([1, 2, 3], 2, 1);
        batch.push([1]);
        batch.push_pair([1, 2], 1, 0);
        assert_eq!((0..8).map(|row| batch.token_type(row)).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 0, 0, 0]);
    }
}

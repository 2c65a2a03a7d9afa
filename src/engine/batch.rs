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
}

impl PackedBatch {
    pub fn new() -> Self {
        Self { ids: Vec::new(), positions: Vec::new(), cu_seqlens: vec![0] }
    }

    /// Appends a sequence and returns the row of its first token.
    pub fn push(&mut self, ids: impl IntoIterator<Item = u32>) -> usize {
        let first_row = self.ids.len();
        self.ids.extend(ids);
        self.positions.extend(0..(self.ids.len() - first_row) as u32);
        self.cu_seqlens.push(self.ids.len() as u32);
        first_row
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
}

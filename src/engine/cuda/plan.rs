//! How a batch is laid out for the device: buckets of rows, tiles of attention, parts of a batch. Arithmetic only.
//!
//! Every launch of a forward pass has one of a few sizes, so that products are planned once and small batches can be
//! recorded. Rows between the last token and the end of a bucket are computed and never read.

use std::ops::Range;

use crate::engine::batch::PackedBatch;

/// Queries of one block of attention (`QUERIES` in `attention.cu`).
pub const QUERIES: usize = 64;

/// Rows of a launch for `tokens`: the next size of a ladder whose steps are an eighth to a quarter of where they stand,
/// and never under 16 rows, the height of the matrix instructions.
pub fn bucket(tokens: usize) -> usize {
    let step = match tokens {
        0..=128 => 16,
        129..=512 => 64,
        513..=2_048 => 128,
        _ => 256,
    };
    tokens.next_multiple_of(step).max(step)
}

/// Blocks of a launch of attention for `tiles`: the next power of two, so that few recordings serve all batches.
pub fn tile_bucket(tiles: usize) -> usize {
    tiles.next_power_of_two()
}

/// Sequences of a batch that go through the layers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// First row counted from the part's own start, length, first query, 0.
    pub tiles: Vec<[u32; 4]>,
}

/// Cuts a batch into parts of at most `tokens_max`, between sequences. A sequence longer than that is a part of its own.
pub fn parts(batch: &PackedBatch, tokens_max: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (first, length) in batch.sequences().filter(|(_, length)| *length > 0) {
        let fits = parts.last().is_some_and(|p| first + length - p.rows.start <= tokens_max);
        if !fits {
            parts.push(Part { rows: first..first, tiles: Vec::new() });
        }
        // There is one: it was just pushed, or it fits.
        if let Some(part) = parts.last_mut() {
            let start = (first - part.rows.start) as u32;
            part.rows.end = first + length;
            part.tiles.extend((0..length).step_by(QUERIES).map(|q| [start, length as u32, q as u32, 0]));
        }
    }
    parts
}

/// Places of a part's inputs in one buffer that is sent in one piece: ids, positions, tiles; each begins at a multiple of
/// 256 bytes, at the same place for every part of the same buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputLayout {
    pub rows: usize,
    pub tiles: usize,
}

/// Places in device memory are multiples of this.
pub const ALIGNMENT: usize = 256;

impl InputLayout {
    pub fn of(part: &Part) -> Self {
        Self { rows: bucket(part.rows.len()), tiles: tile_bucket(part.tiles.len()) }
    }

    pub fn positions_at(self) -> usize {
        (4 * self.rows).next_multiple_of(ALIGNMENT)
    }

    pub fn tiles_at(self) -> usize {
        2 * self.positions_at()
    }

    pub fn bytes(self) -> usize {
        self.tiles_at() + 16 * self.tiles
    }

    /// Most bytes that a part of `tokens_max` can need: every token a sequence of its own.
    pub fn bytes_max(tokens_max: usize) -> usize {
        Self { rows: bucket(tokens_max), tiles: tile_bucket(tokens_max) }.bytes()
    }

    /// Writes a part into `buffer`. What is beyond its tokens and tiles becomes 0: token 0, and tiles that do nothing.
    pub fn write(self, batch: &PackedBatch, part: &Part, buffer: &mut [u8]) {
        let fill = |buffer: &mut [u8], values: &mut dyn Iterator<Item = u32>| {
            for place in buffer.as_chunks_mut::<4>().0 {
                *place = values.next().unwrap_or(0).to_ne_bytes();
            }
        };
        let rows = part.rows.clone();
        fill(&mut buffer[..4 * self.rows], &mut batch.ids[rows.clone()].iter().copied());
        let at = self.positions_at();
        fill(&mut buffer[at..at + 4 * self.rows], &mut batch.positions[rows].iter().copied());
        fill(&mut buffer[self.tiles_at()..self.bytes()], &mut part.tiles.iter().flatten().copied());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_few_and_waste_little() {
        let mut sizes: Vec<usize> = (1..=16_384).map(bucket).collect();
        sizes.dedup();
        assert!(sizes.len() < 100, "{}", sizes.len());
        assert!(sizes.is_sorted());
        for tokens in 1..=16_384 {
            let rows = bucket(tokens);
            assert!(rows >= tokens && rows.is_multiple_of(16));
            assert!(tokens < 128 || rows - tokens < tokens / 2, "{tokens} in {rows}");
        }
        assert_eq!(bucket(0), 16);
    }

    proptest! {
        #[test]
        fn parts_hold_every_token_once_and_tiles_every_query_once(
            lengths in proptest::collection::vec(0usize..300, 0..40), tokens_max in 1usize..600
        ) {
            let mut batch = PackedBatch::new();
            for (i, length) in lengths.iter().enumerate() {
                batch.push(std::iter::repeat_n(i as u32, *length));
            }
            let parts = parts(&batch, tokens_max);
            let mut next = 0;
            for part in &parts {
                prop_assert_eq!(part.rows.start, next);
                next = part.rows.end;
                let sequences = batch.ids[part.rows.clone()].chunk_by(|a, b| a == b);
                prop_assert!(part.rows.len() <= tokens_max || sequences.count() == 1);
                let mut queries = Vec::new();
                for [start, length, query, _] in &part.tiles {
                    prop_assert!(query % QUERIES as u32 == 0 && query < length);
                    queries.extend((start + query)..start + (query + QUERIES as u32).min(*length));
                }
                prop_assert!(queries.into_iter().eq(0..part.rows.len() as u32));
            }
            prop_assert_eq!(next, batch.tokens());
        }

        #[test]
        fn a_written_part_reads_back_and_the_rest_is_zero(lengths in proptest::collection::vec(1usize..90, 1..9)) {
            let mut batch = PackedBatch::new();
            for length in &lengths {
                batch.push(1000..1000 + *length as u32);
            }
            let part = &parts(&batch, usize::MAX)[0];
            let layout = InputLayout::of(part);
            let mut buffer = vec![0xAA; layout.bytes()];
            layout.write(&batch, part, &mut buffer);
            let read = |at: usize, count: usize| -> Vec<u32> {
                buffer[at..at + 4 * count].as_chunks::<4>().0.iter().map(|b| u32::from_ne_bytes(*b)).collect()
            };
            let mut ids = batch.ids.clone();
            ids.resize(layout.rows, 0);
            prop_assert_eq!(read(0, layout.rows), ids);
            prop_assert_eq!(&read(layout.positions_at(), layout.rows)[..batch.tokens()], &batch.positions[..]);
            let mut tiles: Vec<u32> = part.tiles.iter().flatten().copied().collect();
            tiles.resize(4 * layout.tiles, 0);
            prop_assert_eq!(read(layout.tiles_at(), 4 * layout.tiles), tiles);
            prop_assert!(layout.bytes() <= InputLayout::bytes_max(batch.tokens()));
        }
    }
}

//! The packed form of B, the right-hand matrix of a product.
//!
//! Columns come in panels of [`COLUMNS`]. Inside a panel, f32 values lie row after row. Smaller numbers lie as AMX tiles
//! want them, which dot-product instructions read just as well: a *group* is 64 bytes of the inner dimension (64 int8 or
//! 32 bf16); it holds two tiles (16 columns each) of 16 rows of 64 bytes; a row holds, for each of its 16 columns, the 4
//! bytes of the inner dimension (4 int8 or 2 bf16) that are multiplied and added in one lane.

use crate::memory::Aligned;

/// Columns of a panel.
pub const COLUMNS: usize = 32;
/// Most rows of a block.
pub const ROWS: usize = 32;
/// Bytes of a group in one column.
pub const GROUP_BYTES: usize = 64;
/// Bytes of a panel's group: two tiles of 1 KiB.
pub const PANEL_GROUP_BYTES: usize = COLUMNS * GROUP_BYTES;

/// Where byte `b` of the inner dimension of column `c` lies in a panel.
#[inline(always)]
pub fn byte_at(b: usize, c: usize) -> usize {
    let (group, within) = (b / GROUP_BYTES, b % GROUP_BYTES);
    let (tile, column) = (c / 16, c % 16);
    group * PANEL_GROUP_BYTES + tile * 1024 + within / 4 * 64 + column * 4 + within % 4
}

/// Bytes of the inner dimension, rounded up to whole groups.
pub fn padded_bytes(inner: usize, bytes_each: usize) -> usize {
    (inner * bytes_each).next_multiple_of(GROUP_BYTES)
}

/// Packs a matrix of outputs x inputs (a checkpoint's layout), `E` bytes a number.
pub fn pack_bytes<const E: usize>(
    outputs: usize,
    inputs: usize,
    value: impl Fn(usize, usize) -> [u8; E],
) -> Aligned<u8> {
    let panel_bytes = padded_bytes(inputs, E) * COLUMNS;
    let mut packed = Aligned::zeroed(outputs.div_ceil(COLUMNS) * panel_bytes);
    for output in 0..outputs {
        let panel = &mut packed[output / COLUMNS * panel_bytes..][..panel_bytes];
        for input in 0..inputs {
            let at = byte_at(input * E, output % COLUMNS);
            panel[at..at + E].copy_from_slice(&value(output, input));
        }
    }
    packed
}

/// Packs a matrix of outputs x inputs in f32.
pub fn pack_f32(outputs: usize, inputs: usize, weight: &[f32]) -> Aligned<f32> {
    let mut packed = Aligned::zeroed(outputs.next_multiple_of(COLUMNS) * inputs);
    for (output, channel) in weight.chunks_exact(inputs).enumerate() {
        let panel = &mut packed[output / COLUMNS * COLUMNS * inputs..][..COLUMNS * inputs];
        for (input, w) in channel.iter().enumerate() {
            panel[input * COLUMNS + output % COLUMNS] = *w;
        }
    }
    packed
}

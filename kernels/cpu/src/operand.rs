//! The left-hand side of products: rows of floats, made into the numbers that are multiplied.

use rten_simd::{Isa, SimdOp, ops::BitOps};

use crate::{
    dense::Arithmetic,
    memory::Aligned,
    product::padded_rows,
    tile::{self, GROUP_BYTES},
    vector::quantise::QuantiseRows,
};

/// Rows made ready once for every layer of the same arithmetic that reads them.
#[derive(Default)]
pub struct Operand {
    pub(crate) form: Form,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    /// Bytes from one row to the next, in the forms that have rows.
    pub(crate) stride: usize,
    bytes: Aligned<u8>,
    pub(crate) scales: Aligned<f32>,
    pub(crate) shifts: Aligned<f32>,
    floats: Aligned<f32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Empty,
    /// Tiles of this many rows: for each place in a row, the numbers of all rows of the tile.
    F32 { tile_rows: usize },
    /// Rows of bf16, zeros behind them up to whole groups.
    Bf16,
    /// Rows of bytes, anything behind them up to whole groups.
    Int8,
    /// Rows of bytes end to end.
    Int8Dense,
}

impl Operand {
    /// Takes rows of `width` numbers, end to end.
    pub fn prepare(&mut self, arithmetic: Arithmetic, x: &[f32], width: usize) {
        self.rows = x.len() / width;
        self.width = width;
        match arithmetic {
            Arithmetic::F32 => {
                let tile_rows = PackTiles { x, width, to: &mut self.floats }.dispatch();
                self.form = Form::F32 { tile_rows };
            }
            Arithmetic::Bf16(_) => {
                self.form = Form::Bf16;
                self.stride = tile::padded_bytes(width, 2);
                let bytes = self.bytes.sized(padded_rows(self.rows) * self.stride);
                for (row, to) in x.chunks_exact(width).zip(bytes.chunks_exact_mut(self.stride)) {
                    let (values, rest) = to.split_at_mut(2 * width);
                    to_bf16_bytes(row, values);
                    rest.fill(0);
                }
            }
            Arithmetic::Int8(kernel) => {
                (self.form, self.stride) = match kernel.block() {
                    Some(_) => (Form::Int8, width.next_multiple_of(GROUP_BYTES)),
                    None => (Form::Int8Dense, width),
                };
                QuantiseRows {
                    rows: x,
                    width,
                    quantised: self.bytes.sized(padded_rows(self.rows) * self.stride),
                    stride: self.stride,
                    scales: self.scales.sized(self.rows),
                    shifts: self.shifts.sized(self.rows),
                }
                .dispatch();
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn floats(&self) -> &[f32] {
        &self.floats
    }
}

/// Rows of a tile of f32 products: as many as registers hold sums of beside two vectors of B.
pub(crate) fn tile_rows(lanes: usize) -> usize {
    if lanes == 16 { 12 } else { 6 }
}

struct PackTiles<'a> {
    x: &'a [f32],
    width: usize,
    to: &'a mut Aligned<f32>,
}

impl SimdOp for PackTiles<'_> {
    type Output = usize;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> usize {
        let tile_rows = tile_rows(isa.f32().len());
        let rows = self.x.len() / self.width;
        let to = self.to.sized(rows.next_multiple_of(tile_rows) * self.width);
        for (tile, to) in
            self.x.chunks(tile_rows * self.width).zip(to.chunks_exact_mut(tile_rows * self.width))
        {
            if tile.len() < to.len() {
                to.fill(0.0);
            }
            for (r, row) in tile.chunks_exact(self.width).enumerate() {
                for (x, to) in row.iter().zip(to.chunks_exact_mut(tile_rows)) {
                    to[r] = *x;
                }
            }
        }
        tile_rows
    }
}

/// Rounds to the nearest bf16, ties to even; not a number stays one.
pub fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

pub(crate) fn to_bf16(x: &[f32], to: &mut [u16]) {
    assert_eq!(x.len(), to.len());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: whoever makes bf16 numbers has found AVX-512 BF16; there is room for each.
    unsafe {
        crate::avx512::convert_bf16(x, to.as_mut_ptr());
    }
    #[cfg(not(target_arch = "x86_64"))]
    to.iter_mut().zip(x).for_each(|(to, x)| *to = bf16_bits(*x));
}

fn to_bf16_bytes(x: &[f32], to: &mut [u8]) {
    // SAFETY: every bit pattern is a number; the ends that are not aligned would be cut off, which is checked.
    let (before, halves, after) = unsafe { to.align_to_mut::<u16>() };
    assert!(before.is_empty() && after.is_empty(), "rows begin on cache lines");
    to_bf16(x, halves);
}

//! The kernels behind one signature, and the buffers that they read and write.

use crate::{
    cpu::{Bf16, Int8},
    memory::Aligned,
    tile::{COLUMNS, ROWS},
};

/// Multiplies one block: `(a, a_stride in bytes, rows, panel, groups of 64 bytes, c, c_stride in bytes)`.
///
/// A's rows are read up to the next multiple of 16, C's rows are written up to it: buffers have room for them, see
/// [`padded_rows`].
pub type Block = unsafe fn(*const u8, usize, usize, *const u8, usize, *mut u8, usize);

/// Rows that a buffer must have for blocks over `rows` of them.
pub fn padded_rows(rows: usize) -> usize {
    rows.next_multiple_of(16)
}

/// Results of one block, row after row.
pub struct BlockSums(Aligned<i32>);

impl BlockSums {
    /// Bytes from one row to the next.
    pub const STRIDE_BYTES: usize = COLUMNS * 4;

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

impl Default for BlockSums {
    fn default() -> Self {
        Self(Aligned::zeroed(ROWS * COLUMNS))
    }
}

/// Whatever a kernel needs set up on its thread, for as long as this lives.
pub struct Ready {
    #[cfg(target_arch = "x86_64")]
    _tiles: Option<crate::amx::Tiles>,
}

impl Int8 {
    /// The block kernel; none where whole products go to `rten-gemm`.
    pub(crate) fn block(self) -> Option<Block> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Some(crate::amx::int8),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => Some(crate::avx512::int8),
            _ => None,
        }
    }

    pub(crate) fn ready(self) -> Ready {
        Ready::with_tiles(self == Self::Amx)
    }
}

impl Bf16 {
    pub(crate) fn block(self) -> Block {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => crate::amx::bf16,
            #[cfg(target_arch = "x86_64")]
            Self::Dot => crate::avx512::bf16,
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("Bf16::available is empty here"),
        }
    }

    pub(crate) fn ready(self) -> Ready {
        Ready::with_tiles(self == Self::Amx)
    }
}

impl Ready {
    #[cfg(target_arch = "x86_64")]
    fn with_tiles(tiles: bool) -> Self {
        // SAFETY: a kernel on tiles is only made where `cpu` found them and the kernel permitted them.
        Self { _tiles: tiles.then(|| unsafe { crate::amx::Tiles::set_up() }) }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn with_tiles(_: bool) -> Self {
        Self {}
    }
}

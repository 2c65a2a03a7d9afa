//! The kernels behind one signature, and the buffers that they read and write.

use crate::{
    cpu::{Bf16, Int8},
    memory::Aligned,
    tile::COLUMNS,
};

/// Multiplies one block; what `Step` says must hold.
pub type Block = unsafe fn(&Step);

/// One block: up to [`tile::ROWS`](crate::tile::ROWS) rows of A times some groups of one panel.
pub struct Step {
    /// Rows of `groups` x 64 bytes; read up to the next multiple of 16 rows.
    pub a: *const u8,
    /// Bytes from one row to the next.
    pub a_stride: usize,
    pub rows: usize,
    /// Groups of a panel, end to end.
    pub b: *const u8,
    /// At least one.
    pub groups: usize,
    /// Rows of 32 sums; written up to the next multiple of 16 rows.
    pub c: *mut u8,
    /// Bytes from one row to the next.
    pub c_stride: usize,
    /// Whether sums go on from what is in C.
    pub accumulate: bool,
    /// What to fetch meanwhile, [`AHEAD_BYTES`] for each group, in steps of `ahead_step` bytes.
    pub ahead: *const u8,
    pub ahead_step: usize,
}

/// Bytes fetched ahead for each group that is multiplied: over four blocks of rows, one group.
pub const AHEAD_BYTES: usize = 512;

/// Rows that a buffer must have for blocks over `rows` of them.
pub fn padded_rows(rows: usize) -> usize {
    rows.next_multiple_of(16)
}

/// Most rows whose sums are held at once.
pub const STRIPE_ROWS: usize = 128;

/// Sums of a stripe of rows in one panel, row after row.
pub struct Sums(Aligned<i32>);

impl Sums {
    /// Bytes from one row to the next.
    pub const STRIDE_BYTES: usize = COLUMNS * 4;

    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

impl Default for Sums {
    fn default() -> Self {
        // Room for the rows that a kernel computes beyond the last.
        Self(Aligned::zeroed((STRIPE_ROWS + 16) * COLUMNS))
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

//! The kernels' sources, what they are specialised for, and how each is launched.
//!
//! A launch's arguments stand in the order of the kernel's parameters; the plain reference of each kernel, in
//! [`reference`](super::reference), has the same signature.

use super::{Numbers, driver::Address};
use crate::engine::spec::EncoderSpec;

/// All kernels as one source: what they share first.
pub const SOURCE: &str = concat!(
    include_str!("../../../kernels/cuda/common.cuh"),
    include_str!("../../../kernels/cuda/embed.cu"),
    include_str!("../../../kernels/cuda/norm.cu"),
    include_str!("../../../kernels/cuda/gelu.cu"),
    include_str!("../../../kernels/cuda/attention.cu"),
    include_str!("../../../kernels/cuda/heads.cu"),
    include_str!("../../../kernels/cuda/convert.cu"),
);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kernel {
    EmbedNorm,
    ResidualNorm,
    BiasGelu,
    Attention,
    Pool,
    PoolHeads,
    HeadRows,
    Convert,
}

impl Kernel {
    pub const ALL: [Kernel; 8] = [
        Kernel::EmbedNorm,
        Kernel::ResidualNorm,
        Kernel::BiasGelu,
        Kernel::Attention,
        Kernel::Pool,
        Kernel::PoolHeads,
        Kernel::HeadRows,
        Kernel::Convert,
    ];

    /// Its name in the source.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::EmbedNorm => "embed_norm",
            Kernel::ResidualNorm => "residual_norm",
            Kernel::BiasGelu => "bias_gelu",
            Kernel::Attention => "attention",
            Kernel::Pool => "pool",
            Kernel::PoolHeads => "pool_heads",
            Kernel::HeadRows => "head_rows",
            Kernel::Convert => "convert",
        }
    }
}

/// Widest rows that the kernels keep in registers and shared memory.
pub const HIDDEN_MAX: usize = 2_048;
/// Widest attention head.
pub const HEAD_WIDTH_MAX: usize = 128;

/// What the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelShape {
    pub numbers: Numbers,
    pub hidden: usize,
    pub intermediate: usize,
    pub heads: usize,
    pub head_width: usize,
}

impl KernelShape {
    /// The shape of a model, or why the kernels cannot run it.
    pub fn new(spec: &EncoderSpec, numbers: Numbers) -> Result<Self, String> {
        let (hidden, intermediate, head_width) = (spec.hidden, spec.intermediate, spec.head_width());
        if !hidden.is_multiple_of(8) || hidden > HIDDEN_MAX {
            return Err(format!("hidden_size {hidden} is no multiple of 8 up to {HIDDEN_MAX}"));
        }
        if !intermediate.is_multiple_of(8) {
            return Err(format!("intermediate_size {intermediate} is no multiple of 8"));
        }
        if !head_width.is_multiple_of(16) || head_width > HEAD_WIDTH_MAX {
            return Err(format!(
                "attention heads of width {head_width} are no multiple of 16 up to {HEAD_WIDTH_MAX}"
            ));
        }
        Ok(Self { numbers, hidden, intermediate, heads: spec.heads, head_width })
    }

    /// What the compiler is told to define.
    pub fn defines(&self) -> Vec<String> {
        let mut defines = vec![
            format!("-DHIDDEN={}", self.hidden),
            format!("-DINTERMEDIATE={}", self.intermediate),
            format!("-DHEAD_WIDTH={}", self.head_width),
        ];
        if self.numbers == Numbers::F16 {
            defines.push("-DHEARKEN_F16".into());
        }
        defines
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    Address(Address),
    U32(u32),
    F32(f32),
}

/// One start of a kernel: blocks in two directions, threads of a block, arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub kernel: Kernel,
    pub grid: [u32; 2],
    pub threads: u32,
    pub arguments: Vec<Argument>,
}

/// Threads of a block where a warp takes a row, and where a thread takes a chunk of 8 numbers.
const ROW_THREADS: u32 = 128;
const CHUNK_THREADS: u32 = 256;
const ATTENTION_THREADS: u32 = 128;

/// `POOL_THREADS` of the source.
fn pool_threads(shape: &KernelShape) -> u32 {
    if shape.hidden <= 1_024 { 256 } else { 128 }
}

impl Launch {
    /// A warp for each row.
    fn by_row(kernel: Kernel, rows: u32, arguments: Vec<Argument>) -> Self {
        Self { kernel, grid: [rows.div_ceil(ROW_THREADS / 32), 1], threads: ROW_THREADS, arguments }
    }

    /// A thread for each chunk of 8 numbers.
    fn by_chunk(kernel: Kernel, chunks: u32, arguments: Vec<Argument>) -> Self {
        Self { kernel, grid: [chunks.div_ceil(CHUNK_THREADS), 1], threads: CHUNK_THREADS, arguments }
    }

    fn by_block(kernel: Kernel, grid: [u32; 2], threads: u32, arguments: Vec<Argument>) -> Self {
        Self { kernel, grid, threads, arguments }
    }
}

/// Weight and bias of a layer norm, both f32.
#[derive(Clone, Copy, Debug)]
pub struct NormAddress {
    pub gain: Address,
    pub bias: Address,
    pub epsilon: f32,
}

use Argument::{Address as A, F32, U32};

/// `words` and `places` are the embedding tables; see `embed.cu`.
pub fn embed_norm(
    ids: Address,
    positions: Address,
    words: Address,
    places: Address,
    norm: NormAddress,
    out: Address,
    rows: u32,
) -> Launch {
    let arguments = vec![
        A(ids),
        A(positions),
        A(words),
        A(places),
        A(norm.gain),
        A(norm.bias),
        F32(norm.epsilon),
        A(out),
        U32(rows),
    ];
    Launch::by_row(Kernel::EmbedNorm, rows, arguments)
}

pub fn residual_norm(
    update: Address,
    bias: Address,
    hidden: Address,
    norm: NormAddress,
    rows: u32,
) -> Launch {
    let arguments =
        vec![A(update), A(bias), A(hidden), A(norm.gain), A(norm.bias), F32(norm.epsilon), U32(rows)];
    Launch::by_row(Kernel::ResidualNorm, rows, arguments)
}

pub fn bias_gelu(x: Address, bias: Address, rows: u32, shape: &KernelShape) -> Launch {
    let chunks = rows * (shape.intermediate / 8) as u32;
    Launch::by_chunk(Kernel::BiasGelu, chunks, vec![A(x), A(bias), U32(chunks)])
}

pub fn attention(qkv: Address, tiles: Address, tile_count: u32, out: Address, shape: &KernelShape) -> Launch {
    let scale = std::f32::consts::LOG2_E / (shape.head_width as f32).sqrt();
    let arguments = vec![A(qkv), A(tiles), A(out), F32(scale)];
    Launch::by_block(Kernel::Attention, [tile_count, shape.heads as u32], ATTENTION_THREADS, arguments)
}

pub fn pool(hidden: Address, spans: Address, span_count: u32, out: Address, shape: &KernelShape) -> Launch {
    let arguments = vec![A(hidden), A(spans), A(out)];
    Launch::by_block(Kernel::Pool, [span_count, 1], pool_threads(shape), arguments)
}

/// The one-layer heads of a model, side by side; see `heads.cu`.
#[derive(Clone, Copy, Debug)]
pub struct HeadTable {
    pub heads: Address,
    pub weights: Address,
    pub bias: Address,
}

pub fn pool_heads(
    hidden: Address,
    asks: Address,
    ask_count: u32,
    table: HeadTable,
    out: Address,
    shape: &KernelShape,
) -> Launch {
    let arguments = vec![A(hidden), A(asks), A(table.heads), A(table.weights), A(table.bias), A(out)];
    Launch::by_block(Kernel::PoolHeads, [ask_count, 1], pool_threads(shape), arguments)
}

/// Last layer of one head. `rows` and `dense_bias` may be null.
#[derive(Clone, Copy, Debug)]
pub struct HeadRows {
    pub x: Address,
    pub rows: Address,
    pub dense_bias: Address,
    pub weights: Address,
    pub bias: Address,
    pub out: Address,
    pub count: u32,
    pub labels: u32,
}

pub fn head_rows(r: HeadRows) -> Launch {
    let arguments = vec![
        A(r.x),
        A(r.rows),
        A(r.dense_bias),
        A(r.weights),
        A(r.bias),
        A(r.out),
        U32(r.count),
        U32(r.labels),
    ];
    Launch::by_row(Kernel::HeadRows, r.count, arguments)
}

/// `from` holds `numbers` f32, a multiple of 8.
pub fn convert(from: Address, to: Address, numbers: usize) -> Launch {
    let chunks = (numbers / 8) as u32;
    Launch::by_chunk(Kernel::Convert, chunks, vec![A(from), A(to), U32(chunks)])
}

//! Rows whose width is no multiple of a vector.

use rten_simd::{Isa, Simd, ops::BitOps};

/// Loads a vector at `at`; lanes beyond the end are zero.
#[inline(always)]
pub fn load<I: Isa>(isa: I, values: &[f32], at: usize) -> I::F32 {
    let ops = isa.f32();
    let rest = &values[at..];
    if rest.len() >= ops.len() {
        // SAFETY: as many values are there as a vector has lanes.
        unsafe { ops.load_ptr(rest.as_ptr()) }
    } else {
        ops.load_pad(rest).0
    }
}

#[inline(always)]
pub fn store<I: Isa>(isa: I, x: I::F32, values: &mut [f32], at: usize) {
    let ops = isa.f32();
    let rest = &mut values[at..];
    if rest.len() >= ops.len() {
        ops.store(x, rest);
    } else {
        // SAFETY: the mask has only the lanes for which `rest` has a place.
        unsafe { ops.store_ptr_mask(x, rest.as_mut_ptr(), ops.first_n_mask(rest.len())) }
    }
}

/// Independent sums kept at once, so that an addition need not wait for the one before.
pub const ACCUMULATORS: usize = 4;

/// Runs the body for each vector that covers `len` values, with its accumulator, its start and its filled lanes.
///
/// A macro and not a function: a closure that is not inlined would be compiled without the caller's instructions.
macro_rules! strips {
    ($len:expr, $lanes:expr, |$i:pat_param, $at:ident, $filled:ident| $body:expr) => {{
        let (len, lanes) = ($len, $lanes);
        let whole = len / (ACCUMULATORS * lanes) * (ACCUMULATORS * lanes);
        let mut start = 0;
        while start < whole {
            for i in 0..ACCUMULATORS {
                #[allow(unused_variables)]
                let ($i, $at, $filled) = (i, start + i * lanes, lanes);
                $body;
            }
            start += ACCUMULATORS * lanes;
        }
        while start < len {
            #[allow(unused_variables)]
            let ($i, $at, $filled) = (0, start, lanes.min(len - start));
            $body;
            start += lanes;
        }
    }};
}
pub(crate) use strips;

/// The largest lane; anything where one is not a number.
#[inline(always)]
pub fn largest<I: Isa>(x: I::F32) -> f32 {
    // No vector has more lanes.
    let mut lanes = [f32::NEG_INFINITY; 16];
    lanes.iter_mut().zip(x.to_array()).for_each(|(to, x)| *to = x);
    // By halves, and unlike `f32::max` one instruction each.
    let mut n = lanes.len();
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = if lanes[i] > lanes[i + n] { lanes[i] } else { lanes[i + n] };
        }
    }
    lanes[0]
}

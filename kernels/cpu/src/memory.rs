//! Buffers that begin on a cache line and end with one to spare.

use std::ops::{Deref, DerefMut};

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Numbers without padding bits, for which all bits zero is zero.
///
/// # Safety
///
/// Any bit pattern must be a value.
pub unsafe trait Plain: Copy {}
// SAFETY: every bit pattern of these is a value.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

/// A buffer aligned to cache lines.
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    of: std::marker::PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    pub fn new() -> Self {
        Self { lines: Vec::new(), len: 0, of: std::marker::PhantomData }
    }

    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::new();
        buffer.sized(len);
        buffer
    }

    /// The first `len` items of a buffer that grows when it must. What they hold is left over from earlier use.
    pub fn sized(&mut self, len: usize) -> &mut [T] {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; 64]));
        }
        self.len = self.len.max(len);
        &mut self[..len]
    }
}

impl<T: Plain> Default for Aligned<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` items, every bit pattern is one, and lines are aligned beyond T's need.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

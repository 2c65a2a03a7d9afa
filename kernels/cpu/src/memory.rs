//! Buffers that begin on a cache line; large ones lie on huge pages where the system has them, because a product walks
//! over hundreds of small pages for each panel, more than a core remembers.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

/// Numbers for which all bits zero is zero.
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
    region: Region,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    pub fn new() -> Self {
        Self { region: Region::empty(), len: 0, of: PhantomData }
    }

    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Self::new();
        buffer.sized(len);
        buffer
    }

    /// The first `len` items of a buffer that grows when it must. What they hold is left over from earlier use, or zero.
    pub fn sized(&mut self, len: usize) -> &mut [T] {
        if len > self.len {
            self.len = 0;
            self.region = Region::empty();
            self.region = Region::zeroed(len * size_of::<T>());
            self.len = len;
        }
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
        // SAFETY: the region holds at least `len` items, every bit pattern is one, and lines are aligned beyond T's need.
        unsafe { std::slice::from_raw_parts(self.region.start.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.region.start.as_ptr().cast(), self.len) }
    }
}

const LINE: usize = 64;
const HUGE_PAGE: usize = 2 << 20;
/// Smaller regions would waste most of a huge page.
const HUGE_MIN: usize = HUGE_PAGE / 4;

/// Zeroed memory.
struct Region {
    start: NonNull<u8>,
    /// None for the empty region.
    layout: Option<Layout>,
}

// SAFETY: a region is memory that nobody else refers to.
unsafe impl Send for Region {}
// SAFETY: it is only written through `&mut`.
unsafe impl Sync for Region {}

impl Region {
    fn empty() -> Self {
        Self { start: NonNull::<Line>::dangling().cast(), layout: None }
    }

    fn zeroed(bytes: usize) -> Self {
        let align = if bytes >= HUGE_MIN { HUGE_PAGE } else { LINE };
        let Ok(layout) = Layout::from_size_align(bytes.max(1).next_multiple_of(align), align) else {
            panic!("a buffer of {bytes} bytes is larger than memory can be");
        };
        // SAFETY: the size is not zero.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        if align == HUGE_PAGE {
            advise_huge(start, layout.size());
        }
        Self { start, layout: Some(layout) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(layout) = self.layout {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

#[repr(align(64))]
struct Line;

#[cfg(target_os = "linux")]
fn advise_huge(start: NonNull<u8>, bytes: usize) {
    // Advice that is not taken costs speed and nothing else.
    // SAFETY: the range is one allocation.
    unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_: NonNull<u8>, _: usize) {}

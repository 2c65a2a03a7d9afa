//! Arithmetic of transformer encoders on CPUs: dense layers in f32, bf16 and int8, attention over sequences laid end to
//! end, and the element-wise work between them.
//!
//! A crate of its own so that it is optimised in debug builds too: tests that run real models stay quick.
//!
//! Every product goes through one contract, a *block*: at most [`tile::ROWS`] rows of A times one *panel* of
//! [`tile::COLUMNS`] columns of B over the whole inner dimension. Each kind of number has one packed form of B whatever
//! the instructions (AMX tiles, AVX-512 dot products), so that a kernel is chosen when a layer is built and nothing else
//! depends on it. A row of a result depends on that row of A alone and is summed in one order: neither the rows beside it
//! nor the threads change a bit.
//!
//! What is not here: models, files, threads. A caller cuts work into rows and calls from as many threads as it likes.

#[cfg(target_arch = "x86_64")]
mod amx;
pub mod attention;

#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod cpu;
pub mod dense;
mod finish;
pub mod memory;
mod operand;
pub mod peak;
mod product;
mod simd_f32;
pub mod tile;
pub mod vector;

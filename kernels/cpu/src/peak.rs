//! What a core can multiply at most: loops that touch nothing but registers. Products are measured against them.

/// One kind of multiplication.
#[derive(Clone, Copy)]
pub struct Peak {
    pub name: &'static str,
    /// Multiplications and additions of one turn of the loop.
    pub operations: u64,
    run: fn(u64),
}

impl Peak {
    /// Every kind that this processor has and this build knows.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            x86::available()
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            Vec::new()
        }
    }

    /// Turns the loop.
    pub fn run(self, turns: u64) {
        (self.run)(turns);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::asm, arch::x86_64::*, hint::black_box};

    use super::Peak;
    use crate::{
        amx::Tiles,
        cpu::{Bf16, Int8, f32_name},
    };

    /// Independent sums: enough that none waits for the one before.
    const SUMS: usize = 16;

    pub fn available() -> Vec<Peak> {
        let (int8, bf16) = (Int8::available(), Bf16::available());
        let all = [
            (
                f32_name() == "avx512 fma",
                Peak { name: "f32 fma", operations: (SUMS * 16 * 2) as u64, run: |n| unsafe { fma(n) } },
            ),
            (
                int8.contains(&Int8::Vnni),
                Peak { name: "int8 vnni", operations: (SUMS * 64 * 2) as u64, run: |n| unsafe { vnni(n) } },
            ),
            (
                int8.contains(&Int8::Amx),
                Peak { name: "int8 amx", operations: 4 * 16 * 16 * 64 * 2, run: |n| unsafe { amx_int8(n) } },
            ),
            (
                bf16.contains(&Bf16::Amx),
                Peak { name: "bf16 amx", operations: 4 * 16 * 16 * 32 * 2, run: |n| unsafe { amx_bf16(n) } },
            ),
        ];
        // SAFETY (of the loops above): each is handed out only where its instructions were found.
        all.into_iter().filter_map(|(there, peak)| there.then_some(peak)).collect()
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn fma(turns: u64) {
        let x = black_box(_mm512_set1_ps(0.999));
        let mut sums = [_mm512_set1_ps(1.0); SUMS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, x);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    unsafe fn vnni(turns: u64) {
        let x = black_box(_mm512_set1_epi8(1));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, x, x);
            }
        }
        black_box(sums);
    }

    macro_rules! tiles {
        ($name:ident, $multiply:literal) => {
            unsafe fn $name(turns: u64) {
                // SAFETY: tiles are set up here, and named as overwritten.
                unsafe {
                    let _tiles = Tiles::set_up();
                    asm!(
                        "2:",
                        concat!($multiply, " tmm0, tmm4, tmm6"),
                        concat!($multiply, " tmm1, tmm4, tmm7"),
                        concat!($multiply, " tmm2, tmm5, tmm6"),
                        concat!($multiply, " tmm3, tmm5, tmm7"),
                        "dec {turns}",
                        "jnz 2b",
                        turns = inout(reg) turns.max(1) => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack, nomem),
                    );
                }
            }
        };
    }

    tiles!(amx_int8, "tdpbusd");
    tiles!(amx_bf16, "tdpbf16ps");
}

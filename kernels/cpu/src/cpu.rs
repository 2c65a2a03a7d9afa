//! Which instructions this processor has for each kind of product.
//!
//! `HEARKEN_MAX_CPU_ISA` in the environment keeps the newest ones from being used, to see what another processor would do:
//! `avx512` leaves out AMX tiles, `avx2` leaves out AVX-512 dot products too.

use std::sync::OnceLock;

/// How int8 products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8 {
    /// AMX tiles: 16 x 16 x 64 a step.
    Amx,
    /// AVX-512 VNNI dot products.
    Vnni,
    /// `rten-gemm`: AVX2, NEON or portable.
    Rten,
}

/// How bf16 products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16 {
    /// AMX tiles: 16 x 16 x 32 a step.
    Amx,
    /// AVX-512 BF16 dot products.
    Dot,
}

impl Int8 {
    /// Every way that this processor has, best first.
    pub fn available() -> Vec<Self> {
        let found = found();
        [(Self::Amx, found.amx_int8), (Self::Vnni, found.avx512_vnni), (Self::Rten, true)]
            .into_iter()
            .filter_map(|(kernel, there)| there.then_some(kernel))
            .collect()
    }

    pub fn best() -> Self {
        Self::available()[0]
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx-int8",
            Self::Vnni => "avx512-vnni",
            Self::Rten => "rten-gemm int8",
        }
    }
}

impl Bf16 {
    /// Every way that this processor has, best first; none where there is no bf16 arithmetic.
    pub fn available() -> Vec<Self> {
        let found = found();
        [(Self::Amx, found.amx_bf16), (Self::Dot, found.avx512_bf16)]
            .into_iter()
            .filter_map(|(kernel, there)| there.then_some(kernel))
            .collect()
    }

    pub fn best() -> Option<Self> {
        Self::available().first().copied()
    }

    /// Whether this is faster than f32. Intel's processors take as long for a bf16 dot product of a vector as for two f32
    /// multiply-adds and more; AMD's do not since Zen 5, and lose nothing on Zen 4.
    pub fn pays(self) -> bool {
        match self {
            Self::Amx => true,
            Self::Dot => !found().intel,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx-bf16",
            Self::Dot => "avx512-bf16",
        }
    }
}

/// The vectors that f32 products use.
pub fn f32_name() -> &'static str {
    if found().avx512 {
        "avx512 fma"
    } else if cfg!(target_arch = "aarch64") {
        "neon"
    } else if found().avx2 {
        "avx2 fma"
    } else {
        "portable"
    }
}

#[derive(Clone, Copy, Default)]
struct Found {
    avx2: bool,
    avx512: bool,
    avx512_vnni: bool,
    avx512_bf16: bool,
    intel: bool,
    amx_int8: bool,
    amx_bf16: bool,
}

fn found() -> Found {
    static FOUND: OnceLock<Found> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let found = look();
        match std::env::var("HEARKEN_MAX_CPU_ISA").as_deref() {
            Ok("avx512") => Found { amx_int8: false, amx_bf16: false, ..found },
            Ok("avx2") => Found { avx2: found.avx2, ..Found::default() },
            _ => found,
        }
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn look() -> Found {
    Found::default()
}

#[cfg(target_arch = "x86_64")]
fn look() -> Found {
    use std::{arch::is_x86_feature_detected as has, arch::x86_64::__cpuid_count};

    let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") && has!("f16c");
    let bf16 = avx512 && has!("avx512bf16");
    // Leaf 7, EDX: bit 22 is AMX-BF16, 24 AMX-TILE, 25 AMX-INT8 (Intel SDM, volume 2, CPUID).
    let edx = __cpuid_count(7, 0).edx;
    let bit = |n: u32| edx & (1 << n) != 0;
    // Attention in bf16 converts with AVX-512 BF16, which every processor with AMX has.
    let tiles = avx512 && bf16 && bit(24) && crate::amx::permitted();
    Found {
        avx2: has!("avx2") && has!("fma"),
        avx512,
        avx512_vnni: avx512 && has!("avx512vnni"),
        avx512_bf16: bf16,
        // The vendor's name in EBX: "Genu" of "GenuineIntel".
        intel: __cpuid_count(0, 0).ebx == u32::from_le_bytes(*b"Genu"),
        amx_int8: tiles && bit(25) && has!("avx512vnni"),
        amx_bf16: tiles && bit(22),
    }
}

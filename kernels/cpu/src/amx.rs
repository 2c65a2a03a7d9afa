//! Products on AMX tiles: eight registers of 16 rows x 64 bytes.
//!
//! A block of 32 x 32 results lives in four tiles; each step of 64 bytes of the inner dimension loads two tiles of A and
//! two of B and multiplies four pairs: 64 cycles of multiplying hide 32 of loading from the first-level cache.

use std::arch::asm;

use crate::{product::Step, tile::PANEL_GROUP_BYTES};

/// Asks the kernel, once for the process, for the use of tile registers.
#[cfg(target_os = "linux")]
pub fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this call changes nothing but what the process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
pub fn permitted() -> bool {
    false
}

/// Tile registers of this thread, set up while it lives.
pub struct Tiles(());

#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// # Safety
    ///
    /// The processor must have AMX and [`permitted`] must have said yes.
    pub unsafe fn set_up() -> Self {
        let mut config =
            TileConfig { palette: 1, start_row: 0, reserved: [0; 14], bytes_per_row: [0; 16], rows: [0; 16] };
        config.bytes_per_row[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: `config` is 64 bytes in the form that palette 1 asks for.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: gives the registers back, so that switching threads need not save them.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

macro_rules! blocks {
    ($name:ident, $one:ident, $two:ident, $multiply:literal) => {
        /// A block of up to 32 rows.
        ///
        /// # Safety
        ///
        /// [`Tiles`] must be set up on this thread; what [`Step`] says must hold.
        pub unsafe fn $name(step: &Step) {
            if step.rows > 16 {
                // SAFETY: as the caller promises.
                unsafe { $two(step) }
            } else {
                // SAFETY: as the caller promises.
                unsafe { $one(step) }
            }
        }

        unsafe fn $two(step: &Step) {
            // SAFETY: reads and writes what the caller promises; tile registers are named as overwritten.
            unsafe {
                asm!(
                    "test {accumulate:e}, {accumulate:e}",
                    "jz 3f",
                    "tileloadd tmm0, [{c0} + {c_stride}*1]",
                    "tileloadd tmm1, [{c0} + {c_stride}*1 + 64]",
                    "tileloadd tmm2, [{c1} + {c_stride}*1]",
                    "tileloadd tmm3, [{c1} + {c_stride}*1 + 64]",
                    "jmp 2f",
                    "3:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm6, [{b} + {line}*1]",
                    "tileloadd tmm4, [{upper} + {stride}*1]",
                    "prefetcht1 [{ahead}]",
                    "prefetcht1 [{ahead} + 64]",
                    "tileloadd tmm7, [{b} + {line}*1 + 1024]",
                    concat!($multiply, " tmm0, tmm4, tmm6"),
                    "prefetcht1 [{ahead} + 128]",
                    "prefetcht1 [{ahead} + 192]",
                    "tileloadd tmm5, [{lower} + {stride}*1]",
                    concat!($multiply, " tmm1, tmm4, tmm7"),
                    "prefetcht1 [{ahead} + 256]",
                    "prefetcht1 [{ahead} + 320]",
                    concat!($multiply, " tmm2, tmm5, tmm6"),
                    "prefetcht1 [{ahead} + 384]",
                    "prefetcht1 [{ahead} + 448]",
                    concat!($multiply, " tmm3, tmm5, tmm7"),
                    "add {upper}, 64",
                    "add {lower}, 64",
                    "add {b}, {group}",
                    "add {ahead}, {ahead_step}",
                    "dec {left}",
                    "jnz 2b",
                    "tilestored [{c0} + {c_stride}*1], tmm0",
                    "tilestored [{c0} + {c_stride}*1 + 64], tmm1",
                    "tilestored [{c1} + {c_stride}*1], tmm2",
                    "tilestored [{c1} + {c_stride}*1 + 64], tmm3",
                    accumulate = in(reg) u32::from(step.accumulate),
                    upper = inout(reg) step.a => _,
                    lower = inout(reg) step.a.wrapping_add(16 * step.a_stride) => _,
                    stride = in(reg) step.a_stride,
                    b = inout(reg) step.b => _,
                    line = in(reg) 64usize,
                    group = const PANEL_GROUP_BYTES,
                    left = inout(reg) step.groups => _,
                    ahead = inout(reg) step.ahead => _,
                    ahead_step = in(reg) step.ahead_step,
                    c0 = in(reg) step.c,
                    c1 = in(reg) step.c.wrapping_add(16 * step.c_stride),
                    c_stride = in(reg) step.c_stride,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }

        unsafe fn $one(step: &Step) {
            // SAFETY: reads and writes what the caller promises; tile registers are named as overwritten.
            unsafe {
                asm!(
                    "test {accumulate:e}, {accumulate:e}",
                    "jz 3f",
                    "tileloadd tmm0, [{c0} + {c_stride}*1]",
                    "tileloadd tmm1, [{c0} + {c_stride}*1 + 64]",
                    "jmp 2f",
                    "3:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "2:",
                    "tileloadd tmm4, [{upper} + {stride}*1]",
                    "tileloadd tmm6, [{b} + {line}*1]",
                    "tileloadd tmm7, [{b} + {line}*1 + 1024]",
                    concat!($multiply, " tmm0, tmm4, tmm6"),
                    concat!($multiply, " tmm1, tmm4, tmm7"),
                    "add {upper}, 64",
                    "add {b}, {group}",
                    "dec {left}",
                    "jnz 2b",
                    "tilestored [{c0} + {c_stride}*1], tmm0",
                    "tilestored [{c0} + {c_stride}*1 + 64], tmm1",
                    accumulate = in(reg) u32::from(step.accumulate),
                    upper = inout(reg) step.a => _,
                    stride = in(reg) step.a_stride,
                    b = inout(reg) step.b => _,
                    line = in(reg) 64usize,
                    group = const PANEL_GROUP_BYTES,
                    left = inout(reg) step.groups => _,
                    c0 = in(reg) step.c,
                    c_stride = in(reg) step.c_stride,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

blocks!(int8, int8_one, int8_two, "tdpbusd");
blocks!(bf16, bf16_one, bf16_two, "tdpbf16ps");

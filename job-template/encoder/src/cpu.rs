//! What the processor can do, and which path MKL takes.

use std::sync::atomic::{AtomicBool, Ordering};

static MKL_FAST_PATH: AtomicBool = AtomicBool::new(false);

/// Has MKL take the path for Intel's processors on others, too; to be called before anything is computed.
/// The program has to export the symbol `mkl_serv_intel_cpu_true`, as this crate's build script does.
pub fn use_mkl_fast_path(is_wanted: bool) {
    MKL_FAST_PATH.store(is_wanted, Ordering::Relaxed);
}

/// What MKL asks to know whether it runs on an Intel processor. On others it takes slower paths,
/// though they can do the same; this definition is found before its own.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "MKL looks for this very name")]
pub extern "C" fn mkl_serv_intel_cpu_true() -> i32 {
    i32::from(MKL_FAST_PATH.load(Ordering::Relaxed) || is_intel())
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    (vendor.ebx, vendor.edx, vendor.ecx)
        == (
            u32::from_le_bytes(*b"Genu"),
            u32::from_le_bytes(*b"ineI"),
            u32::from_le_bytes(*b"ntel"),
        )
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

/// Whether the processor has AVX2, and multiplies and adds in one instruction.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Whether the processor has AVX2: another kind hasn't.
#[cfg(not(target_arch = "x86_64"))]
#[must_use]
pub fn has_avx2() -> bool {
    false
}

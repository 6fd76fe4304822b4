//! Whether this processor multiplies bf16 faster than f32.

/// True where bf16 products have units of their own: AMX, or the AVX-512 instruction on AMD's cores. Intel's without AMX
/// (switched off by many virtual machines) take twice f32's time for the same instruction, and processors without any
/// emulate it. Elsewhere than on x86-64 the type that was asked for is taken to be the better one.
pub(crate) fn prefers_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        x86_prefers_bf16()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

#[cfg(target_arch = "x86_64")]
fn x86_prefers_bf16() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    /// CPUID leaf 7: AMX-BF16 in EDX of subleaf 0, AVX512_BF16 in EAX of subleaf 1 (Intel SDM volume 2, CPUID).
    const FEATURES: u32 = 7;
    let amx = __cpuid_count(FEATURES, 0).edx >> 22 & 1 == 1;
    let avx512 = __cpuid_count(FEATURES, 1).eax >> 5 & 1 == 1;
    let vendor = __cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
    amx || avx512 && name == b"AuthenticAMD"
}

//! Arithmetic on rows of numbers, compiled once for each kind of processor: loops over [`Lane`]s become whatever
//! vector instructions it has.

/// Numbers that are worked on side by side.
pub(super) const LANES: usize = 16;
pub(super) type Lane = [f32; LANES];

/// Work that [`vectorised`] runs. `FMA`: the processor multiplies and adds in one instruction.
pub(super) trait Kernel {
    /// Must be `#[inline(always)]`, and all that it calls, to be compiled for the processor at hand.
    fn run<const FMA: bool>(self);
}

/// Runs `kernel` with the widest vectors that this processor has.
pub(super) fn vectorised(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
        fn avx512(kernel: impl Kernel) {
            kernel.run::<true>();
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(kernel: impl Kernel) {
            kernel.run::<true>();
        }
        let has_avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if has_avx512 && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            return unsafe { avx2(kernel) };
        }
    }
    kernel.run::<{ cfg!(target_arch = "aarch64") }>();
}

/// `a · b + c`, rounded once where the processor can.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
pub(super) fn sum(lane: Lane) -> f32 {
    let mut lane = lane;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lane[i] += lane[i + half];
        }
        half /= 2;
    }
    lane[0]
}

/// The largest of `values`, which are whole lanes; −∞ of none.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    let mut lane = [f32::NEG_INFINITY; LANES];
    for chunk in values.chunks_exact(LANES) {
        for i in 0..LANES {
            lane[i] = if chunk[i] > lane[i] { chunk[i] } else { lane[i] };
        }
    }
    lane.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// e^x within 3e-7 of it for x ≤ 0, without branches; 0 below −87.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Adding it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first exact in few bits.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const TAYLOR: [f32; 6] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];
    let bounded = if x > -87.0 { x } else { -87.0 };
    let whole = fma::<FMA>(bounded, std::f32::consts::LOG2_E, ROUND);
    let n = whole - ROUND;
    let r = fma::<FMA>(n, -LN2[1], fma::<FMA>(n, -LN2[0], bounded));
    let mut series = TAYLOR[0];
    for factor in &TAYLOR[1..] {
        series = fma::<FMA>(series, r, *factor);
    }
    let series = fma::<FMA>(series, r, 1.0);
    let power = f32::from_bits((whole.to_bits() << 23).wrapping_add(127 << 23));
    if x > -87.0 { series * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_three_parts_in_ten_million() {
        for i in 0..200_000 {
            let x = -i as f32 * 4.4e-4;
            let (got, exact) = (f64::from(exp::<true>(x)), f64::from(x).exp());
            if x > -87.0 {
                assert!((got / exact - 1.0).abs() < 3e-7, "e^{x} is {exact}, not {got}");
            }
        }
        assert_eq!(exp::<false>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<false>(0.0), 1.0);
    }

    #[test]
    fn sums_and_maxima_look_at_every_lane() {
        let lane: Lane = std::array::from_fn(|i| i as f32);
        assert_eq!(sum(lane), 120.0);
        for place in 0..32 {
            let mut values = [-3.0; 32];
            values[place] = 2.0;
            assert_eq!(largest(&values), 2.0);
        }
    }
}

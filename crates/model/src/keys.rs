//! Numbers that name things: keys of draws that depend on nothing but what they are made of (splitmix64).

/// Between the draws of a key.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Shift and factor of each round.
pub(crate) const ROUNDS: [(u32, u64); 2] = [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)];
/// Shift of the last round.
pub(crate) const LAST: u32 = 31;
/// Bits of a draw that are looked at: an f32 holds them.
pub(crate) const BITS: u32 = 24;
/// The others.
pub(crate) const UNUSED: u32 = 64 - BITS;

/// Mixes all bits.
#[inline(always)]
pub(crate) fn mix(mut z: u64) -> u64 {
    for (shift, factor) in ROUNDS {
        z = (z ^ (z >> shift)).wrapping_mul(factor);
    }
    z ^ (z >> LAST)
}

/// The key of a sequence of numbers.
#[must_use]
pub fn join(parts: &[u64]) -> u64 {
    parts
        .iter()
        .fold(parts.len() as u64, |key, part| mix(key.wrapping_add(STEP) ^ mix(part.wrapping_add(STEP))))
}

/// The key of a name.
#[must_use]
pub fn name(name: &str) -> u64 {
    name.bytes()
        .fold(mix(STEP ^ name.len() as u64), |key, byte| mix(key.wrapping_add(STEP) ^ u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_length_and_every_part_matter() {
        let keys = [
            join(&[]),
            join(&[0]),
            join(&[0, 0]),
            join(&[1, 2]),
            join(&[2, 1]),
            name(""),
            name("ab"),
            name("ba"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|other| other != key), "{i}");
        }
    }
}

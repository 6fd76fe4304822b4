//! A CPU tensor's memory as numbers.

use std::marker::PhantomData;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

/// What a tensor can hold; any bits are a value.
pub(crate) trait Stored: Copy + Send + Sync + 'static {
    const KIND: Kind;
}

/// A type that models compute in.
pub(crate) trait Element: Stored {
    fn wide(self) -> f32;
    /// Rounds to nearest, ties to even.
    fn narrow(value: f32) -> Self;
}

impl Stored for f32 {
    const KIND: Kind = Kind::Float;
}

impl Stored for i64 {
    const KIND: Kind = Kind::Int64;
}

/// libtorch's bool is a byte that is 0 or 1.
impl Stored for u8 {
    const KIND: Kind = Kind::Bool;
}

impl Element for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
}

/// The upper half of an f32.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Bf16(u16);

impl Stored for Bf16 {
    const KIND: Kind = Kind::BFloat16;
}

impl Element for Bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        Self(if value.is_nan() { 0x7FC0 } else { rounded as u16 })
    }
}

/// The elements of a contiguous CPU tensor.
///
/// # Panics
/// If it is something else.
pub(crate) fn values<T: Stored>(tensor: &Tensor) -> &[T] {
    check::<T>(tensor);
    // SAFETY: the tensor is on the CPU, contiguous, of T's type, and borrowed as long as the slice.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

fn check<T: Stored>(tensor: &Tensor) {
    assert!(
        tensor.device() == Device::Cpu && tensor.kind() == T::KIND && tensor.is_contiguous(),
        "expected a contiguous {:?} tensor on the CPU, got {tensor:?}",
        T::KIND
    );
}

/// A contiguous CPU tensor that several threads fill, each its own parts.
#[derive(Debug)]
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    tensor: PhantomData<&'a Tensor>,
}

// SAFETY: parts are handed out by an unsafe function whose callers keep them apart.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T: Stored> Shared<'a, T> {
    /// # Panics
    /// As [`values`].
    pub(crate) fn new(tensor: &'a Tensor) -> Self {
        check::<T>(tensor);
        Self { start: tensor.data_ptr().cast(), len: tensor.numel(), tensor: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// Nobody else may read or write them while the slice lives.
    ///
    /// # Panics
    /// If the range lies outside the tensor.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps the parts apart")]
    #[inline(always)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: inside the tensor's memory; the caller sees to the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_as_libtorch_does() {
        let numbers: Vec<f32> = (0..4096_u32)
            .map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B1)))
            .filter(|v| v.is_finite())
            .collect();
        let tensor = Tensor::from_slice(&numbers).to_kind(Kind::BFloat16);
        let back = Vec::<f32>::try_from(tensor.to_kind(Kind::Float)).expect("f32");
        for (number, expected) in numbers.iter().zip(back) {
            assert_eq!(Bf16::narrow(*number).wide(), expected, "{number}");
        }
        assert!(Bf16::narrow(f32::NAN).wide().is_nan());
    }
}

//! The C++ shim: oneDNN's products with packed weights, and libtorch's threads.

use std::ffi::{CStr, c_char, c_void};
use std::ops::Range;
use std::ptr;

use tch::Tensor;
use torch_sys::C_tensor;

unsafe extern "C" {
    fn model_pack(weight: *const C_tensor, rows: i64, out: *mut *mut C_tensor) -> *mut c_char;
    fn model_linear(
        x: *const C_tensor,
        packed: *const C_tensor,
        bias: *const C_tensor,
        other: *const C_tensor,
        op: *const c_char,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn model_parallel(
        count: i64,
        grain: i64,
        body: extern "C" fn(*const c_void, i64, i64),
        context: *const c_void,
    );
    fn model_message_free(message: *mut c_char);
}

/// Runs a shim function that makes a tensor.
///
/// # Panics
/// If libtorch refuses: shapes and types are ours, so that is a bug, as it is everywhere with tch.
fn made(function: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Tensor {
    let mut out = ptr::null_mut();
    let message = function(&mut out);
    if !message.is_null() {
        // SAFETY: the shim's messages end in a zero byte and are ours until freed, once, here.
        let text = unsafe {
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            model_message_free(message);
            text
        };
        panic!("{text}");
    }
    // SAFETY: without a message the shim has set `out` to a new tensor, which is ours.
    unsafe { Tensor::from_ptr(out) }
}

/// What a product is followed by, in the same pass.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then<'a> {
    /// Nothing.
    Nothing,
    /// SiLU.
    Silu,
    /// The elementwise product with a tensor of its shape.
    Times(&'a Tensor),
    /// The sum with a tensor of its shape.
    Plus(&'a Tensor),
}

/// A weight `[out, in]` with its bias, in the order in which oneDNN reads it for about `rows` rows.
#[derive(Debug)]
pub(crate) struct Packed {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Packed {
    pub(crate) fn new(weight: &Tensor, bias: Option<&Tensor>, rows: i64) -> Self {
        let weight = made(|out| {
            // SAFETY: the tensor lives through the call.
            unsafe { model_pack(weight.as_ptr(), rows, out) }
        });
        Self { weight, bias: bias.map(Tensor::shallow_clone) }
    }

    /// `x · weightᵀ + bias`, then `then`; `x` is `[rows, in]`, contiguous, of the weight's type.
    pub(crate) fn apply(&self, x: &Tensor, then: Then<'_>) -> Tensor {
        let (other, op) = match then {
            Then::Nothing => (None, c"none"),
            Then::Silu => (None, c"swish"),
            Then::Times(other) => (Some(other), c"mul"),
            Then::Plus(other) => (Some(other), c"add"),
        };
        let raw = |tensor: Option<&Tensor>| tensor.map_or(ptr::null(), Tensor::as_ptr);
        let bias = self.bias.as_ref();
        made(|out| {
            // SAFETY: all tensors live through the call; the shim copies no pointer.
            unsafe { model_linear(x.as_ptr(), self.weight.as_ptr(), raw(bias), raw(other), op.as_ptr(), out) }
        })
    }
}

/// Calls `body` with parts of `0..count`, at least `grain` long, on libtorch's threads. A panic within ends the
/// process: there is no unwinding through C++.
pub(crate) fn parallel<F: Fn(Range<usize>) + Sync>(count: usize, grain: usize, body: F) {
    extern "C" fn call<F: Fn(Range<usize>) + Sync>(context: *const c_void, begin: i64, end: i64) {
        // SAFETY: the context is the `F` below, which outlives the shim's call and is shared, not moved.
        let body = unsafe { &*context.cast::<F>() };
        body(begin as usize..end as usize);
    }
    // SAFETY: `call` matches `context`; the shim returns when all parts are done.
    unsafe { model_parallel(count as i64, grain as i64, call::<F>, (&raw const body).cast()) }
}

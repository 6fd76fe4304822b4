//! The C++ shim: oneDNN's products with packed weights, libtorch's threads, and nodes of its graph.

use std::ffi::{CStr, c_char, c_void};
use std::mem::ManuallyDrop;
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
    fn model_node(
        inputs: *const *const C_tensor,
        input_count: i64,
        value: *const C_tensor,
        saved: *const *const C_tensor,
        saved_count: i64,
        rust: *mut c_void,
        backward: Backward,
        drop: extern "C" fn(*mut c_void),
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn model_backward(value: *const C_tensor, gradient: *const C_tensor) -> *mut c_char;
    fn model_message_free(message: *mut c_char);
}

/// Context, saved tensors and their number, gradient of the output, a place for the gradient of each input.
pub(crate) type Backward =
    extern "C" fn(*const c_void, *const *mut C_tensor, i64, *const C_tensor, *mut *mut C_tensor);

/// The Rust side of a node of the graph.
pub(crate) struct Node {
    /// Handed to the other two; the node's own from here on.
    pub(crate) rust: *mut c_void,
    pub(crate) backward: Backward,
    pub(crate) drop: extern "C" fn(*mut c_void),
}

/// # Panics
/// If there is a message: libtorch refused. Shapes and types are ours, so that is a bug, as it is everywhere with tch.
fn done(message: *mut c_char) {
    if message.is_null() {
        return;
    }
    // SAFETY: the shim's messages end in a zero byte and are ours until freed, once, here.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        model_message_free(message);
        text
    };
    panic!("{text}");
}

/// Runs a shim function that makes a tensor.
fn made(function: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Tensor {
    let mut out = ptr::null_mut();
    done(function(&mut out));
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

/// A tensor of `value` whose graph leads to `inputs` through `node`, which is handed `saved`.
pub(crate) fn node(inputs: &[&Tensor], value: &Tensor, saved: &[&Tensor], node: &Node) -> Tensor {
    let raw = |tensors: &[&Tensor]| tensors.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
    let (inputs, saved) = (raw(inputs), raw(saved));
    made(|out| {
        // SAFETY: the tensors live through the call; the shim takes `node.rust` over, also where it fails.
        unsafe {
            model_node(
                inputs.as_ptr(),
                inputs.len() as i64,
                value.as_ptr(),
                saved.as_ptr(),
                saved.len() as i64,
                node.rust,
                node.backward,
                node.drop,
                out,
            )
        }
    })
}

/// Backward from `value` with its `gradient`, into the leaves' gradients.
pub(crate) fn backward(value: &Tensor, gradient: &Tensor) {
    // SAFETY: both live through the call.
    done(unsafe { model_backward(value.as_ptr(), gradient.as_ptr()) });
}

/// Gives a tensor away.
pub(crate) fn into_raw(tensor: Tensor) -> *mut C_tensor {
    ManuallyDrop::new(tensor).as_mut_ptr()
}

//! Functions with a derivative of their own: a pass each way over memory where autograd takes a dozen.

use std::ffi::c_void;
use std::slice;

use tch::{Tensor, no_grad_guard};
use torch_sys::C_tensor;

use crate::shim;

/// A function of tensors to one tensor.
pub(crate) trait Function: 'static {
    /// The output, and what [`Self::backward`] needs.
    fn forward(&self, inputs: &[&Tensor]) -> (Tensor, Vec<Tensor>);

    /// The gradient of each input, given that of the output.
    fn backward(&self, saved: &[Tensor], gradient: &Tensor) -> Vec<Tensor>;
}

/// Applies `function`; the output has a graph to the inputs that need a gradient.
pub(crate) fn apply<F: Function>(function: F, inputs: &[&Tensor]) -> Tensor {
    let (value, saved) = {
        let _guard = no_grad_guard();
        function.forward(inputs)
    };
    if !inputs.iter().any(|input| input.requires_grad()) {
        return value;
    }
    let saved: Vec<&Tensor> = saved.iter().collect();
    let node = shim::Node {
        rust: Box::into_raw(Box::new(function)).cast(),
        backward: backward::<F>,
        drop: forget::<F>,
    };
    shim::node(inputs, &value, &saved, &node)
}

extern "C" fn backward<F: Function>(
    function: *const c_void,
    saved: *const *mut C_tensor,
    count: i64,
    gradient: *const C_tensor,
    gradients: *mut *mut C_tensor,
) {
    let _guard = no_grad_guard();
    // SAFETY: the node holds the box of `F` that `apply` made, until it drops it.
    let function = unsafe { &*function.cast::<F>() };
    // SAFETY: the shim lends `count` tensors and the gradient for the time of the call; clones are our own.
    let (saved, gradient) = unsafe {
        let saved = slice::from_raw_parts(saved, count as usize);
        let own = |tensor: *const C_tensor| Tensor::clone_from_ptr(tensor.cast_mut());
        (saved.iter().map(|tensor| own(*tensor)).collect::<Vec<_>>(), own(gradient))
    };
    for (place, gradient) in function.backward(&saved, &gradient).into_iter().enumerate() {
        // SAFETY: there is a place for each input, and the shim takes the tensor over.
        unsafe { *gradients.add(place) = shim::into_raw(gradient) };
    }
}

extern "C" fn forget<F>(function: *mut c_void) {
    // SAFETY: the box that `apply` made; the node drops it once.
    drop(unsafe { Box::from_raw(function.cast::<F>()) });
}

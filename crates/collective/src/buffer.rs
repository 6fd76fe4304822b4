//! A tensor whose memory comes and goes.

use tch::{Device, Kind, Tensor};

use crate::shim::{self, Typed as _};
use crate::{Error, Result};

/// A flat tensor without memory while nobody needs it. Its views, also those that a gradient's graph keeps, stay what
/// they are meanwhile, and show the new content when the memory is back: what PyTorch's FSDP does with a gathered
/// block between its forward and its backward.
#[derive(Debug)]
pub struct Buffer {
    tensor: Tensor,
    held: bool,
}

impl Buffer {
    /// `[len]` values of `kind` on `device`, without memory.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn new(len: i64, kind: Kind, device: Device) -> Result<Self> {
        let tensor = Tensor::f_empty([len], (kind, device))?;
        let mut buffer = Self { tensor, held: true };
        // SAFETY: nobody else has seen the tensor.
        unsafe { buffer.release()? };
        Ok(buffer)
    }

    /// Whether it has memory.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Takes memory, of unknown content, unless it has some.
    ///
    /// # Errors
    /// If there is none.
    pub fn hold(&mut self) -> Result<()> {
        if !self.held {
            shim::restore_storage(&self.tensor).typed(no_timeout)?;
            self.held = true;
        }
        Ok(())
    }

    /// Gives its memory back.
    ///
    /// # Errors
    /// If libtorch refuses.
    ///
    /// # Safety
    /// Until the next [`Buffer::hold`] nobody reads or writes the tensor or a view of it, least of all an operation
    /// under way.
    pub unsafe fn release(&mut self) -> Result<()> {
        if self.held {
            shim::release_storage(&self.tensor).typed(no_timeout)?;
            self.held = false;
        }
        Ok(())
    }

    /// The tensor for views `[len]`.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The tensor for an operation that fills it `[len]`: graphs do not take what it writes for a change of theirs.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn content(&self) -> Result<Tensor> {
        Ok(self.tensor.f_data()?)
    }
}

fn no_timeout() -> Error {
    Error::Internal { detail: "memory was waited for".into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    #[test]
    fn a_graph_reads_what_its_buffer_holds_when_it_is_back() {
        let mut buffer = Buffer::new(4, Kind::Float, Device::Cpu).unwrap();
        let fill = |buffer: &mut Buffer, value: f64| {
            buffer.hold().unwrap();
            let _ = buffer.content().unwrap().fill_(value);
        };
        fill(&mut buffer, 3.0);
        let leaf = buffer.tensor().narrow(0, 1, 2).detach().set_requires_grad(true);
        let input = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let product = (&leaf * &input).sum(Kind::Float);
        // SAFETY: the graph is read only after the buffer is held again.
        unsafe { buffer.release().unwrap() };
        assert!(!buffer.is_held());
        fill(&mut buffer, 5.0);
        product.backward();
        assert_eq!(input.grad().double_value(&[1]), 5.0);
        assert_eq!(leaf.grad().double_value(&[0]), 1.0);
    }
}

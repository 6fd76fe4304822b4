//! Parameters in a compute type that is wider than the one they are held in, for as long as their link computes.

use std::collections::BTreeMap;

use collective::Buffer;
use model::Params;
use tch::{Kind, no_grad_guard};

use crate::Error;

/// Widened parameters by name. A graph keeps their places between its forward and its backward, without their memory:
/// else `recompute: none` would hold every parameter of the model at once.
#[derive(Debug)]
pub(crate) struct Widened {
    /// Compute type.
    kind: Kind,
    places: BTreeMap<String, Buffer>,
}

impl Widened {
    /// None yet.
    pub(crate) fn to(kind: Kind) -> Self {
        Self { kind, places: BTreeMap::new() }
    }

    /// `params` in compute type; those that are of it already are shared, not copied.
    ///
    /// # Errors
    /// If there is no memory.
    pub(super) fn widen(&mut self, params: Params) -> Result<Params, Error> {
        let _guard = no_grad_guard();
        let mut wide = Params::new();
        for (name, held) in params {
            if held.kind() == self.kind {
                wide.insert(name, held);
                continue;
            }
            let place = match self.places.remove(&name) {
                Some(place) => place,
                None => Buffer::new(held.numel() as i64, self.kind, held.device())?,
            };
            let place = self.places.entry(name.clone()).or_insert(place);
            if !place.is_held() {
                place.hold()?;
                place.content()?.copy_(&held.reshape([-1]));
            }
            wide.insert(name, place.tensor().view(held.size().as_slice()));
        }
        Ok(wide)
    }

    /// Gives back the memory of all but `names`, which compute next.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub(super) fn keep(&mut self, names: &[String]) -> Result<(), Error> {
        for (_, place) in self.places.iter_mut().filter(|(name, _)| !names.contains(name)) {
            // SAFETY: no operation is under way. Views are leaves of a link, which reads them between
            // `Weights::params` and the next `Weights::announce` that does not begin with it.
            unsafe { place.release()? };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Tensor};

    use super::*;

    #[test]
    fn a_graph_keeps_a_widened_parameters_place_and_its_backward_reads_it_again() {
        let held = Tensor::from_slice(&[3.0_f32, 5.0]).to_kind(Kind::BFloat16);
        let params = || Params::from_iter([("w".to_owned(), held.shallow_clone())]);
        let mut widened = Widened::to(Kind::Float);
        let leaf = widened.widen(params()).expect("memory").get("w").detach().set_requires_grad(true);
        let x = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let product = (&leaf * &x).sum(Kind::Float);
        widened.keep(&[]).expect("released");
        assert!(widened.places.values().all(|place| !place.is_held()));
        let _ = widened.widen(params()).expect("memory");
        product.backward();
        assert_eq!(Vec::<f32>::try_from(x.grad()).expect("values"), [3.0, 5.0]);
    }

    #[test]
    fn what_has_the_compute_type_is_shared() {
        let held = Tensor::from_slice(&[3.0_f32]);
        let params = Params::from_iter([("w".to_owned(), held.shallow_clone())]);
        let wide = Widened::to(Kind::Float).widen(params).expect("shared");
        assert_eq!(wide.get("w").data_ptr(), held.data_ptr());
    }
}

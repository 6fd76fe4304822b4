//! A trainer's state from a rank that has it to all others.

use collective::Group;
use settings::Sharding;
use tch::{Tensor, no_grad_guard};

use crate::reference::Reference;
use crate::{Error, Seat, Trainer};

impl Trainer {
    /// Where the rank stood in the world that the weights are laid out for.
    #[must_use]
    pub fn seat(&self) -> Seat {
        self.seat
    }

    /// Makes the state of every rank that of rank `source`, bit for bit: masters and moments, frozen values, the number
    /// of optimizer steps, the reference policy. All ranks of `group` must call it, in the same stage; `progress` is
    /// called after every tensor. A prepared step is forgotten. Where it fails, the state of the others is of no use.
    ///
    /// # Errors
    /// Where ranks hold slices (only `sharding: replicate` can be healed from one rank), the ranks' states have other
    /// sizes, or a collective fails.
    pub fn heal(
        &mut self,
        source: usize,
        group: &dyn Group,
        progress: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        let sharding = self.stage().parallel.sharding;
        if sharding != Sharding::Replicate {
            return Err(Error::NotWhole { sharding });
        }
        let _guard = no_grad_guard();
        self.discard();
        let ranks = self.ranks(group)?;
        let mut share = |tensor: &Tensor| {
            ranks.group.broadcast(tensor, source)?.wait(ranks.deadline)?;
            progress();
            Ok::<_, Error>(())
        };
        let pieces = self.sharding().pieces();
        let reference = self.reference.as_ref().map(Reference::state).unwrap_or_default();
        let kept_steps = self.reference.as_ref().map_or(0, Reference::steps);
        let values = |all: &mut dyn Iterator<Item = &Tensor>| all.map(|t| t.numel() as i64).sum::<i64>();
        let sizes = [
            pieces.len() as i64,
            values(&mut pieces.iter().map(|piece| &piece.values)),
            reference.len() as i64,
            values(&mut reference.iter().map(|(_, tensor)| tensor)),
        ];
        let [steps, kept_steps] = [self.sharding().steps(), kept_steps].map(u64::cast_signed);
        let own = [sizes.as_slice(), &[steps, kept_steps]].concat();
        let facts = Tensor::from_slice(&own).to_device(self.model().device);
        share(&facts)?;
        let given: Vec<i64> = (0..own.len() as i64).map(|at| facts.int64_value(&[at])).collect();
        if given[..sizes.len()] != sizes {
            return Err(Error::OtherState { own: sizes.to_vec(), given: given[..sizes.len()].to_vec() });
        }
        for piece in &pieces {
            share(&piece.values)?;
        }
        let [steps, kept_steps] = [given[sizes.len()], given[sizes.len() + 1]].map(i64::cast_unsigned);
        self.sharding_mut().refresh(steps);
        if let Some(kept) = &mut self.reference {
            kept.take_up([], kept_steps);
        }
        for (name, tensor) in reference {
            // The reference's tensors may be others' too: they are replaced, never written to.
            let tensor = if group.rank() == source { tensor } else { tensor.empty_like() };
            share(&tensor)?;
            if let Some(kept) = &mut self.reference {
                kept.take_up([(name, tensor)], kept_steps);
            }
        }
        Ok(())
    }
}

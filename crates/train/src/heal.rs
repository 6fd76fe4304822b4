//! A trainer's state from ranks that have it to those that lost it.

use collective::Group;
use settings::Sharding;
use tch::{Tensor, no_grad_guard};

use crate::mirror::Mirror;
use crate::reference::Reference;
use crate::sharding::Ranks;
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
        self.share_reference(source, kept_steps, &ranks, progress)
    }

    /// From the next step on the rank `by` places on (after the last comes the first) keeps what this one owns, and this
    /// one what the rank `by` places back owns; 0, or where every rank holds everything: nobody does.
    pub fn mirror_by(&mut self, by: usize) {
        let by = if self.stage().parallel.sharding == Sharding::Replicate { 0 } else { by };
        if by != self.mirror_by {
            (self.mirror_by, self.mirror) = (by, None);
        }
    }

    /// Whether it has what another rank owns, as it is after the same step.
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        self.mirror.is_some()
    }

    /// Gives the ranks `lost`, which have begun the stage afresh, what they owned, from the ranks that mirror it: masters
    /// and moments, frozen values, the number of optimizer steps, the reference policy, bit for bit. All ranks of `group`
    /// must call it, in the same stage and with the same [`Trainer::mirror_by`]; `progress` is called now and then. A
    /// prepared step is forgotten. Where it fails, the state of those that were lost is of no use.
    ///
    /// # Errors
    /// If this rank is to give what it does not have, or a collective fails.
    pub fn give_back(
        &mut self,
        lost: &[usize],
        group: &dyn Group,
        progress: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        let _guard = no_grad_guard();
        self.discard();
        let ranks = self.ranks(group)?;
        let (rank, world, by) = (group.rank(), group.world_size(), self.mirror_by);
        let source = (0..world).find(|rank| !lost.contains(rank)).ok_or(Error::NotMirrored)?;
        let gives = by > 0 && by < world && lost.contains(&((rank + world - by) % world));
        if by == 0 || by >= world || (gives && self.mirror.is_none()) {
            return Err(Error::NotMirrored);
        }
        let is_lost = lost.contains(&rank);
        let kept_steps = self.reference.as_ref().map_or(0, Reference::steps);
        let facts = [self.sharding().steps(), kept_steps].map(u64::cast_signed);
        let facts = Tensor::from_slice(&facts).to_device(self.model().device);
        group.broadcast(&facts, source)?.wait(ranks.deadline)?;
        let [steps, kept_steps] = [0, 1].map(|at| facts.int64_value(&[at]).cast_unsigned());
        let own = self.sharding().slices();
        Mirror::give_back(self.mirror.as_ref(), &own, is_lost, by, &ranks)?;
        progress();
        for values in &own.shared {
            group.broadcast(values, source)?.wait(ranks.deadline)?;
            progress();
        }
        self.sharding_mut().refresh(steps);
        self.share_reference(source, kept_steps, &ranks, progress)
    }

    /// Makes the reference policy of every rank that of rank `source`.
    fn share_reference(
        &mut self,
        source: usize,
        steps: u64,
        ranks: &Ranks<'_>,
        progress: &mut dyn FnMut(),
    ) -> Result<(), Error> {
        let Some(kept) = &mut self.reference else { return Ok(()) };
        let state = kept.state();
        kept.take_up([], steps);
        for (name, tensor) in state {
            // The reference's tensors may be others' too: they are replaced, never written to.
            let tensor = if ranks.group.rank() == source { tensor } else { tensor.empty_like() };
            ranks.group.broadcast(&tensor, source)?.wait(ranks.deadline)?;
            progress();
            kept.take_up([(name, tensor)], steps);
        }
        Ok(())
    }
}

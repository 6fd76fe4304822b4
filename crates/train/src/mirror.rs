//! What another rank owns, kept in memory beside this one's own: masters and moments that its reduced gradient steps
//! alike, so that they are there, bit for bit, when that rank is lost.
//!
//! ```text
//! rank i: own slices ── before the first step: masters, moments, frozen values ──→ rank i + by: mirror
//!         gradient   ── every step, once it is reduced ──────────────────────────→ gradient
//!         commit: one AdamW step                                                   commit: the same one
//! ```

use tch::{Tensor, no_grad_guard};

use crate::Error;
use crate::adamw::{AdamW, Buffers};
use crate::sharding::{Ranks, Slice, Slices};

/// The slices of the rank `by` places back.
#[derive(Debug)]
pub(crate) struct Mirror(Slices);

/// Fills `output` with what the rank `by` places back has as `input`.
fn shift(ranks: &Ranks<'_>, by: usize, output: &Tensor, input: &Tensor) -> Result<(), Error> {
    Ok(ranks.group.shift(output, input, by)?.wait(ranks.deadline)?)
}

impl Mirror {
    /// Exchanges what ranks own with those `by` places on; every rank has to, also one that has its mirror and does not
    /// `want` another, to which this gives none.
    ///
    /// # Errors
    /// If a collective fails.
    pub(crate) fn exchange(
        own: &Slices,
        want: bool,
        by: usize,
        ranks: &Ranks<'_>,
    ) -> Result<Option<Self>, Error> {
        let _guard = no_grad_guard();
        let give = |tensor: &Tensor| {
            let other = tensor.empty_like();
            shift(ranks, by, &other, tensor).map(|()| other)
        };
        let mut mirror = Slices::default();
        for slice in &own.trained {
            let [master, exp_avg, exp_avg_sq] = slice.kept().map(give);
            let (master, exp_avg, exp_avg_sq) = (master?, exp_avg?, exp_avg_sq?);
            if want {
                let grad = slice.grad.zeros_like();
                mirror.trained.push(Slice { master, exp_avg, exp_avg_sq, grad });
            }
        }
        for values in &own.frozen {
            let values = give(values)?;
            if want {
                mirror.frozen.push(values);
            }
        }
        Ok(want.then_some(Self(mirror)))
    }

    /// Takes in the other rank's reduced gradient, and gives its own on.
    ///
    /// # Errors
    /// If a collective fails.
    pub(crate) fn receive(&mut self, own: &Slices, by: usize, ranks: &Ranks<'_>) -> Result<(), Error> {
        let _guard = no_grad_guard();
        let start = |(mirror, own): (&mut Slice, &Slice)| {
            // A buffer that a failed operation may still write to is never read.
            mirror.grad = mirror.grad.empty_like();
            ranks.group.shift(&mirror.grad, &own.grad, by)
        };
        let under_way: Vec<_> =
            self.0.trained.iter_mut().zip(&own.trained).map(start).collect::<Result<_, _>>()?;
        for work in under_way {
            work.wait(ranks.deadline)?;
        }
        Ok(())
    }

    /// The step that the other rank takes.
    pub(crate) fn apply(&self, adamw: &AdamW, factor: f64) {
        let _guard = no_grad_guard();
        for Slice { master, exp_avg, exp_avg_sq, grad } in &self.0.trained {
            adamw.apply(&Buffers { master, exp_avg, exp_avg_sq, grad }, factor);
        }
    }

    /// Gives ranks that lost everything what they owned: `own` of a `lost` rank is filled, that of the others stays.
    /// Every rank has to take part; a lost one has no mirror.
    ///
    /// # Errors
    /// If a collective fails.
    pub(crate) fn give_back(
        mirror: Option<&Self>,
        own: &Slices,
        lost: bool,
        by: usize,
        ranks: &Ranks<'_>,
    ) -> Result<(), Error> {
        let _guard = no_grad_guard();
        let back = ranks.group.world_size() - by;
        let give = |held: Option<&Tensor>, own: &Tensor| {
            let (nothing, aside);
            let input = match held {
                Some(held) => held,
                None => {
                    nothing = own.zeros_like();
                    &nothing
                }
            };
            let output = if lost {
                own
            } else {
                aside = own.empty_like();
                &aside
            };
            shift(ranks, back, output, input)
        };
        for (i, slice) in own.trained.iter().enumerate() {
            let held = mirror.and_then(|mirror| mirror.0.trained.get(i)).map(Slice::kept);
            for (part, own) in slice.kept().into_iter().enumerate() {
                give(held.map(|held| held[part]), own)?;
            }
        }
        for (i, own) in own.frozen.iter().enumerate() {
            give(mirror.and_then(|mirror| mirror.0.frozen.get(i)), own)?;
        }
        Ok(())
    }
}

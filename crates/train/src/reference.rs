//! The reference policy of a stage's KL term: its start, a copy that follows the policy from afar, or the model without
//! its adapters. It holds what the stage trains; the rest is the policy's own, which never changes.

use model::{Adapters, Params, Qwen};
use settings::{Objective, Reference as Kept, Stage, StageKind};
use tch::{Kind, Tensor, no_grad_guard};

use crate::Error;
use crate::blocks::BlockId;
use crate::sharding::Weights;

/// Begins the names that a saved state gives the reference's tensors.
const HELD: &str = "reference/";
/// Of those that move exactly.
const EXACT: &str = "reference_exact/";
/// The steps committed since its last move.
pub(crate) const STEPS: &str = "reference_steps";

/// Whether a saved tensor is the reference policy's.
pub(crate) fn is_reference(name: &str) -> bool {
    name == STEPS || name.starts_with(HELD) || name.starts_with(EXACT)
}

/// A reference's tensors, by the names that a saved state gives them.
pub(crate) type State = Vec<(String, Tensor)>;

/// What the policy is held to.
#[derive(Debug)]
pub(crate) struct Reference {
    /// What the stage trains, as weights are held; nothing where that is adapters and the reference has none.
    params: Params,
    /// Computes it.
    pub(crate) model: Qwen,
    /// f32 of the trained ones, where they move: small mixtures would vanish in bf16.
    exact: Params,
    /// Steps committed since the last move.
    steps: u64,
}

impl Reference {
    /// A copy of the stage's start, f32 `weights` of which those for which `trains` holds move, where its loss needs one.
    pub(crate) fn of(
        stage: &Stage,
        weights: &Params,
        model: &Qwen,
        trains: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        if stage.kind != StageKind::Prpo || stage.objective.beta == 0.0 {
            return None;
        }
        let _guard = no_grad_guard();
        let mut model = model.clone();
        let (mut params, mut exact) = (Params::new(), Params::new());
        if stage.objective.reference == Kept::Base {
            model.adapters = Adapters::none();
            return Some(Self { params, model, exact, steps: 0 });
        }
        let held = |tensor: &Tensor| tensor.detach().to_device(model.device).to_kind(model.weights);
        for (name, tensor) in weights.iter().filter(|(name, _)| trains(name)) {
            params.insert(name.clone(), held(tensor));
        }
        if stage.objective.reference == Kept::Synced {
            for (name, tensor) in weights.iter().filter(|(name, _)| trains(name)) {
                exact.insert(name.clone(), tensor.detach().to_kind(Kind::Float).copy());
            }
        }
        Some(Self { params, model, exact, steps: 0 })
    }

    /// Whether it moves with the policy's weight called `name`.
    pub(crate) fn follows(&self, name: &str) -> bool {
        self.exact.find(name).is_some()
    }

    /// Its weights, over those of the `policy`.
    pub(crate) fn over<'a>(&'a self, policy: &'a mut dyn Weights) -> Over<'a> {
        Over { own: &self.params, kind: self.model.kind, policy }
    }

    /// What going on needs of it besides [`Reference::steps`], by the names that a saved state gives it.
    pub(crate) fn state(&self) -> State {
        let mut state = Vec::new();
        for (prefix, params) in [(HELD, &self.params), (EXACT, &self.exact)] {
            state
                .extend(params.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.contiguous())));
        }
        state
    }

    /// Takes up what [`Reference::state`] gave, and the steps committed since its last move.
    pub(crate) fn take_up(&mut self, state: impl IntoIterator<Item = (String, Tensor)>, steps: u64) {
        for (name, tensor) in state {
            if let Some(name) = name.strip_prefix(HELD) {
                self.params.insert(name, tensor);
            } else if let Some(name) = name.strip_prefix(EXACT) {
                self.exact.insert(name, tensor);
            }
        }
        self.steps = steps;
    }

    /// Steps committed since the last move.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// A step was committed.
    pub(crate) fn committed(&mut self) {
        self.steps += 1;
    }

    /// Whether [`Reference::follow`] is to be called before the next step.
    pub(crate) fn is_due(&self, objective: &Objective) -> bool {
        objective.reference == Kept::Synced && self.steps >= objective.sync_every.max(1)
    }

    /// ref ← α·policy + (1 − α)·ref, with the policy's `weights` by name.
    pub(crate) fn follow(&mut self, weights: impl IntoIterator<Item = (String, Tensor)>, mixture: f64) {
        let _guard = no_grad_guard();
        for (name, weight) in weights {
            if let Some(own) = self.exact.find(&name) {
                let mixed = own * (1.0 - mixture) + weight.to_device(own.device()) * mixture;
                let held = mixed.to_device(self.model.device).to_kind(self.model.weights);
                self.params.insert(name.clone(), held);
                self.exact.insert(name, mixed);
            }
        }
        self.steps = 0;
    }
}

/// A reference policy's weights: its own, else the policy's. Nothing of it trains.
pub(crate) struct Over<'a> {
    own: &'a Params,
    /// Compute type.
    kind: Kind,
    policy: &'a mut dyn Weights,
}

impl Over<'_> {
    fn others(&self, names: &[String]) -> Vec<String> {
        names.iter().filter(|name| self.own.find(name).is_none()).cloned().collect()
    }
}

impl Weights for Over<'_> {
    fn trains(&self, _: &str) -> bool {
        false
    }

    fn announce(&mut self, next: &[&[String]]) -> Result<(), Error> {
        let others: Vec<Vec<String>> = next.iter().map(|names| self.others(names)).collect();
        self.policy.announce(&others.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn params(&mut self, names: &[String]) -> Result<Params, Error> {
        let mut params = self.policy.params(&self.others(names))?;
        for name in names {
            if let Some(own) = self.own.find(name) {
                params.insert(name.clone(), own.to_kind(self.kind));
            }
        }
        Ok(params)
    }

    fn accumulate(&mut self, _: &str, _: &Tensor) {}

    fn reduce_above(&mut self, _: Option<BlockId>) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use collective::LocalGroup;
    use settings::{Objective, Reference as Kept, StageKind};
    use tch::Kind;

    use super::Reference;
    use crate::testing::{counts, model, policy_item, prepare, stage, trainer};

    const NORM: &str = "model.norm.weight";

    /// Sums of the KL term over three steps.
    fn kl(objective: Objective) -> Vec<f64> {
        let mut stage = stage(StageKind::Prpo);
        stage.objective = objective;
        let mut trainer = trainer(&stage);
        let items = [policy_item(1, true, &[3, 2])];
        let mut step = || {
            let prepared = prepare(&mut trainer, &items, counts(&items), &LocalGroup::alone());
            trainer.commit(false).expect("prepared");
            prepared.metrics.get("kl").copied().unwrap_or(f64::NAN)
        };
        vec![step(), step(), step()]
    }

    #[test]
    fn a_synced_reference_is_the_policy_again_after_every_so_many_steps() {
        let synced = |sync_every| Objective {
            reference: Kept::Synced,
            sync_every,
            sync_mixture: 1.0,
            ..Objective::default()
        };
        let initial = kl(Objective::default());
        assert!(initial[1] > 1e-4 && initial[2] > initial[1], "{initial:?}");
        let every = kl(synced(1));
        assert!(every.iter().all(|kl| kl.abs() < 1e-9), "{every:?}");
        let second = kl(synced(2));
        assert_eq!(second[1], initial[1]);
        assert!(second[2].abs() < 1e-9, "{second:?}");
        assert_eq!(kl(synced(3)), initial);
    }

    #[test]
    fn a_reference_moves_by_the_mixture_in_f32_and_only_where_it_is_synced() {
        let mut stage = stage(StageKind::Prpo);
        let mut trainer = trainer(&stage);
        let weights = trainer.weights(&LocalGroup::alone()).expect("alone");
        let start = weights.get(NORM).copy();
        let policy = || [(NORM.to_owned(), &start + 0.001)];
        for (kept, expected) in [(Kept::Synced, 0.000_19), (Kept::Initial, 0.0)] {
            stage.objective.reference = kept;
            let mut reference =
                Reference::of(&stage, &weights, &model(true), |_| true).expect("β is above 0");
            (reference.model.kind, reference.model.weights) = (Kind::BFloat16, Kind::BFloat16);
            reference.follow(policy(), 0.1);
            reference.follow(policy(), 0.1);
            let moved = |of: &model::Params| {
                of.find(NORM).map_or(0.0, |t| (t - &start).mean(Kind::Float).double_value(&[]))
            };
            assert!((moved(&reference.exact) - expected).abs() < 1e-6, "{kept:?}");
            let kind = if kept == Kept::Synced { Kind::BFloat16 } else { Kind::Float };
            assert_eq!(reference.params.get(NORM).kind(), kind);
        }
    }

    #[test]
    fn without_a_kl_term_there_is_no_reference() {
        let mut stage = stage(StageKind::Prpo);
        stage.objective.beta = 0.0;
        let weights = trainer(&stage).weights(&LocalGroup::alone()).expect("alone");
        assert!(Reference::of(&stage, &weights, &model(true), |_| true).is_none());
    }
}

//! What a step gives each rank to do.

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::{Counts, Sample, Sampling, TrainItem};

use super::Rank;

/// Which of its samples a try at a step holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Ids of samples in quarantine.
    pub without: BTreeSet<String>,
    /// Ids of those that a search looks at alone; `None`: the whole step.
    pub only: Option<BTreeSet<String>>,
}

impl Choice {
    /// Whether the sample is in it.
    #[must_use]
    pub fn holds(&self, id: &str) -> bool {
        !self.without.contains(id) && self.only.as_ref().is_none_or(|only| only.contains(id))
    }
}

/// What a step does first.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Draw responses; they are scored before the update.
    Rollout(RolloutWork),
    /// Update at once: supervised stages, and further iterations on the last rollouts.
    Update(UpdateWork),
}

/// Responses to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutWork {
    /// Each rank's share; every rank of the world has one, possibly empty.
    pub samples: BTreeMap<Rank, Vec<Sample>>,
    /// How responses are drawn.
    pub sampling: Sampling,
}

/// Items to train on.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateWork {
    /// The learning rate.
    pub lr: f64,
    /// Over all ranks.
    pub counts: Counts,
    /// Each rank's share; every rank of the world has one, possibly empty.
    pub items: BTreeMap<Rank, Vec<TrainItem>>,
    /// Ids of the samples, in the plan's order.
    pub samples: Vec<String>,
    /// Where the data plan stands after the step.
    pub cursor: String,
    /// Known before the update: rewards, zero-spread groups, ….
    pub metrics: BTreeMap<String, f64>,
}

//! What a run will take, before anything runs: samples, steps, tokens a step, memory a device, bytes a step.
//!
//! ```text
//! recipe, host file → [facts: shape of the model, sizes of pictures] → Load (tokens) → memory, bytes → lines
//! ```
//!
//! Numbers are bounds from formulas (docs/benchmarks.md), with completions as long as they may be. What is not on
//! this machine is stood in for by what the recipe declares, and every line that rests on that says so.

mod facts;
mod lines;
mod load;
mod memory;
mod native;
mod wire;

pub use lines::lines;

pub(crate) use facts::{Facts, stand_in};

use settings::{Dtype, Hosts, ModelShape, Redundancy, Run, Sharding, Stage, Trainable};

/// The parameters of a stage, by what becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// P, trained.
    pub(crate) trained: u64,
    /// F, frozen.
    pub(crate) frozen: u64,
    /// B, the largest block's.
    pub(crate) largest: u64,
    /// E, a tied embedding's.
    pub(crate) embedding: u64,
    /// L, the last layer's and norm's.
    pub(crate) last: u64,
}

impl Parameters {
    pub(crate) fn of(shape: &ModelShape, stage: &Stage) -> Self {
        let blocks = shape.blocks();
        let all: u64 = blocks.iter().map(|block| block.parameters).sum();
        let vision: u64 = blocks.iter().filter(|block| block.vision).map(|block| block.parameters).sum();
        let (trained, frozen) = match stage.trainable {
            Trainable::All => (all, 0),
            Trainable::Language => (all - vision, vision),
            Trainable::Vision => (vision, all - vision),
            Trainable::Lora => (adapters(shape, stage), all),
        };
        Self {
            trained,
            frozen,
            largest: blocks.iter().map(|block| block.parameters).max().unwrap_or(0),
            embedding: if shape.tied { blocks.first().map_or(0, |block| block.parameters) } else { 0 },
            last: blocks.iter().rev().take(2).map(|block| block.parameters).sum(),
        }
    }

    pub(crate) fn all(self) -> u64 {
        self.trained + self.frozen
    }
}

/// Both matrices of every adapter.
fn adapters(shape: &ModelShape, stage: &Stage) -> u64 {
    let maps = shape.linear_maps();
    let chosen = stage.lora.targets.choose(maps.iter().map(|map| map.name.as_str()), |_| true);
    let sides =
        |name: &&str| maps.iter().find(|map| map.name == **name).map_or(0, |m| m.sides[0] + m.sides[1]);
    u64::from(stage.lora.rank) * chosen.iter().map(sides).sum::<u64>()
}

/// Who computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct World {
    /// N, ranks.
    pub(crate) ranks: u64,
    /// n, ranks that share a node; all of the largest size that fits every node.
    pub(crate) per_node: u64,
}

impl World {
    pub(crate) fn of(hosts: &Hosts) -> Self {
        let of_hosts = hosts.hosts.iter().map(|host| u64::from(host.workers));
        let ranks: u64 = of_hosts.clone().sum();
        Self { ranks: ranks.max(1), per_node: of_hosts.fold(0, greatest_common_divisor).max(1) }
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// The ranks over which a stage's slices are cut that lie with another rank too; none where none do.
pub(crate) fn mirrored(run: &Run, stage: &Stage, world: World) -> Option<u64> {
    let slices = match stage.parallel.sharding {
        Sharding::Replicate => None,
        Sharding::Optimizer | Sharding::Full => Some(world.ranks),
        Sharding::Hybrid => Some(world.per_node),
    };
    slices.filter(|_| run.recovery.redundancy == Redundancy::Neighbour && world.ranks > 1)
}

/// c, bytes of a number in compute type.
pub(crate) fn width(dtype: Dtype) -> u64 {
    match dtype {
        Dtype::Bfloat16 => 2,
        Dtype::Float32 => 4,
    }
}

#[cfg(test)]
mod tests {
    use settings::Published;

    use super::*;

    #[test]
    fn what_trains_and_what_is_frozen_are_all_parameters() {
        let shape = ModelShape::published(Published::Qwen7B);
        let of = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
            let run = settings::default_run(&sets).expect("settings");
            Parameters::of(&shape, &run.stages[0])
        };
        let all = of(&[]);
        assert_eq!((all.trained, all.frozen, all.embedding), (8_292_166_656, 0, 0));
        for trainable in ["language", "vision"] {
            let part = of(&[&format!("model.trainable={trainable}")]);
            assert_eq!(part.all(), all.trained);
            assert!(part.trained > 0 && part.frozen > 0);
        }
        // Rank 8 on q_proj and v_proj of 28 layers: 8 · 28 · ((3584 + 3584) + (3584 + 512)).
        let lora = of(&["model.trainable=lora"]);
        assert_eq!((lora.trained, lora.frozen), (8 * 28 * (7168 + 4096), all.trained));
    }
}

//! Bytes that a rank sends for a step (docs/benchmarks.md, "Bytes on the wire").

use settings::{Run, Sharding, Stage, StageKind};

use super::{Parameters, World, mirrored, width};

/// Of the update and, where weights are sliced, of the copy that draws responses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sent {
    pub(crate) update: f64,
    pub(crate) rollout: f64,
}

pub(crate) fn sent(run: &Run, stage: &Stage, of: Parameters, micro_batches: u64, world: World) -> Sent {
    let c = width(run.model.dtype) as f64;
    let share = |ranks: u64| (ranks - 1) as f64 / ranks as f64;
    let (trained, all) = (of.trained as f64, of.all() as f64);
    let (embedding, last) = (of.embedding as f64, of.last as f64);
    let blocks =
        |ranks| micro_batches as f64 * share(ranks) * (4.0 * trained + c * (2.0 * all + embedding - last));
    let nodes = (world.ranks / world.per_node).max(1);
    let update = match stage.parallel.sharding {
        Sharding::Replicate => 2.0 * share(world.ranks) * 4.0 * trained,
        Sharding::Optimizer => share(world.ranks) * (4.0 + c) * trained,
        Sharding::Full => blocks(world.ranks),
        Sharding::Hybrid => {
            blocks(world.per_node) + 2.0 * share(nodes) * 4.0 * trained / world.per_node as f64
        }
    };
    let mirror = mirrored(run, stage, world).map_or(0.0, |slices| 4.0 * trained / slices as f64);
    let sliced = match stage.parallel.sharding {
        Sharding::Full => share(world.ranks),
        Sharding::Hybrid => share(world.per_node),
        Sharding::Replicate | Sharding::Optimizer => 0.0,
    };
    let drawn = stage.kind == StageKind::Prpo;
    Sent { update: update + mirror, rollout: if drawn { sliced * c * all } else { 0.0 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model of docs/benchmarks.md's table: 4.8 M parameters, tied, bf16, two workers.
    #[test]
    fn bytes_are_those_that_were_measured() {
        let of = Parameters { trained: 4_785_000, frozen: 0, largest: 0, embedding: 0, last: 0 };
        let update = |sharding: &str| {
            let run = settings::default_run(&[format!("parallel.sharding={sharding}")]).expect("settings");
            sent(&run, &run.stages[0], of, 1, World { ranks: 2, per_node: 2 }).update / 1e6
        };
        assert!((update("replicate") - 19.14).abs() < 0.01, "{}", update("replicate"));
        assert!((update("optimizer") - 14.355).abs() < 0.01, "{}", update("optimizer"));
        // Without the embedding and the last layer, which the table's model has.
        assert!((update("full") - 19.14).abs() < 0.01, "{}", update("full"));
        assert_eq!(update("full"), update("hybrid"), "one node");
    }

    #[test]
    fn a_mirror_takes_a_slices_gradient_a_step() {
        let of = Parameters { trained: 4_000_000, ..Parameters::default() };
        let update = |redundancy: &str| {
            let sets = ["parallel.sharding=full".to_owned(), format!("recovery.redundancy={redundancy}")];
            let run = settings::default_run(&sets).expect("settings");
            sent(&run, &run.stages[0], of, 1, World { ranks: 4, per_node: 4 }).update
        };
        assert_eq!(update("neighbour") - update("none"), 4.0 * 1e6);
    }

    #[test]
    fn one_rank_sends_nothing() {
        let of = Parameters { trained: 10, ..Parameters::default() };
        for sharding in ["replicate", "optimizer", "full", "hybrid"] {
            let run = settings::default_run(&[format!("parallel.sharding={sharding}")]).expect("settings");
            let none = sent(&run, &run.stages[0], of, 3, World { ranks: 1, per_node: 1 });
            assert_eq!(none, Sent { update: 0.0, rollout: 0.0 });
        }
    }
}

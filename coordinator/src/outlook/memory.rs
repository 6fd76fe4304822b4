//! Memory of a device, by what holds it (docs/benchmarks.md).

use settings::{ModelShape, Recompute, Reference, Run, Sharding, Stage, StageKind, Trainable};

use super::load::Load;
use super::{Parameters, World, mirrored, width};

/// Rows of the head's logits that are whole at once.
const HEAD_ROWS: f64 = 1024.0;

/// Bytes of one device, about, by what holds them; only those above 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// Held throughout.
    pub(crate) kept: Vec<(&'static str, f64)>,
    /// Held in an update alone.
    pub(crate) update: Vec<(&'static str, f64)>,
    /// Held in a rollout alone, which is never at the same time.
    pub(crate) rollout: Vec<(&'static str, f64)>,
}

impl Memory {
    /// At most at once.
    pub(crate) fn most(&self) -> f64 {
        let sum = |held: &[(&str, f64)]| held.iter().map(|(_, bytes)| bytes).sum::<f64>();
        sum(&self.kept) + sum(&self.update).max(sum(&self.rollout))
    }
}

/// What a stage holds on one device.
pub(crate) fn memory(
    run: &Run,
    stage: &Stage,
    shape: &ModelShape,
    of: Parameters,
    load: &Load,
    world: World,
) -> Memory {
    let c = width(run.model.dtype) as f64;
    let (trained, frozen, largest) = (of.trained as f64, of.frozen as f64, of.largest as f64);
    let copy = if run.model.dtype == settings::Dtype::Float32 { 0.0 } else { c };
    let sliced = |ranks: u64| (16.0 + copy) * trained / ranks as f64 + c * frozen / ranks as f64;
    let under_way = 4.0 * c * largest + 7.0 * 4.0 * largest;
    let (state, blocks) = match stage.parallel.sharding {
        Sharding::Replicate => ((16.0 + copy) * trained + c * frozen, 0.0),
        // Weights and a whole gradient on every rank; masters and moments in slices.
        Sharding::Optimizer => {
            (c * (trained + frozen) + 4.0 * trained + 12.0 * trained / world.ranks as f64, 0.0)
        }
        Sharding::Full => (sliced(world.ranks), under_way),
        Sharding::Hybrid => (sliced(world.per_node), under_way),
    };
    let mirror = mirrored(run, stage, world).map_or(0.0, |slices| {
        let frozen = if stage.parallel.sharding == Sharding::Optimizer { 0.0 } else { c * frozen };
        (16.0 * trained + frozen) / slices as f64
    });
    let policy = stage.kind == StageKind::Prpo;
    let referred = policy && stage.objective.beta > 0.0 && stage.objective.reference != Reference::Base;
    let whole = matches!(stage.parallel.sharding, Sharding::Full | Sharding::Hybrid) && policy;
    let rollout = if whole { c * of.all() as f64 } else { 0.0 };
    let cache_a_token = (2 * shape.layers * shape.kv_heads * shape.head_dim) as f64 * c;
    let drawn = load.share * (load.prompt + load.responses * load.completion);
    let cache = if policy { cache_a_token * drawn } else { 0.0 };
    let some =
        |held: &[(&'static str, f64)]| held.iter().copied().filter(|(_, bytes)| *bytes > 0.0).collect();
    Memory {
        kept: some(&[
            ("weights, masters, moments and gradients", state),
            ("another rank's slices", mirror),
            ("reference policy", if referred { c * trained } else { 0.0 }),
        ]),
        update: some(&[("blocks under way", blocks), ("activations", activations(run, stage, shape, load))]),
        rollout: some(&[("whole weights", rollout), ("keys and values", cache)]),
    }
}

/// What the largest micro-batch keeps for its backward pass: with recomputation every block's input and one block's
/// insides, else every block's insides; and the logits of some rows with their gradient, f32.
fn activations(run: &Run, stage: &Stage, shape: &ModelShape, load: &Load) -> f64 {
    let c = width(run.model.dtype) as f64;
    let inside = |hidden: u64, keys: u64, inner: u64| (6 * hidden + 2 * keys + 3 * inner) as f64 * c;
    let layer = inside(shape.hidden, shape.kv_heads * shape.head_dim, shape.intermediate);
    let vision = &shape.vision;
    let patch = inside(vision.hidden, 2 * vision.hidden, vision.intermediate);
    let pictures = load.largest / (load.prompt + load.responses * load.completion) * load.pictures;
    let patches = pictures * (vision.merge * vision.merge) as f64;
    let sees = matches!(stage.trainable, Trainable::All | Trainable::Vision);
    let kept = |rows: f64, blocks: u64, hidden: u64, inside: f64| match stage.parallel.recompute {
        Recompute::Blocks => rows * (blocks as f64 * hidden as f64 * c + inside),
        Recompute::None => rows * blocks as f64 * inside,
    };
    let tower = if sees { kept(patches, vision.depth, vision.hidden, patch) } else { patches * patch };
    let text = match stage.kind {
        StageKind::Vision => 0.0,
        StageKind::Sft | StageKind::Prpo => {
            kept(load.largest, shape.layers, shape.hidden, layer)
                + 2.0 * 4.0 * HEAD_ROWS.min(load.largest) * shape.vocab as f64
        }
    };
    tower + text
}

#[cfg(test)]
mod tests {
    use settings::{ModelShape, Published};

    use super::super::facts::StageFacts;
    use super::*;

    fn held(sets: &[&str], ranks: u64) -> Memory {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        let run = settings::default_run(&sets).expect("settings");
        let (stage, shape) = (&run.stages[0], ModelShape::published(Published::Qwen7B));
        let world = World { ranks, per_node: ranks };
        let facts = StageFacts { picture_tokens: 252.0, question_bytes: 450.0, declared: Vec::new() };
        let load = Load::of(stage, &facts, world);
        memory(&run, stage, &shape, Parameters::of(&shape, stage), &load, world)
    }

    #[test]
    fn slices_follow_the_formula_and_shrink_with_the_world() {
        let state =
            |sharding: &str, ranks| held(&[&format!("parallel.sharding={sharding}")], ranks).kept[0].1;
        let p = 8_292_166_656.0;
        assert_eq!(state("replicate", 4), 18.0 * p);
        assert_eq!(state("full", 4), 18.0 * p / 4.0);
        assert_eq!(state("optimizer", 4), 6.0 * p + 12.0 * p / 4.0);
        assert!(state("full", 8) < state("full", 4));
    }

    #[test]
    fn a_mirror_is_as_large_as_what_it_mirrors_and_nobody_keeps_one_of_copies() {
        let mirror = |sharding: &str, ranks| {
            let cut = format!("parallel.sharding={sharding}");
            let held = held(&[&cut, "recovery.redundancy=neighbour"], ranks).kept;
            held.iter().find(|(name, _)| *name == "another rank's slices").map_or(0.0, |(_, bytes)| *bytes)
        };
        let p = 8_292_166_656.0;
        assert_eq!(mirror("full", 4), 16.0 * p / 4.0);
        assert_eq!((mirror("replicate", 4), mirror("full", 1)), (0.0, 0.0));
    }

    #[test]
    fn no_reference_policy_is_held_where_none_is_asked() {
        let names = |sets: &[&str]| held(sets, 4).kept.iter().any(|(name, _)| *name == "reference policy");
        assert!(names(&[]) && !names(&["objective.beta=0"]));
    }

    #[test]
    fn a_rollout_and_an_update_are_never_at_the_same_time() {
        let memory = held(&["parallel.sharding=full"], 4);
        let sum = |held: &[(&str, f64)]| held.iter().map(|(_, bytes)| bytes).sum::<f64>();
        let (update, rollout) = (sum(&memory.update), sum(&memory.rollout));
        assert!(update > 0.0 && rollout > 16e9, "{memory:?}");
        assert_eq!(memory.most(), sum(&memory.kept) + update.max(rollout));
    }
}

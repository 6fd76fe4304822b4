//! Recipes as people write them, and what is said when they are wrong.

use std::path::Path;

use proptest::prelude::*;
use settings::{
    Error, FaultAction, Misordered, Reference, Run, Schedule, StageKind, Targets, Trainable, default_run,
    load_run, parse_run,
};

const RECIPE: &str = "\
run: { name: quick, seed: 7, output: runs/quick }
model: { path: models/tiny, dtype: float32, trainable: language }
data:
  train:
    - { name: kadid, manifest: a.jsonl, media: a }
  crop: 224
optimizer: { lr: 3.0e-5 }
rollout:
  responses: 12
stages:
  - name: look
    kind: vision
    steps: 40
    model: { trainable: vision }
    optimizer: { lr: 1e-3, schedule: cosine }
  - name: explore
    steps: 20
    data: { crop: null }
    reward: { parts: { misordered: zero } }
";

fn parse(text: &str, overrides: &[&str]) -> Result<Run, Error> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    parse_run("r.yaml", text, &overrides)
}

fn complaints(text: &str, overrides: &[&str]) -> Vec<String> {
    match parse(text, overrides) {
        Err(Error::Wrong(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn a_stage_takes_its_own_keys_first_then_the_base_then_the_defaults() {
    let run = parse(RECIPE, &[]).expect("a good recipe");
    let [look, explore] = run.stages.as_slice() else { panic!("two stages") };
    assert_eq!((look.kind, explore.kind), (StageKind::Vision, StageKind::Prpo));
    assert_eq!((look.trainable, explore.trainable), (Trainable::Vision, Trainable::Language));
    assert_eq!((look.optimizer.lr, explore.optimizer.lr), (1e-3, 3e-5));
    assert_eq!((look.optimizer.schedule, explore.optimizer.schedule), (Schedule::Cosine, Schedule::Linear));
    assert_eq!((look.data.crop, explore.data.crop), (Some(224), None));
    assert_eq!((explore.data.train.len(), explore.rollout.responses, explore.rollout.top_k), (1, 12, 50));
    assert_eq!(explore.reward.parts.misordered, Misordered::Zero);
    assert_eq!(explore.reward.parts.pairwise, 0.375);
}

#[test]
fn the_recipes_that_come_with_the_program_are_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let files = std::fs::read_dir(folder).expect("the recipes");
    let recipes = files.map(|file| file.expect("an entry").path()).filter(|path| path.is_file());
    for path in recipes {
        let run = load_run(&path, &[]).expect("a good recipe");
        assert!(run.stages.iter().all(|stage| !stage.data.train.is_empty()), "{}", path.display());
    }
}

#[test]
fn a_recipe_without_stages_is_one_stage_prpo() {
    let run = parse("run: {name: a, output: o}\nmodel: {path: m}\nsteps: 9\n", &[]).expect("a good recipe");
    assert_eq!((run.stages[0].name.as_str(), run.stages[0].steps, run.stages.len()), ("prpo", 9, 1));
}

#[test]
fn overrides_name_stages_and_data_sets_by_position_or_name_and_the_last_wins() {
    let overrides = [
        "stages.0.steps=5",
        "stages.explore.steps=6",
        "stages.explore.steps=7",
        "data.train.kadid.media=b",
        "optimizer.betas=[0.8, 0.9]",
        "run.name=2024",
        "reward.parts.std_penalty=0",
        "optimizer.lr=1e-4",
        "data.flip=true",
    ];
    let run = parse(RECIPE, &overrides).expect("good overrides");
    assert_eq!((run.stages[0].steps, run.stages[1].steps), (5, 7));
    assert_eq!(run.stages[1].data.train[0].media.to_str(), Some("b"));
    assert_eq!(run.stages[0].optimizer.betas, [0.8, 0.9]);
    assert_eq!((run.run.name.as_str(), run.stages[1].reward.parts.std_penalty), ("2024", 0.0));
    assert_eq!((run.stages[0].optimizer.lr, run.stages[1].optimizer.lr), (1e-3, 1e-4));
    assert!(run.stages[1].data.flip);
}

#[test]
fn a_list_given_by_an_override_replaces_the_list() {
    let run = parse(RECIPE, &["stages=[{name: only, steps: 3}]"]).expect("good overrides");
    assert_eq!((run.stages.len(), run.stages[0].name.as_str()), (1, "only"));
}

#[test]
fn every_problem_is_said_at_once_with_its_line() {
    let text = "\
run: { name: a, output: o, sed: 3 }
model: { path: m, dtype: float16 }
learning_rate: 1
optimizer:
  lr: fast
stages:
  - name: s
    stps: 4
    parallel: { sharding: zero3 }
    data: { lora: 1 }
";
    let said = complaints(text, &[]);
    let expected = [
        "r.yaml:1: unknown key \"sed\", did you mean \"seed\"? Known here: name, seed, output",
        "r.yaml:2: model.dtype: expected bfloat16 or float32, got \"float16\"",
        "r.yaml:3: unknown key \"learning_rate\", did you mean \"optimizer.lr\"?",
        "r.yaml:5: optimizer.lr: expected a finite number, got \"fast\"",
        "r.yaml:8: unknown key \"stps\", did you mean \"steps\"?",
        "r.yaml:9: stages.0.parallel.sharding: expected replicate, optimizer, full or hybrid, got \"zero3\"",
        "r.yaml:10: unknown key \"lora\"",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\n{expected}");
    }
}

#[test]
fn ranges_are_said_where_the_value_stands() {
    let text = "\
run: { name: a b, output: o }
model: { path: m }
rollout: { temperature: -1, top_p: 0 }
optimizer:
  warmup_steps: 9
data:
  crop: 100
  train: [{ name: a, manifest: 'x:y', media: m }, { name: a, manifest: x, media: m }]
stages:
  - { name: s, steps: 5 }
  - { name: s, steps: 50, optimizer: { lr: 0 } }
  - { name: t, steps: 50, kind: vision, model: { trainable: language } }
";
    let said = complaints(text, &["parallel.samples_per_step=0"]);
    let expected = [
        "r.yaml:1: run.name \"a b\" must be letters, digits",
        "r.yaml:8: data.train.0.media \"m\" must be as many folders as manifests (2), joined by ':'",
        "r.yaml:8: data.train.1.name \"a\" must be unique in its list",
        "r.yaml:7: data.crop 100 must be a multiple of 28, the side of a visual token, above 0",
        "r.yaml:3: rollout.temperature -1 must be at least 0",
        "r.yaml:3: rollout.top_p 0 must be above 0 and at most 1",
        "r.yaml:5: optimizer.warmup_steps 9 must be at most the stage's steps 5",
        "--set parallel.samples_per_step=0: parallel.samples_per_step 0 must be at least 1",
        "r.yaml:11: name \"s\" must be unique in its list",
        "r.yaml:11: optimizer.lr 0 must be above 0",
        "r.yaml:12: model.trainable language must be all or vision in a stage of kind vision",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\n{expected}");
    }
}

#[test]
fn a_wrong_override_is_quoted_with_the_way_out() {
    for (argument, expected) in [
        ("lr", "--set lr: expected key=value, e.g. optimizer.lr=1e-5"),
        ("lr=1", "--set lr=1: unknown key \"lr\", did you mean \"optimizer.lr\"?"),
        ("optimizer.l_r=1", "--set optimizer.l_r=1: unknown key \"l_r\", did you mean \"lr\"?"),
        ("optimizer.lr.x=1", "--set optimizer.lr.x=1: optimizer.lr has no keys, so not \"x\""),
        (
            "stages.9.steps=1",
            "--set stages.9.steps=1: stages has no element \"9\"; expected 0 to 1, or a name of: look, explore",
        ),
        (
            "stages.99999999999999999999.steps=1",
            "--set stages.99999999999999999999.steps=1: stages has no element",
        ),
        (
            "stages.explore.steps=-1",
            "--set stages.explore.steps=-1: stages.1.steps: expected a whole number from 0 to",
        ),
        ("model.lora.rank=0", "--set model.lora.rank=0: model.lora.rank 0 must be from 1 to 65536"),
        ("model.lora.r=4", "--set model.lora.r=4: unknown key \"r\", did you mean \"rank\"?"),
        (
            "model.lora.dropout=1",
            "--set model.lora.dropout=1: model.lora.dropout 1 must be at least 0 and below 1",
        ),
        (
            "model.lora.targets=[]",
            "--set model.lora.targets=[]: model.lora.targets [] has no name: it must be a list",
        ),
        ("model.lora.targets=(", "--set model.lora.targets=(: model.lora.targets \"(\" is no pattern"),
        (
            "model.lora.targets=3",
            "--set model.lora.targets=3: model.lora.targets: expected text or a list of texts, got 3",
        ),
        (
            "rollout.weights=blocks",
            "--set rollout.weights=blocks: rollout.weights is not available in this version; expected gathered",
        ),
        (
            "objective.reference=base",
            "--set objective.reference=base: objective.reference base must be initial or synced where \
             model.trainable is not lora",
        ),
        (
            "objective.sync_mixture=0",
            "--set objective.sync_mixture=0: objective.sync_mixture 0 must be above 0 and at most 1",
        ),
        ("data.fps=4", "--set data.fps=4: data.fps 4 must be absent without video: native"),
        ("data.video=film", "--set data.video=film: data.video: expected pictures or native, got \"film\""),
        ("optimizer.lr=[", "--set optimizer.lr=[: the value is not YAML"),
        ("optimizer.lr=.nan", "--set optimizer.lr=.nan: optimizer.lr: expected a finite number, got .nan"),
        ("=1", "--set =1: unknown key \"\""),
    ] {
        let said = complaints(RECIPE, &[argument]);
        assert!(said.len() == 1 && said[0].starts_with(expected), "{said:#?}\n{expected}");
    }
}

#[test]
fn a_stage_may_have_adapters_of_its_own() {
    let base = "model.lora={rank: 4, targets: [q_proj, up_proj]}";
    let own = "stages.explore.model={trainable: lora, lora: {alpha: 16, targets: all-linear}}";
    let run = parse(RECIPE, &[base, own, "objective.reference=initial"]).expect("a good recipe");
    let [look, explore] = run.stages.as_slice() else { panic!("two stages") };
    assert_eq!(look.lora.targets, Targets::Names(vec!["q_proj".into(), "up_proj".into()]));
    assert_eq!(
        (explore.trainable, explore.lora.rank, &explore.lora.targets),
        (Trainable::Lora, 4, &Targets::AllLinear)
    );
    assert_eq!((look.lora.scale(), explore.lora.scale()), (2.0, 4.0));
    assert_eq!(parse(&run.to_yaml(), &[]).expect("its own text"), run);
    let base = parse(RECIPE, &[own, "stages.explore.objective={reference: base}"]).expect("a good recipe");
    assert_eq!(base.stages[1].objective.reference, Reference::Base);
}

#[test]
fn a_contract_key_with_the_value_that_this_version_has_is_taken() {
    let run = parse(RECIPE, &["rollout.weights=gathered", "objective.reference=initial"]).expect("taken");
    assert_eq!(run, parse(RECIPE, &[]).expect("a good recipe"));
}

#[test]
fn a_fault_strikes_at_a_rank_and_step_or_on_a_sample() {
    let plan =
        |fault: &str| parse(RECIPE, &[&format!("faults=[{{{fault}, do: kill}}]")]).map(|run| run.faults);
    assert!(plan("rank: 0, step: 1, phase: commit").is_ok());
    assert!(plan("sample: a/b, phase: update").is_ok());
    let said = |fault: &str| plan(fault).expect_err("refused").to_string();
    assert!(said("rank: 0, step: 0, phase: commit").contains("step 0 must be at least 1"));
    assert!(said("sample: a/b, phase: commit").contains("must be rollout or update"));
    assert!(said("rank: 0, phase: update").contains("must be rank and step, or sample"));
    assert!(said("rank: 0, step: 1, sample: a, phase: update").contains("must be rank and step, or sample"));
    let does = |action: &str| {
        let fault = format!("faults=[{{rank: 0, step: 1, phase: forming, do: {action}}}]");
        parse(RECIPE, &[&fault]).map(|run| run.faults[0].action)
    };
    assert_eq!(does("wait").expect("an action"), FaultAction::Wait);
    let refused = does("sleep").expect_err("no action").to_string();
    assert!(refused.contains("sleep") && refused.contains("wait"), "{refused}");
}

#[test]
fn an_importance_cap_needs_one_iteration_a_rollout() {
    let sets = ["objective.importance_cap=2", "objective.iterations=2"];
    let said = complaints(RECIPE, &sets);
    let expected = "objective.importance_cap 2 must be absent where objective.iterations is above 1";
    assert!(!said.is_empty() && said.iter().all(|line| line.contains(expected)), "{said:#?}");
    let run = parse(RECIPE, &sets[..1]).expect("one iteration");
    assert!(run.stages.iter().all(|stage| stage.objective.importance_cap == Some(2.0)));
}

#[test]
fn a_missing_key_is_named_where_it_should_stand() {
    let said = complaints(
        "model: {}\ndata:\n  train:\n    - { name: a }\nstages:\n  - steps: 1\n  - name: b\n",
        &[],
    );
    for expected in [
        "r.yaml: run is missing",
        "r.yaml:1: model.path is missing",
        "r.yaml:4: stages.0.data.train.0.manifest is missing",
        "r.yaml:6: stages.0.name is missing",
    ] {
        assert!(said.iter().any(|said| said == expected), "{said:#?}\n{expected}");
    }
}

#[test]
fn a_stage_is_as_long_as_its_steps_or_its_epochs_say_and_not_both() {
    let recipe =
        |stage: &str| format!("run: {{name: a, output: o}}\nmodel: {{path: m}}\nstages: [{stage}]\n");
    let run = parse(&recipe("{name: s, data: {epochs: 8}}"), &[]).expect("epochs");
    assert_eq!((run.stages[0].steps, run.stages[0].data.epochs), (0, Some(8)));
    assert_eq!(parse(&run.to_yaml(), &[]).expect("its own text"), run);
    let said = complaints(&recipe("{name: s}"), &[]);
    assert_eq!(said, ["r.yaml:3: steps 0 must be at least 1, or absent where data.epochs is given"]);
    let said = complaints(&recipe("{name: s, steps: 3, data: {epochs: 8}}"), &[]);
    assert!(said[0].contains("data.epochs 8 must be absent where the stage has steps"), "{said:#?}");
}

#[test]
fn what_a_data_set_says_of_its_scale_and_parts_is_checked() {
    let with = |more: &str| RECIPE.replace("media: a }", &format!("media: a, {more} }}"));
    let run = parse(
        &with("range: [0, 100], split: [60, 20, 20], declared: {samples: 5, width: 8, height: 8}"),
        &[],
    )
    .expect("a good source");
    let source = &run.stages[1].data.train[0];
    assert_eq!((source.range, source.split, source.split_seed), (Some([0.0, 100.0]), Some([60, 20, 20]), 0));
    for (wrong, expected) in [
        ("range: [5, 1]", "data.train.0.range [5, 1] must be [least, greatest] MOS of the scale"),
        (
            "range: [1, 5], found_range: true",
            "data.train.0.range [1, 5] must be absent where found_range is true",
        ),
        ("split: [0, 1, 1]", "data.train.0.split [0, 1, 1] must be three shares"),
        ("declared: {samples: 0, width: 1, height: 1}", "data.train.0.declared.samples 0 must be at least 1"),
    ] {
        let said = complaints(&with(wrong), &[]);
        assert!(said.iter().all(|line| line.contains(expected)), "{said:#?}\n{expected}");
    }
    let sets = ["data.sampler=published", "reward.scope=device", "parallel.samples_per_step=12"];
    let said = complaints(RECIPE, &sets);
    assert!(
        said[0].contains("published with group_samples 8: it must be a divisor of samples_per_step 12"),
        "{said:#?}"
    );
}

#[test]
fn text_that_is_not_yaml_or_not_a_mapping_is_one_line() {
    for text in [
        "a: [1",
        "a: 1\na: 2\n",
        "- 1",
        "7",
        "",
        "? [a]\n: b\n",
        "run: !x {}",
        "\t",
        "{1: 2}",
        "stages: 3",
        "stages: [3]",
    ] {
        let said = complaints(text, &[]);
        assert!(!said.is_empty() && said.iter().all(|line| !line.contains('\n')), "{text:?}: {said:#?}");
    }
    assert!(complaints("run: {name: a}\nrun: {name: b}\n", &[])[0].contains("duplicate"));
}

#[test]
fn the_digest_depends_on_settings_and_not_on_how_they_are_written() {
    let digest = |text: &str, sets: &[&str]| parse(text, sets).expect("a good recipe").digest();
    let written = digest(RECIPE, &[]);
    assert_eq!(written.len(), 64);
    assert_eq!(written, digest(&RECIPE.replace("3.0e-5", "0.00003"), &["rollout.top_k=50"]));
    assert_ne!(written, digest(RECIPE, &["run.seed=8"]));
}

#[test]
fn what_is_resolved_survives_json_and_reads_as_yaml() {
    let run = parse(RECIPE, &[]).expect("a good recipe");
    let json = serde_json::to_string(&run).expect("JSON");
    assert_eq!(serde_json::from_str::<Run>(&json).expect("the same"), run);
    assert_eq!(parse_run("recorded.yaml", &run.to_yaml(), &[]).expect("the same"), run);
}

#[test]
fn absent_files_are_found_apart_from_loading() {
    let missing = load_run("no/such/recipe.yaml", &[]).expect_err("no such file").to_string();
    assert!(
        missing.starts_with("no/such/recipe.yaml: ") && missing.ends_with("expected a readable YAML file"),
        "{missing}"
    );
    let run = parse(RECIPE, &["stages.explore.data.train=[]"]).expect("a good recipe");
    let said = run.check_files().expect_err("nothing is there").to_string();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "model.path: models/tiny/config.json does not exist; expected a model folder in Hugging Face layout",
            "data.train: a.jsonl does not exist; expected a label file (manifest)",
            "data.train: a does not exist; expected a folder of pictures (media)",
            "stages.explore.data.train: is empty; expected at least one data set {name, manifest, media}",
        ]
    );
}

#[test]
fn settings_can_be_had_without_a_recipe() {
    let run = default_run(&["objective.beta=0".into()]).expect("defaults");
    assert_eq!((run.stages[0].objective.beta, run.stages[0].rollout.responses), (0.0, 6));
    assert_eq!(run.recovery.heartbeat().as_secs(), 3);
}

proptest! {
    #[test]
    fn no_damage_to_a_recipe_or_an_override_makes_the_reader_panic(
        at in 0usize..RECIPE.len(), gone in 0usize..12, with in "[\\PC\n]{0,8}", argument in "[a-z.0-9=:\\[\\]{}-]{0,24}",
    ) {
        let mut text = RECIPE.to_string();
        text.replace_range(at..(at + gone).min(RECIPE.len()), &with);
        let _ = parse(&text, &[]);
        let _ = parse(RECIPE, &[&argument]);
        let _ = parse(RECIPE, &[&format!("stages.0.{argument}")]);
    }
}

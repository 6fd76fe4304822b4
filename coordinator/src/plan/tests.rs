use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use proto::v1::train_item::Target;
use proto::v1::{HeadPrediction, Response, SampleRollout};

use super::*;
use crate::engine::EvaluationSet;

const NAMES: [&str; 8] =
    ["I01_10_01", "I01_10_03", "I01_10_05", "I02_01_02", "I02_01_04", "I02_11_03", "I03_11_05", "I03_13_02"];

fn planner(folder: &Path, stage: &str) -> Result<Planner, PlanError> {
    let mut lines = String::new();
    for (i, name) in NAMES.iter().enumerate() {
        std::fs::write(folder.join(format!("{name}.png")), "").expect("writable");
        let mos = 1.5 + 0.4 * i as f64;
        writeln!(
            lines,
            r#"{{"id":"{i}","image":["{name}.png"],"conversations":[{{"from":"human","value":"How good?"}},{{"from":"gpt","value":{mos}}}]}}"#
        )
        .expect("a string");
    }
    std::fs::write(folder.join("labels.jsonl"), lines).expect("writable");
    let set = format!("[{{ name: d, manifest: {0}/labels.jsonl, media: {0} }}]", folder.display());
    let text = format!(
        "run: {{ name: t, output: out, seed: 3 }}\nmodel: {{ path: m }}\n\
         data: {{ train: {set}, validation: {set}, test: {set} }}\nparallel: {{ samples_per_step: 4 }}\n\
         rollout: {{ responses: 2, max_new_tokens: 16 }}\noptimizer: {{ lr: 1.0, schedule: linear }}\n\
         stages: [{stage}]\n"
    );
    Planner::load(&settings::parse_run("test.yaml", &text, &[]).expect("a recipe"))
}

/// Two responses a sample, the first in the format and with the index's own scores, the second empty.
fn rollouts(work: &crate::engine::RolloutWork) -> BTreeMap<Rank, Vec<SampleRollout>> {
    let response = |index, text: String| Response {
        index,
        text,
        completion_ids: vec![7; 3 + index as usize],
        logprobs: vec![-1.0; 3 + index as usize],
    };
    let answer = |(i, s): (usize, &proto::v1::Sample)| {
        let score = 1.0 + i as f64 / 2.0;
        let lines = format!("{score}\n").repeat(5);
        SampleRollout {
            sample_id: s.id.clone(),
            responses: vec![
                response(1, String::new()),
                response(0, format!("<think>t</think><answer>\n{lines}</answer>")),
            ],
            ..SampleRollout::default()
        }
    };
    work.samples.iter().map(|(rank, share)| (*rank, share.iter().enumerate().map(answer).collect())).collect()
}

/// Where the data plan stands before a step, as the journal would have it.
fn before(planner: &Planner, number: u64) -> Option<String> {
    let drawn = (1..number - planner.drawn_before(0, number)).filter(|n| planner.drawn_before(0, *n) == 0);
    let cursor =
        drawn.fold(None, |cursor, n| Some(planner.stages[0].plan.step(n, cursor.unwrap_or_default()).next));
    cursor.map(supervised::cursor_text)
}

fn plan(planner: &mut Planner, number: u64, world: &[Rank], recorded: &[RolloutRow]) -> Plan {
    let before = before(planner, number);
    planner.plan(0, number, world, before.as_deref(), (recorded, &Choice::default())).expect("planned")
}

fn ask(planner: &mut Planner, number: u64, world: &[Rank]) -> crate::engine::RolloutWork {
    match plan(planner, number, world, &[]) {
        Plan::Rollout(work) => work,
        Plan::Update(_) => panic!("expected a rollout at step {number}"),
    }
}

fn update(planner: &mut Planner, number: u64, world: &[Rank]) -> UpdateWork {
    match plan(planner, number, world, &[]) {
        Plan::Update(work) => work,
        Plan::Rollout(_) => panic!("expected an update at step {number}"),
    }
}

#[test]
fn a_steps_samples_prompts_and_seeds_do_not_depend_on_the_world() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let sorted = |world: &[Rank]| {
        let mut planner =
            planner(folder.path(), "{ name: a, steps: 4, data: { flip: true } }").expect("loads");
        let work = ask(&mut planner, 1, world);
        assert_eq!(work.samples.len(), world.len());
        let mut samples: Vec<_> = work.samples.into_values().flatten().collect();
        samples.sort_by(|a, b| a.id.cmp(&b.id));
        assert!(samples.iter().all(|s| s.augment_seed.is_some() && s.prompt.starts_with("How good?")));
        samples
    };
    assert_eq!(sorted(&[0]), sorted(&[0, 1, 2]));
}

#[test]
fn an_epochs_steps_hold_every_sample_once_and_a_repeated_step_the_same_ones() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut planner = planner(folder.path(), "{ name: a, steps: 4 }").expect("loads");
    let ids = |work: &crate::engine::RolloutWork| -> BTreeSet<String> {
        work.samples.values().flatten().map(|s| s.id.clone()).collect()
    };
    let first = ids(&ask(&mut planner, 1, &[0, 1]));
    assert_eq!(first, ids(&ask(&mut planner, 1, &[0, 1])));
    let second = ids(&ask(&mut planner, 2, &[0, 1]));
    assert_eq!(first.union(&second).count(), 8);
}

#[test]
fn scored_rollouts_carry_advantages_that_sum_to_zero_and_global_counts() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut planner = planner(folder.path(), "{ name: a, steps: 4 }").expect("loads");
    let work = ask(&mut planner, 1, &[0, 1]);
    let scored = planner.score(rollouts(&work)).expect("scored");
    let Plan::Update(scored_update) = scored.plan else { panic!("expected an update") };
    let counts = scored_update.counts;
    assert_eq!((counts.samples, counts.completions, counts.tokens), (4, 8, 4 * 7));
    assert_eq!(scored_update.lr, 1.0);
    assert_eq!(scored_update.cursor, r#"{"from_level":1,"epoch":0,"position":1}"#);
    assert_eq!(scored_update.metrics["format"], 0.5);
    assert_eq!(scored.rows.len(), 4);
    for item in scored_update.items.values().flatten() {
        let Some(Target::Policy(policy)) = &item.target else { panic!("expected completions") };
        assert_eq!(policy.completions[0].ids.len(), 3, "responses are in the order of their indices");
        assert!(policy.completions[0].advantage > 0.0, "the formatted one is better");
        assert!(policy.completions.iter().map(|c| c.advantage).sum::<f64>().abs() < 1e-12);
        assert!(policy.completions.iter().all(|c| c.old_logprobs.is_empty()));
        assert_eq!(policy.completions[0].rollout_logprobs, [-1.0; 3]);
    }
}

#[test]
fn a_steps_record_says_what_rewards_are_made_of_and_how_long_answers_are() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let stage = "{ name: a, steps: 4, rollout: { max_new_tokens: 4 } }";
    let mut planner = planner(folder.path(), stage).expect("loads");
    let work = ask(&mut planner, 1, &[0, 1]);
    let scored = planner.score(rollouts(&work)).expect("scored");
    let Plan::Update(update) = scored.plan else { panic!("expected an update") };
    let metric = |name: &str| update.metrics[name];
    for part in ["std_penalty", "response_balance", "pairwise", "triplet", "rank", "reward", "accuracy"] {
        assert!(metric(part).is_finite() && metric(&format!("{part}_spread")) >= 0.0, "{part}");
    }
    // Five equal scores a response, or none read as five times 3: each costs half of min_std, all alike.
    assert_eq!((metric("std_penalty"), metric("std_penalty_spread")), (0.25, 0.0));
    assert_eq!((metric("format"), metric("numberless"), metric("padded")), (0.5, 0.5, 0.0));
    assert_eq!((metric("zero_spread"), metric("zero_spread_share")), (0.0, 0.0));
    // Completions of 3 and 4 tokens, of at most 4: half of them ran into the bound.
    let lengths = ["response_tokens", "response_tokens_max", "truncated"].map(metric);
    assert_eq!(lengths, [3.5, 4.0, 0.5]);
    let row = &scored.rows[0];
    assert_eq!(
        (row.formats.as_slice(), row.parts["std_penalty"].as_slice()),
        (&[1.0, 0.0][..], &[0.25; 2][..])
    );
    assert!(row.prompt.starts_with("How good?") && row.images[0].ends_with(".png") && row.mos >= 1.5);
}

#[test]
fn an_answer_that_ends_at_the_bound_is_not_truncated_where_the_model_says_what_ends_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writable");
    let tokens = || load::end_tokens(folder.path()).into_iter().collect::<Vec<_>>();
    assert!(tokens().is_empty());
    write("config.json", r#"{"text_config": {"eos_token_id": 9}}"#);
    assert_eq!(tokens(), [9]);
    write("generation_config.json", r#"{"eos_token_id": [7, 8]}"#);
    assert_eq!(tokens(), [7, 8]);
    let mut planner =
        planner(folder.path(), "{ name: a, steps: 4, rollout: { max_new_tokens: 4 } }").expect("loads");
    planner.end_tokens = load::end_tokens(folder.path());
    let work = ask(&mut planner, 1, &[0]);
    let Plan::Update(update) = planner.score(rollouts(&work)).expect("scored").plan else {
        panic!("an update")
    };
    assert_eq!(update.metrics["truncated"], 0.0);
}

#[test]
fn further_iterations_train_on_the_same_rollouts_with_their_old_log_probabilities() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut planner =
        planner(folder.path(), "{ name: a, steps: 4, objective: { iterations: 2 } }").expect("loads");
    let work = ask(&mut planner, 1, &[0]);
    let Plan::Update(first) = planner.score(rollouts(&work)).expect("scored").plan else {
        panic!("expected an update")
    };
    let second = update(&mut planner, 2, &[0]);
    assert_eq!(first.items, second.items);
    assert!(first.lr > second.lr);
    let Some(Target::Policy(policy)) = &first.items[&0][0].target else { panic!("expected completions") };
    assert_eq!(policy.completions[0].old_logprobs, [-1.0; 3]);
    assert!(policy.completions[0].rollout_logprobs.is_empty());
    assert!(first.cursor.contains("\"position\":0") && second.cursor.contains("\"position\":1"));
    let next = ask(&mut planner, 3, &[0]);
    let ids = |samples: &[proto::v1::Sample]| samples.iter().map(|s| s.id.clone()).collect::<BTreeSet<_>>();
    assert!(ids(&next.samples[&0]).is_disjoint(&first.samples.into_iter().collect()));
}

#[test]
fn a_step_that_is_repeated_trains_on_the_rollouts_that_were_recorded_for_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (iterations, number) in [(1, 1), (2, 2)] {
        let stage = format!("{{ name: a, steps: 4, objective: {{ iterations: {iterations} }} }}");
        let mut first = planner(folder.path(), &stage).expect("loads");
        let work = ask(&mut first, 1, &[0, 1]);
        let scored = first.score(rollouts(&work)).expect("scored");
        let undisturbed = match scored.plan {
            Plan::Update(update) if number == 1 => update,
            _ => update(&mut first, number, &[0, 1]),
        };
        // Another coordinator, and one worker less.
        let mut second = planner(folder.path(), &stage).expect("loads");
        let Plan::Update(again) = plan(&mut second, number, &[1], &scored.rows) else {
            panic!("nothing is drawn again")
        };
        let items = |work: &UpdateWork| {
            let items = work.items.values().flatten();
            items.map(|i| (i.sample.clone().map(|s| s.id), i.clone())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(items(&undisturbed), items(&again));
        assert_eq!((undisturbed.lr, undisturbed.cursor), (again.lr, again.cursor));
    }
}

#[test]
fn groups_of_equal_rewards_are_drawn_again_once_and_replaced() {
    // Rewards compare responses over samples: groups are flat where all samples answer alike twice.
    let alike = |mut rollouts: BTreeMap<Rank, Vec<SampleRollout>>| {
        for sample in rollouts.values_mut().flatten() {
            sample.responses[0].text = sample.responses[1].text.clone();
        }
        rollouts
    };
    for (flat_again, zero_spread) in [(false, 0.0), (true, 4.0)] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let stage = "{ name: a, steps: 4, objective: { zero_spread: resample } }";
        let mut planner = planner(folder.path(), stage).expect("loads");
        let work = ask(&mut planner, 1, &[0, 1]);
        let scored = planner.score(alike(rollouts(&work))).expect("scored");
        let Plan::Rollout(again) = scored.plan else { panic!("expected a second draw") };
        assert!(scored.rows.is_empty());
        let ids = |work: &crate::engine::RolloutWork| -> BTreeSet<String> {
            work.samples.values().flatten().map(|s| s.id.clone()).collect()
        };
        assert_eq!(ids(&again), ids(&work));
        assert_eq!(again.samples.len(), 2, "every rank of the world has a share");
        assert_ne!(again.sampling.seed, work.sampling.seed);
        let second = rollouts(&again);
        let scored = planner.score(if flat_again { alike(second) } else { second }).expect("scored");
        let Plan::Update(update) = scored.plan else { panic!("expected an update after the second draw") };
        assert_eq!((update.metrics["resampled"], update.metrics["zero_spread"]), (4.0, zero_spread));
        assert_eq!(scored.rows.len(), 4);
        assert!(scored.rows.iter().all(|row| (row.texts[0] == row.texts[1]) == flat_again));
    }
}

#[test]
fn answers_that_do_not_fit_what_was_asked_are_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let refusal = |spoil: fn(&mut SampleRollout)| {
        let mut planner = planner(folder.path(), "{ name: a, steps: 4 }").expect("loads");
        let work = ask(&mut planner, 1, &[0]);
        let mut answers = rollouts(&work);
        spoil(&mut answers.get_mut(&0).expect("rank 0")[0]);
        planner.score(answers).expect_err("refused").to_string()
    };
    assert!(refusal(|s| s.sample_id = "other".into()).contains("nobody answered"));
    assert!(refusal(|s| drop(s.responses.pop())).contains("1 responses; expected 2"));
    assert!(refusal(|s| s.responses[0].logprobs[0] = f32::NAN).contains("one finite number a token"));
}

#[test]
fn leading_words_weigh_more_and_the_weights_are_counted_over_all_ranks() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let stage = "{ name: a, kind: sft, steps: 4, supervised: { lead_weight: 6 } }";
    let mut planner = planner(folder.path(), stage).expect("loads");
    let work = update(&mut planner, 1, &[0, 1]);
    let mut weight = 0.0;
    for item in work.items.values().flatten() {
        let Some(Target::Answer(answer)) = &item.target else { panic!("expected an answer") };
        assert_eq!(answer.pieces.iter().filter(|p| p.weight == 6.0).count(), 2);
        weight += answer.pieces.iter().map(|p| p.weight * p.text.len() as f64).sum::<f64>();
    }
    assert_eq!(work.counts.weight, weight);
    assert_eq!(work.counts.samples, 4);
}

#[test]
fn a_vision_stage_learns_kind_level_and_label() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut planner = planner(folder.path(), "{ name: a, kind: vision, steps: 2 }").expect("loads");
    let work = update(&mut planner, 1, &[0]);
    for item in &work.items[&0] {
        let Some(Target::Distortion(target)) = &item.target else { panic!("expected a distortion") };
        assert!((1..=5).contains(&target.level) && (1.5..4.4).contains(&target.quality));
    }
}

#[test]
fn a_picture_that_is_not_there_is_named_before_anything_starts() {
    let folder = tempfile::tempdir().expect("temporary folder");
    planner(folder.path(), "{ name: a, steps: 4 }").expect("loads");
    let text = std::fs::read_to_string(folder.path().join("labels.jsonl")).expect("there");
    std::fs::write(folder.path().join("broken.jsonl"), text.replace("I02_01_04.png", "I99_01_04.png"))
        .expect("writable");
    let set = format!("[{{ name: d, manifest: {0}/broken.jsonl, media: {0} }}]", folder.path().display());
    let stage = format!("{{ name: a, steps: 4, data: {{ train: {set} }} }}");
    let error = planner(folder.path(), &stage).expect_err("refused");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("I99_01_04.png is no file"), "{error}");
}

#[test]
fn an_evaluation_of_perfect_answers_agrees_perfectly() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut planner = planner(folder.path(), "{ name: a, steps: 4 }").expect("loads");
    let (shares, sampling) = planner.plan_evaluation(0, EvaluationSet::Test, &[0, 1]).expect("planned");
    assert_eq!((sampling.responses, sampling.temperature), (1, 0.0));
    let place = |id: &str| NAMES.iter().position(|n| id.ends_with(n)).expect("a sample");
    let answer = |s: &proto::v1::Sample| {
        let lines = format!("{}\n", 1.5 + 0.4 * place(&s.id) as f64).repeat(5);
        let text = format!("<think>t</think><answer>\n{lines}</answer>");
        SampleRollout {
            sample_id: s.id.clone(),
            responses: vec![Response { text, ..Response::default() }],
            ..SampleRollout::default()
        }
    };
    let answers = shares.iter().map(|(r, s)| (*r, s.iter().map(answer).collect())).collect();
    let scored = planner.score_evaluation(0, EvaluationSet::Test, 0, answers).expect("scored");
    assert_eq!((scored.metrics["srcc"], scored.metrics["format"]), (1.0, 1.0));
    assert!(scored.metrics["rmse"] < 1e-6);
    assert_eq!((scored.samples, scored.answers.len()), (8, 8));
    assert!(scored.answers.iter().all(|a| a.format && a.predicted.is_some_and(|p| (p - a.mos).abs() < 1e-6)));
}

#[test]
fn an_evaluation_says_whether_it_is_the_best_and_when_a_stage_has_nothing_to_gain() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let stage = "{ name: a, steps: 4, evaluation: { early_stop: { patience: 2 }, max_new_tokens: 9, question: Well? } }";
    let mut planner = planner(folder.path(), stage).expect("loads");
    let (shares, sampling) = planner.plan_evaluation(0, EvaluationSet::Validation, &[0]).expect("planned");
    assert_eq!(sampling.max_new_tokens, 9);
    assert!(shares[&0].iter().all(|s| s.prompt.starts_with("Well? First output the thinking")));
    let mut evaluate = |step: u64, sign: f64| {
        let place = |id: &str| NAMES.iter().position(|n| id.ends_with(n)).expect("a sample") as f64;
        let answer = |s: &proto::v1::Sample| {
            let lines = format!("{}\n", 3.0 + sign * 0.2 * place(&s.id)).repeat(5);
            let text = format!("<think>t</think><answer>\n{lines}</answer>");
            let responses = vec![Response { text, ..Response::default() }];
            SampleRollout { sample_id: s.id.clone(), responses, ..SampleRollout::default() }
        };
        let answers = shares.iter().map(|(r, s)| (*r, s.iter().map(answer).collect())).collect();
        let scored = planner.score_evaluation(0, EvaluationSet::Validation, step, answers).expect("scored");
        (scored.metrics["srcc"].round(), scored.metrics["best"], scored.stop.is_some(), scored.metrics)
    };
    let first = evaluate(0, -1.0);
    assert_eq!((first.0, first.1, first.2), (-1.0, 1.0, false));
    let better = evaluate(2, 1.0);
    assert_eq!((better.0, better.1, better.2), (1.0, 1.0, false));
    let metrics = better.3;
    assert!(metrics["srcc_low"] <= 1.0 && metrics["srcc_within_reference"] == 1.0, "{metrics:?}");
    assert_eq!(metrics["by_type/10"], 1.0);
    assert_eq!((evaluate(4, 1.0).1, evaluate(6, -1.0).2), (0.0, true));
}

#[test]
fn a_stage_of_epochs_learns_its_steps_from_the_data() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let planner = planner(folder.path(), "{ name: a, data: { epochs: 3 }, objective: { iterations: 2 } }");
    let stage = planner.expect("loads").run().stages[0].clone();
    assert_eq!((stage.steps, stage.data.epochs), (3 * 2 * 2, None));
}

#[test]
fn a_constant_prediction_has_no_correlation_rather_than_a_wrong_one() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut planner = planner(folder.path(), "{ name: a, kind: vision, steps: 2 }").expect("loads");
    let (shares, _) = planner.plan_evaluation(0, EvaluationSet::Validation, &[0]).expect("planned");
    let answer = |s: &proto::v1::Sample| SampleRollout {
        sample_id: s.id.clone(),
        head: Some(HeadPrediction { quality: 3.0, kind: 3, level: 3 }),
        ..SampleRollout::default()
    };
    let answers = shares.iter().map(|(r, s)| (*r, s.iter().map(answer).collect())).collect();
    let metrics = planner.score_evaluation(0, EvaluationSet::Validation, 0, answers).expect("scored").metrics;
    assert!(!metrics.contains_key("srcc"));
    assert!(metrics["kind_accuracy"] > 0.0 && metrics["level_accuracy"] > 0.0);
}

#[test]
fn validation_is_cut_to_the_same_samples_throughout() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let ids = || {
        let planner =
            planner(folder.path(), "{ name: a, steps: 4, evaluation: { samples: 3 } }").expect("loads");
        let (shares, _) = planner.plan_evaluation(0, EvaluationSet::Validation, &[0, 1]).expect("planned");
        shares.into_values().flatten().map(|s| s.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids().len(), 3);
    assert_eq!(ids(), ids());
}

/// As [`plan`], of the samples of `choice`.
fn chosen(planner: &mut Planner, number: u64, choice: &Choice) -> Plan {
    let before = before(planner, number);
    planner.plan(0, number, &[0, 1], before.as_deref(), (&[], choice)).expect("planned")
}

fn without(ids: &[String]) -> Choice {
    Choice { without: ids.iter().cloned().collect(), only: None }
}

#[test]
fn a_step_short_of_a_sample_trains_on_all_others_and_the_next_one_follows_as_ever() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let ids = |work: &crate::engine::RolloutWork| -> Vec<String> {
        work.samples.values().flatten().map(|s| s.id.clone()).collect()
    };
    let mut planner = planner(folder.path(), "{ name: a, steps: 4 }").expect("loads");
    let all: BTreeSet<String> = ids(&ask(&mut planner, 1, &[0, 1])).into_iter().collect();
    let left_out = all.first().expect("four samples").clone();
    let Plan::Rollout(short) = chosen(&mut planner, 1, &without(std::slice::from_ref(&left_out))) else {
        panic!("a rollout")
    };
    let rest: BTreeSet<String> = all.iter().filter(|id| **id != left_out).cloned().collect();
    assert_eq!(ids(&short).into_iter().collect::<BTreeSet<_>>(), rest);
    let Plan::Update(update) = planner.score(rollouts(&short)).expect("scored").plan else {
        panic!("an update")
    };
    assert_eq!((update.counts.samples, update.counts.completions), (3, 6));
    assert_eq!(update.samples.iter().cloned().collect::<BTreeSet<_>>(), rest);
    let Plan::Rollout(next) = chosen(&mut planner, 2, &without(&[left_out])) else { panic!("a rollout") };
    assert!(ids(&next).len() == 4 && ids(&next).iter().all(|id| !all.contains(id)));
}

#[test]
fn scored_rollouts_of_other_samples_of_a_step_are_not_taken_for_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut planner =
        planner(folder.path(), "{ name: a, steps: 4, objective: { iterations: 2 } }").expect("loads");
    let work = ask(&mut planner, 1, &[0, 1]);
    let Plan::Update(whole) = planner.score(rollouts(&work)).expect("scored").plan else {
        panic!("an update")
    };
    let only =
        Choice { without: BTreeSet::new(), only: Some(whole.samples.iter().take(2).cloned().collect()) };
    assert!(matches!(chosen(&mut planner, 1, &only), Plan::Rollout(_)), "its rollouts are not recorded here");
    assert!(matches!(chosen(&mut planner, 1, &Choice::default()), Plan::Update(u) if u == whole));
}

#[test]
fn a_step_of_which_every_sample_is_left_out_has_nothing_to_apply_and_goes_on() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut planner = planner(folder.path(), "{ name: a, steps: 4 }").expect("loads");
    let work = ask(&mut planner, 1, &[0, 1]);
    let all: Vec<String> = work.samples.values().flatten().map(|s| s.id.clone()).collect();
    let Plan::Update(empty) = chosen(&mut planner, 1, &without(&all)) else { panic!("an update") };
    assert!(empty.samples.is_empty() && empty.items.is_empty());
    assert_eq!(empty.cursor, r#"{"from_level":1,"epoch":0,"position":1}"#);
}

#[test]
fn a_group_that_lacks_a_sample_is_smaller_and_the_next_one_stays_as_it_is() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let stage = "{ name: a, steps: 4, reward: { scope: device, group_samples: 2 } }";
    let mut planner = planner(folder.path(), stage).expect("loads");
    let order = |planner: &Planner| planner.stages[0].plan.step(1, Cursor::default()).samples;
    let ids: Vec<String> = order(&planner).iter().map(|i| planner.train(0)[*i].id.clone()).collect();
    // Rewards of each sample, by its id: answers do not depend on who else is asked.
    let mut rewards = |choice: &Choice| -> BTreeMap<String, Vec<f64>> {
        let Plan::Rollout(mut work) = chosen(&mut planner, 1, choice) else { panic!("a rollout") };
        work.samples.values_mut().for_each(|share| share.sort_by(|a, b| a.id.cmp(&b.id)));
        let mut answers = rollouts(&work);
        for sample in answers.values_mut().flatten() {
            let score = 1.0 + f64::from(sample.sample_id.bytes().map(u32::from).sum::<u32>() % 7) / 2.0;
            let lines = format!("{score}\n").repeat(5);
            sample.responses[1].text = format!("<think>t</think><answer>\n{lines}</answer>");
        }
        let rows = planner.score(answers).expect("scored").rows;
        rows.into_iter().map(|row| (row.sample, row.rewards)).collect()
    };
    let whole = rewards(&Choice::default());
    let short = rewards(&without(&ids[..1]));
    assert_eq!((short.len(), &short[&ids[2]], &short[&ids[3]]), (3, &whole[&ids[2]], &whole[&ids[3]]));
}

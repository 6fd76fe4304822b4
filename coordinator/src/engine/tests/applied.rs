use super::*;

fn at_commit() -> Rig {
    let mut rig = Rig::new(2, vec![stage("a", 2)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Commit(_))));
    rig
}

fn applied(step: u64, digest: &str) -> Report {
    Report::Applied(Applied { step, digest: digest.into(), part: None })
}

#[test]
fn the_next_step_begins_once_every_rank_has_applied_this_one() {
    let mut rig = at_commit();
    let is_plan = |c: &Command| matches!(c, Command::Plan { step: 2, .. });
    assert!(!rig.say(0, applied(1, "x")).iter().any(is_plan));
    assert!(!rig.say(1, applied(9, "x")).iter().any(is_plan));
    assert!(rig.say(1, applied(1, "x")).iter().any(is_plan));
}

#[test]
fn replicas_that_disagree_end_the_run_with_both_digests() {
    let mut rig = at_commit();
    rig.say(0, applied(1, "aaa"));
    let out = rig.say(1, applied(1, "bbb"));
    assert!(out.iter().any(|c| matches!(order(c), Some(Order::AbortCollectives(_)))));
    rig.resume_until(&out, |_| false);
    let (reason, code) = rig.failure();
    assert!(reason.contains("differ after step 1: rank 0 has aaa; rank 1 has bbb"), "{reason}");
    assert_eq!(code, 1);
}

#[test]
fn workers_that_start_from_different_weights_end_the_run() {
    let mut rig = Rig::new(2, vec![stage("a", 2)]);
    rig.run_until(|c| matches!(order(c), Some(Order::BeginStage(_))));
    rig.say(0, Report::StageReady(StageReady { stage: 0, digest: "aaa".into(), part: None }));
    let out = rig.say(1, Report::StageReady(StageReady { stage: 0, digest: "bbb".into(), part: None }));
    rig.resume_until(&out, |_| false);
    assert!(rig.failure().0.contains("do not hold the same weights at the start of stage a"));
}

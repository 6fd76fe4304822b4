use super::*;

fn is_stop(c: &Command) -> bool {
    matches!(order(c), Some(Order::Stop(_)))
}

#[test]
fn a_step_that_is_being_rolled_out_is_discarded_and_the_steps_before_it_go_to_disk() {
    let mut rig = Rig::new(2, vec![stage("a", 9)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Rollout(r)) if r.step == 3));
    let out = rig.event(Event::Interrupted);
    assert_eq!(out.iter().filter(|c| matches!(order(c), Some(Order::Discard(d)) if d.step == 3)).count(), 2);
    rig.resume_until(&out, |_| false);
    let names: Vec<String> = records(&rig.done)
        .iter()
        .filter_map(|r| if let Record::Checkpoint(c) = r { Some(c.name.to_string()) } else { None })
        .collect();
    assert_eq!(names, ["a-step-2"]);
    assert_eq!(rig.engine.committed_step(), 2);
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

#[test]
fn a_step_whose_update_is_under_way_is_finished_first() {
    let mut rig = Rig::new(2, vec![stage("a", 9)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 3));
    let is_pending = |c: &&Command| matches!(order(c), Some(Order::Update(u)) if u.step == 3);
    let pending: Vec<Command> = rig.done.iter().filter(is_pending).cloned().collect();
    assert!(!rig.event(Event::Interrupted).iter().any(is_stop));
    rig.resume_until(&pending, |_| false);
    assert_eq!(rig.engine.committed_step(), 3);
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

#[test]
fn a_run_that_has_not_begun_ends_at_once() {
    let mut rig = Rig::new(2, vec![stage("a", 9)]);
    rig.event(Event::Interrupted);
    assert_eq!(rig.outcome(), Some(Outcome::Interrupted));
}

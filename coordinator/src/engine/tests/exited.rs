use super::*;

fn killed(rank: Rank, lines: &[&str]) -> Event {
    let last_lines = lines.iter().map(ToString::to_string).collect();
    Event::Exited { rank, process: 100 + rank, exit: Exit::Signal(9), last_lines }
}

fn at_update() -> Rig {
    at_update_of(spec(2, vec![stage("explore", 20)]))
}

fn at_update_of(spec: Spec) -> Rig {
    let mut rig = Rig::with(spec);
    rig.run_until(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 3));
    rig
}

#[test]
fn a_killed_worker_is_named_with_host_phase_step_signal_and_its_last_lines() {
    let mut rig = at_update();
    rig.event(killed(1, &["step 3", "reducing"]));
    rig.pass(seconds(5));
    assert_eq!(
        rig.loss(),
        "rank 1 on host1 was lost during update of step 3 (stage explore, 3 of 20): it ended with signal 9 (SIGKILL); \
         its log ends:\n  | step 3\n  | reducing"
    );
    assert_eq!(rig.outcome(), None, "the run waits for it to come back");
}

#[test]
fn a_peers_broken_collective_that_is_heard_first_does_not_hide_the_killed_worker() {
    let mut rig = at_update_of(Spec { respawns: true, ..spec(2, vec![stage("explore", 20)]) });
    let broken = proto::v1::CollectiveFailed { reason: "connection closed by peer".into() };
    rig.say(0, Report::CollectiveFailed(broken));
    rig.event(Event::Disconnected { rank: 1, incarnation: incarnation(2), reason: "reset".into() });
    assert_eq!(rig.outcome(), None, "evidence is still gathered");
    rig.pass(seconds(1));
    rig.event(killed(1, &[]));
    rig.pass(seconds(5));
    let reason = rig.loss();
    assert!(reason.starts_with("rank 1 on host1 was lost"), "{reason}");
    assert!(reason.ends_with("signal 9 (SIGKILL)"), "{reason}");
}

#[test]
fn a_closed_stream_without_a_process_to_look_at_is_told_as_it_is() {
    let mut rig = at_update();
    rig.event(Event::Disconnected { rank: 0, incarnation: incarnation(1), reason: "reset by peer".into() });
    rig.pass(seconds(10));
    let reason = rig.loss();
    assert!(reason.contains("rank 0 on host0 was lost") && reason.contains("(reset by peer)"), "{reason}");
}

/// No launcher will say how it ended: there is nothing to wait for.
#[test]
fn a_closed_stream_is_a_loss_at_once_where_nobody_sees_workers_exit() {
    let mut rig = at_update();
    rig.event(Event::Disconnected { rank: 1, incarnation: incarnation(2), reason: "closed".into() });
    rig.pass(Duration::from_millis(200));
    assert!(rig.loss().contains("rank 1 on host1 was lost"));
}

/// Its peer's wait ends first, and says so; its own never does.
#[test]
fn a_worker_that_hangs_in_a_collective_is_lost_and_not_the_one_that_reports_it() {
    let mut rig = at_update();
    rig.pass_heard(100, &[0, 1]);
    let failed = proto::v1::CollectiveFailed { reason: "a peer is silent".into() };
    rig.say(0, Report::CollectiveFailed(failed));
    rig.pass_heard(4, &[0, 1]);
    let reason = rig.loss();
    assert!(
        reason.starts_with("rank 1 on host1 was lost") && reason.contains("made no progress"),
        "{reason}"
    );
}

#[test]
fn a_worker_that_gives_its_reason_is_quoted_and_wrong_input_is_told_from_the_rest() {
    for (wrong_input, expected) in [(false, 1), (true, 2)] {
        let mut rig = Rig::new(2, vec![stage("explore", 20)]);
        rig.run_until(|c| matches!(order(c), Some(Order::BeginStage(_))));
        let reason = "model.safetensors: tensor lm_head.weight is missing".to_owned();
        rig.say(1, Report::WorkFailed(proto::v1::WorkFailed { reason, wrong_input }));
        rig.pass(seconds(5));
        let (reason, code) = rig.failure();
        assert!(reason.ends_with("model.safetensors: tensor lm_head.weight is missing"), "{reason}");
        assert_eq!(code, expected);
    }
}

#[test]
fn a_refused_worker_that_then_exits_ends_the_run_with_the_refusal() {
    let mut rig = Rig::new(1, vec![stage("a", 1)]);
    rig.event(Event::Joining { stream: 0, rank: 0, join: join("0.9", 0) });
    rig.event(Event::Exited {
        rank: 0,
        process: 100,
        exit: Exit::Code(1),
        last_lines: vec!["refused".into()],
    });
    rig.pass(seconds(2));
    let (reason, code) = rig.failure();
    assert!(reason.contains("was refused: worker version \"0.9\" differs"), "{reason}");
    assert_eq!(code, 2);
}

#[test]
fn workers_that_end_after_the_last_activity_are_no_loss() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.run_until(|c| matches!(order(c), Some(Order::Stop(_))));
    rig.event(Event::Exited { rank: 0, process: 100, exit: Exit::Code(0), last_lines: vec![] });
    rig.event(Event::Disconnected { rank: 1, incarnation: incarnation(2), reason: "closed".into() });
    assert_eq!(rig.outcome(), Some(Outcome::Finished));
}

use super::*;

/// What a rig's engine does when its term is lost just before `is_moment`.
fn lost_at(is_moment: impl Fn(&Command) -> bool) -> (Rig, Vec<Command>) {
    let mut rig = Rig::new(2, vec![stage("a", 9)]);
    rig.run_until(is_moment);
    let out = rig.event(Event::TermLost { reason: "process 7 on there has taken over".into() });
    (rig, out)
}

#[test]
fn whoever_lost_its_term_ends_at_once_and_says_nothing_to_the_workers_of_its_successor() {
    let moments: [fn(&Command) -> bool; 3] = [
        |c| matches!(order(c), Some(Order::Rollout(r)) if r.step == 3),
        |c| matches!(order(c), Some(Order::Commit(c)) if c.step == 2),
        |c| matches!(order(c), Some(Order::Stop(_))),
    ];
    for is_moment in moments {
        let (rig, out) = lost_at(is_moment);
        let reason = "process 7 on there has taken over".to_owned();
        let outcome = Outcome::Failed { reason, exit_code: 75 };
        let end = |c: &Command| *c == Command::End(outcome.clone());
        assert!(out.iter().all(|c| end(c) || matches!(c, Command::Announce(_))), "{out:?}");
        assert_eq!(out.iter().filter(|c| end(c)).count(), 1);
        assert_eq!(rig.outcome(), Some(outcome));
    }
}

#[test]
fn nothing_happens_after_it() {
    let (mut rig, _) = lost_at(|c| matches!(order(c), Some(Order::Update(u)) if u.step == 1));
    let after = [
        Event::Disconnected { rank: 0, incarnation: incarnation(1), reason: "gone".into() },
        Event::Interrupted,
        Event::Tick,
    ];
    for event in after {
        let out = rig.event(event);
        assert!(out.is_empty(), "{out:?}");
    }
}

use super::*;

#[test]
fn only_the_writer_of_this_checkpoint_gets_it_published() {
    let mut rig = Rig::new(2, vec![stage("a", 1)]);
    rig.run_until(|c| matches!(order(c), Some(Order::WriteCheckpoint(_))));
    let written = |step| Report::CheckpointWritten(CheckpointWritten { step, digests: [].into() });
    let is_publish = |c: &Command| matches!(c, Command::PublishCheckpoint { .. });
    assert!(!rig.say(1, written(1)).iter().any(is_publish));
    assert!(!rig.say(0, written(0)).iter().any(is_publish));
    let out = rig.say(0, written(1));
    let publish = out.iter().find(|c| is_publish(c)).expect("published");
    let Command::PublishCheckpoint { about, .. } = publish else { panic!("expected it") };
    assert_eq!((about.name.to_string().as_str(), about.digest.as_str()), ("a-step-1", "after 1"));
    assert!(!rig.say(0, written(1)).iter().any(is_publish), "a duplicate publishes nothing");
}

#[test]
fn a_sharded_checkpoint_waits_for_every_rank_and_holds_all_their_files() {
    let mut rig = Rig::new(2, vec![StageSpec { sharded: true, ..stage("a", 1) }]);
    rig.run_until(|c| matches!(order(c), Some(Order::WriteCheckpoint(_))));
    let written = |file: &str| {
        let digests = [(file.to_owned(), "abc".to_owned())].into();
        Report::CheckpointWritten(CheckpointWritten { step: 1, digests })
    };
    let published = |out: &[Command]| {
        out.iter().find_map(|c| match c {
            Command::PublishCheckpoint { digests, .. } => Some(digests.keys().cloned().collect::<Vec<_>>()),
            _ => None,
        })
    };
    assert_eq!(published(&rig.say(1, written("part-2"))), None);
    assert_eq!(published(&rig.say(0, written("part-1"))), Some(vec!["part-1".into(), "part-2".into()]));
}

#[test]
fn keep_removes_the_oldest_periodic_checkpoints_and_no_stage_end() {
    let first = StageSpec { checkpoint_every: 1, ..stage("a", 4) };
    let second = StageSpec { checkpoint_every: 1, ..stage("b", 3) };
    let mut rig = Rig::new(1, vec![first, second]);
    rig.run_until(|_| false);
    let removed: Vec<String> = rig
        .done
        .iter()
        .filter_map(|c| if let Command::RemoveCheckpoint(name) = c { Some(name.to_string()) } else { None })
        .collect();
    assert_eq!(removed, ["a-step-1", "a-step-2", "a-step-3"]);
}

use std::collections::BTreeMap;

use super::*;
use crate::engine::{CheckpointName, CheckpointRecord, EpochRecord, StepRecord};

fn run() -> RunRow {
    RunRow { id: "r".into(), recipe_digest: "d".into(), term: 1 }
}

fn step(step: u64) -> Record {
    Record::Step(StepRecord {
        step,
        stage: 0,
        number: step,
        attempt: 1,
        skip: false,
        lr: 0.1,
        members: vec![0, 1],
        cursor: "{\"epoch\":0}".into(),
        samples: vec!["a".into()],
        metrics: BTreeMap::from([("loss".into(), 0.5)]),
    })
}

#[test]
fn what_was_recorded_is_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = Journal::begin(folder.path(), &run(), 1.0).expect("new");
    let members = BTreeMap::from([(0, 1), (1, 2)]);
    journal.record(&Record::Epoch(EpochRecord { epoch: 1, members }), 2.0).expect("recorded");
    journal.record(&step(1), 3.0).expect("recorded");
    let name = CheckpointName { stage: "a".into(), step: 1 };
    journal.record(&Record::Checkpoint(CheckpointRecord { name, step: 1 }), 4.0).expect("recorded");
    let row = RolloutRow {
        sample: "a".into(),
        media: data::Media::Image,
        mos: 3.0,
        images: vec!["a.png".into()],
        prompt: "How good?".into(),
        texts: vec!["t".into()],
        ids: vec![vec![1]],
        logprobs: vec![vec![-0.5]],
        scores: vec![3.0],
        formats: vec![1.0],
        parts: BTreeMap::new(),
        rewards: vec![1.0],
        advantages: vec![0.0],
    };
    journal.rollouts(1, 1, &[row]).expect("recorded");
    drop(journal);
    let connection = Connection::open(folder.path().join(FILE)).expect("opens");
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).expect("there");
    assert_eq!(text("SELECT members FROM epochs"), "{\"0\":1,\"1\":2}");
    assert_eq!(text("SELECT metrics FROM steps WHERE step = 1"), "{\"loss\":0.5}");
    assert_eq!(text("SELECT name FROM checkpoints"), "a-step-1");
    assert!(text("SELECT responses FROM rollouts WHERE sample = 'a'").contains("\"ids\":[[1]]"));
}

#[test]
fn a_second_coordinator_on_the_same_folder_is_told_who_holds_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let _first = Journal::begin(folder.path(), &run(), 1.0).expect("new");
    std::fs::write(folder.path().join(crate::folder::OWNER), "process 7 on here\n").expect("writable");
    let error = Journal::begin(folder.path(), &run(), 1.0).expect_err("held");
    assert!(matches!(error, JournalError::Held { .. }), "{error}");
    assert!(error.to_string().contains("another coordinator holds it (process 7 on here)"), "{error}");
}

#[test]
fn a_folder_that_holds_a_run_is_refused_with_how_far_it_came() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = Journal::begin(folder.path(), &run(), 1.0).expect("new");
    journal.record(&step(1), 2.0).expect("recorded");
    journal.record(&Record::Ended { outcome: "finished".into() }, 3.0).expect("recorded");
    drop(journal);
    let error = Journal::begin(folder.path(), &run(), 1.0).expect_err("taken").to_string();
    assert!(
        error.contains("(finished, 1 steps committed)") && error.contains("choose another --output"),
        "{error}"
    );
}

#[test]
fn a_run_that_ended_before_its_first_step_makes_room_for_another() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = Journal::begin(folder.path(), &run(), 1.0).expect("new");
    let members = BTreeMap::from([(0, 1)]);
    journal
        .record(&Record::Epoch(EpochRecord { epoch: 1, members: members.clone() }), 2.0)
        .expect("recorded");
    journal.record(&Record::Ended { outcome: "no weights".into() }, 3.0).expect("recorded");
    drop(journal);
    let mut journal = Journal::begin(folder.path(), &run(), 4.0).expect("new again");
    journal.record(&Record::Epoch(EpochRecord { epoch: 1, members }), 5.0).expect("recorded");
    journal.record(&step(1), 6.0).expect("recorded");
}

#[test]
fn a_step_cannot_be_committed_twice() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = Journal::begin(folder.path(), &run(), 1.0).expect("new");
    journal.record(&step(1), 2.0).expect("recorded");
    assert!(journal.record(&step(1), 2.0).is_err(), "ST-2");
}

#[test]
fn a_file_that_is_no_journal_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let text = "not a database, but long enough to be looked at as one ".repeat(4);
    std::fs::write(folder.path().join(FILE), &text).expect("writable");
    assert!(Journal::begin(folder.path(), &run(), 1.0).is_err());
    assert_eq!(std::fs::read_to_string(folder.path().join(FILE)).expect("there"), text);
}

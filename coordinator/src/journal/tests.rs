use std::collections::BTreeMap;

use super::*;
use crate::engine::{CheckpointName, CheckpointRecord, EpochRecord, RestoredRecord, Source, StepRecord};

pub(super) fn run() -> RunRow {
    RunRow { id: "r".into(), recipe_digest: "d".into(), recipe: "{\"seed\":1}".into() }
}

pub(super) fn claim(term: u64) -> Claim<'static> {
    Claim { term, owner: "process 7 on here", at: 1.0 }
}

fn begin(folder: &Path) -> Journal {
    Journal::open(folder, claim(1), &run(), false, &|| Ok(())).expect("new").0
}

pub(super) fn step(step: u64) -> Record {
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
    let mut journal = begin(folder.path());
    let members = BTreeMap::from([(0, 1), (1, 2)]);
    journal
        .record(&Record::Epoch(EpochRecord { epoch: 1, members, hosts: BTreeMap::new() }), 2.0)
        .expect("recorded");
    journal.record(&step(1), 3.0).expect("recorded");
    let name = CheckpointName { stage: "a".into(), step: 1 };
    journal
        .record(
            &Record::Checkpoint(CheckpointRecord {
                name,
                stage: 0,
                number: 1,
                step: 1,
                stage_end: true,
                digest: String::new(),
            }),
            4.0,
        )
        .expect("recorded");
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
fn a_folder_that_holds_a_run_is_refused_with_how_far_it_came_and_is_left_as_it_was() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = begin(folder.path());
    journal.record(&step(1), 2.0).expect("recorded");
    journal.record(&Record::Ended { outcome: "finished".into() }, 3.0).expect("recorded");
    drop(journal);
    let error =
        Journal::open(folder.path(), claim(2), &run(), false, &|| Ok(())).expect_err("taken").to_string();
    assert!(error.contains("(finished, 1 steps committed): give --resume"), "{error}");
    assert!(!folder.path().join(name(2)).exists());
    assert_eq!(fs::read_link(folder.path().join(FILE)).expect("a link"), Path::new("journal.1.sqlite"));
}

#[test]
fn a_run_is_taken_up_with_every_record_in_order_and_goes_on_in_a_file_of_the_new_term() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = begin(folder.path());
    let records = [step(1), step(2)];
    records.iter().for_each(|record| journal.record(record, 2.0).expect("recorded"));
    // The first coordinator was cut off, and still writes.
    let (second, past) = Journal::open(folder.path(), claim(2), &run(), true, &|| Ok(())).expect("taken up");
    journal.record(&step(3), 3.0).expect("written, and read by nobody");
    let past = past.expect("a run");
    let steps: Vec<u64> = past
        .records
        .iter()
        .filter_map(|r| if let Record::Step(s) = r { Some(s.step) } else { None })
        .collect();
    assert_eq!((past.id.as_str(), steps), ("r", vec![1, 2]));
    assert_eq!(second.cursor(0, 2).expect("read").as_deref(), Some("{\"epoch\":0}"));
    assert_eq!(second.cursor(0, 3).expect("read"), None);
}

#[test]
fn a_run_is_not_taken_up_with_another_recipe() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = begin(folder.path());
    journal.record(&step(1), 2.0).expect("recorded");
    drop(journal);
    let other = RunRow { recipe: "{\"seed\":2}".into(), ..run() };
    let error =
        Journal::open(folder.path(), claim(2), &other, true, &|| Ok(())).expect_err("differs").to_string();
    assert!(error.contains("seed (1 then, 2 now)"), "{error}");
}

#[test]
fn a_run_that_ended_before_its_first_step_makes_room_for_another() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = begin(folder.path());
    let epoch = |epoch| {
        let members = BTreeMap::from([(0, 1)]);
        Record::Epoch(EpochRecord { epoch, members, hosts: BTreeMap::new() })
    };
    journal.record(&epoch(1), 2.0).expect("recorded");
    journal.record(&Record::Ended { outcome: "no weights".into() }, 3.0).expect("recorded");
    drop(journal);
    let (mut journal, past) =
        Journal::open(folder.path(), claim(2), &run(), false, &|| Ok(())).expect("new again");
    assert_eq!(past, None);
    journal.record(&epoch(1), 5.0).expect("recorded");
    journal.record(&step(1), 6.0).expect("recorded");
}

#[test]
fn a_step_cannot_be_committed_twice_unless_a_restoration_voided_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = begin(folder.path());
    journal.record(&step(1), 2.0).expect("recorded");
    assert!(journal.record(&step(1), 2.0).is_err(), "ST-2");
    let restored = RestoredRecord { from: 1, to: 0, source: Source::Start, sent: 0 };
    journal.record(&Record::Restored(restored), 3.0).expect("recorded");
    journal.record(&step(1), 4.0).expect("recorded again");
    drop(journal);
    let connection = Connection::open(folder.path().join(FILE)).expect("opens");
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0)).expect("counted");
    assert_eq!(count("SELECT count(*) FROM steps WHERE voided = 1"), 1);
    assert_eq!(count("SELECT count(*) FROM steps WHERE voided = 0"), 1);
    // The record that was refused left nothing behind.
    assert_eq!(count("SELECT count(*) FROM records"), 3);
}

#[test]
fn a_file_that_is_no_journal_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let text = "not a database, but long enough to be looked at as one ".repeat(4);
    fs::write(folder.path().join(name(1)), &text).expect("writable");
    assert!(Journal::open(folder.path(), claim(2), &run(), true, &|| Ok(())).is_err());
    assert_eq!(fs::read_to_string(folder.path().join(name(1))).expect("there"), text);
}

#[test]
fn rollouts_come_back_as_they_were_written() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut journal = begin(folder.path());
    let row = |text: &str| RolloutRow {
        sample: "a".into(),
        media: data::Media::Image,
        mos: 3.0,
        images: vec![],
        prompt: String::new(),
        formats: vec![1.0],
        parts: BTreeMap::new(),
        texts: vec![text.into()],
        ids: vec![vec![1]],
        logprobs: vec![vec![-0.1]],
        scores: vec![3.0],
        rewards: vec![1.0],
        advantages: vec![0.0],
    };
    journal.rollouts(1, 1, &[row("old")]).expect("recorded");
    journal.rollouts(1, 2, &[row("new")]).expect("recorded");
    assert_eq!(journal.rollouts_of(1).expect("read"), [row("new")]);
    assert_eq!(journal.rollouts_of(2).expect("read"), []);
}

#[test]
fn a_folder_whose_terms_are_gone_is_refused_and_keeps_its_run() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut journal, _) = Journal::open(folder.path(), claim(3), &run(), false, &|| Ok(())).expect("new");
    journal.record(&step(1), 2.0).expect("recorded");
    drop(journal);
    for resume in [false, true] {
        let opened = Journal::open(folder.path(), claim(1), &run(), resume, &|| Ok(()));
        let error = opened.expect_err("refused").to_string();
        assert!(error.contains("journal.3.sqlite") && error.contains("terms/3"), "{error}");
    }
    let (_, past) = Journal::open(folder.path(), claim(4), &run(), true, &|| Ok(())).expect("taken up");
    let records = past.expect("a run").records;
    assert!(matches!(records.as_slice(), [Record::Step(one)] if one.step == 1), "{records:?}");
}

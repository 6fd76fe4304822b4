use std::collections::BTreeMap;

use super::super::tests::{claim, run, step};
use super::super::{Claim, RolloutRow};
use super::*;
use crate::engine::StepRecord;

const STEPS: u64 = 120;

/// The journal of a first term, of many pages, and what was under way when its coordinator stopped: the files' bytes.
struct Scene {
    database: Vec<u8>,
    beside: Vec<u8>,
    records: Vec<Record>,
}

fn long_step(number: u64) -> Record {
    let Record::Step(short) = step(number) else { unreachable!("a step") };
    let samples = (0..30).map(|i| format!("sample {i} of step {number}")).collect();
    Record::Step(StepRecord { samples, ..short })
}

fn row(number: u64) -> RolloutRow {
    RolloutRow {
        sample: format!("sample {number}"),
        media: data::Media::Image,
        mos: 3.0,
        images: vec!["a.png".into()],
        prompt: "How good?".into(),
        // Longer than a page: it goes on in others.
        texts: vec![format!("{number} ").repeat(2000)],
        ids: vec![vec![1]],
        logprobs: vec![vec![-0.5]],
        scores: vec![3.0],
        formats: vec![1.0],
        parts: BTreeMap::new(),
        rewards: vec![1.0],
        advantages: vec![0.0],
    }
}

/// With `cut_off`, its coordinator was in the middle of a write that had reached the database.
fn scene(cut_off: bool) -> Scene {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut journal, _) =
        Journal::open(folder.path(), claim(1), &run(), false, &|| Ok(())).expect("a new journal");
    for number in 1..=STEPS {
        journal.record(&long_step(number), 2.0).expect("recorded");
        if number % 20 == 0 {
            journal.rollouts(number, 1, &[row(number)]).expect("recorded");
        }
    }
    let records = journal.records().expect("read");
    if cut_off {
        let write = "PRAGMA cache_size = 2; BEGIN; UPDATE records SET at = at + 1; UPDATE steps SET lr = 7;
            DELETE FROM rollouts; INSERT INTO records (record, at) SELECT record, at FROM records;";
        journal.connection.execute_batch(write).expect("under way");
    }
    let read = |end: &str| fs::read(part(&folder.path().join(name(1)), end)).expect("read");
    let scene = Scene { database: read(""), beside: read("-journal"), records };
    drop(journal);
    scene
}

impl Scene {
    fn page(&self) -> usize {
        usize::from(u16::from_be_bytes([self.database[16], self.database[17]]))
    }
}

/// What the second term has of a first one's files: the records, or why not.
fn taken_up(database: &[u8], beside: &[u8]) -> Result<Vec<Record>, String> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let from = folder.path().join(name(1));
    fs::write(&from, database).expect("writable");
    fs::write(part(&from, "-journal"), beside).expect("writable");
    super::super::link(folder.path(), 1).expect("linked");
    let begun = begin_from(folder.path(), 1, 2);
    let left = fs::read_dir(folder.path()).expect("listed").count();
    assert_eq!(fs::read(&from).expect("there"), database, "the source was changed");
    match begun {
        Ok(()) => {
            assert_eq!(left, 4, "the source, what is beside it, the link, and the copy");
            let connection = Connection::open(folder.path().join(name(2))).expect("opens");
            let journal = Journal { connection, path: folder.path().join(name(2)) };
            Ok(journal.records().expect("read"))
        }
        Err(error) => {
            assert_eq!(left, 3, "a copy that is refused is gone");
            Err(error.to_string())
        }
    }
}

/// Every record, or a refusal that says what is wrong with which file and what to do.
#[track_caller]
fn whole_or_refused(scene: &Scene, database: &[u8], beside: &[u8], what: &str) -> bool {
    match taken_up(database, beside) {
        Ok(records) => {
            assert_eq!(records, scene.records, "{what}");
            true
        }
        Err(error) => {
            for word in ["journal.1.sqlite: damaged (", "choose another --output", "checkpoints"] {
                assert!(error.contains(word), "{what}: {error}");
            }
            assert!(!error.contains('\n'), "{what}: {error}");
            false
        }
    }
}

#[test]
fn a_journal_that_was_cut_off_in_a_write_is_taken_up_as_it_was_before() {
    let scene = scene(true);
    assert!(!scene.beside.is_empty());
    assert!(whole_or_refused(&scene, &scene.database, &scene.beside, "as it was left"));
}

#[test]
fn a_journal_cut_at_any_page_is_refused() {
    let scene = scene(false);
    let pages = scene.database.len() / scene.page();
    assert!(pages > 50, "{pages}");
    for left in 0..pages {
        let database = &scene.database[..left * scene.page()];
        assert!(!whole_or_refused(&scene, database, &[], &format!("{left} of {pages} pages")));
    }
    assert!(whole_or_refused(&scene, &scene.database, &[], "all pages"));
}

#[test]
fn a_flipped_byte_in_a_pages_header_loses_no_record_unnoticed() {
    let scene = scene(false);
    let page = scene.page();
    let mut refused = 0;
    for begin in (0..scene.database.len()).step_by(page) {
        // A leaf's header has 8 bytes, an inner page's 12; a page that goes on with a record begins with the next one.
        let header = match scene.database[begin] {
            _ if begin == 0 => 108,
            0 => 4,
            10 | 13 => 8,
            _ => 12,
        };
        // All of the first page's, and of any other a different one each.
        let flipped =
            if begin == 0 { 0..header } else { (begin / page) % header..(begin / page) % header + 1 };
        for at in flipped {
            let mut database = scene.database.clone();
            database[begin + at] ^= 0xff;
            let what = format!("byte {at} of page {}", begin / page + 1);
            refused += usize::from(!whole_or_refused(&scene, &database, &[], &what));
        }
    }
    assert!(refused > scene.database.len() / page / 2, "{refused}");
}

#[test]
fn a_half_written_journal_beside_it_loses_no_record_unnoticed() {
    let scene = scene(true);
    for left in (0..=scene.beside.len()).step_by(512) {
        let what = format!("{left} of {} bytes", scene.beside.len());
        whole_or_refused(&scene, &scene.database, &scene.beside[..left], &what);
    }
}

#[test]
fn a_damaged_journal_can_be_moved_away_where_an_older_one_is() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let open = |term| {
        let claim = Claim { term, ..claim(term) };
        Journal::open(folder.path(), claim, &run(), true, &|| Ok(())).map_err(|error| error.to_string())
    };
    let (mut journal, _) = open(1).expect("new");
    journal.record(&step(1), 2.0).expect("recorded");
    drop(journal);
    let (mut journal, _) = open(2).expect("taken up");
    journal.record(&step(2), 2.0).expect("recorded");
    drop(journal);
    let file = folder.path().join(name(2));
    let database = fs::read(&file).expect("read");
    fs::write(&file, &database[..4096]).expect("cut");
    let error = open(3).expect_err("damaged");
    let way_out = "move it away and give --resume again: the run then goes on with journal.1.sqlite";
    assert!(error.contains("journal.2.sqlite: damaged (") && error.contains(way_out), "{error}");
    fs::remove_file(&file).expect("moved");
    let (_, past) = open(4).expect("taken up");
    let records = past.expect("a run").records;
    assert!(matches!(records.as_slice(), [Record::Step(one)] if one.step == 1), "{records:?}");
}

#[test]
fn a_journal_that_is_still_written_to_is_copied_once_it_stands_still() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    // It reads differently every time.
    std::os::unix::fs::symlink("/proc/sys/kernel/random/uuid", &from).expect("linked");
    let mut tries = 0;
    let error = still_by(&from, &to, |attempt| tries = attempt).expect_err("it changes").to_string();
    assert_eq!(tries, TRIES);
    assert!(error.contains("from: is still being written to by the coordinator before this one"), "{error}");
    let settle = |attempt| {
        if attempt == 3 {
            fs::remove_file(&from).expect("removed");
            fs::write(&from, "settled").expect("written");
            fs::write(part(&from, "-journal"), "hot").expect("written");
        }
    };
    still_by(&from, &to, settle).expect("copied");
    assert_eq!(fs::read(&to).expect("read"), b"settled");
    assert_eq!(fs::read(part(&to, "-journal")).expect("read"), b"hot");
    fs::remove_file(part(&from, "-journal")).expect("removed");
    still_by(&from, &to, |_| panic!("it stands still")).expect("copied");
    assert!(!part(&to, "-journal").exists(), "what is gone at the source is gone at the copy");
}

#[test]
fn two_files_are_the_same_only_to_their_last_byte() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let (one, other) = (file("one", "abc"), file("other", "abc"));
    assert!(is_same(&one, &other).expect("read"));
    assert!(!is_same(&one, &file("longer", "abcd")).expect("read"));
    assert!(!is_same(&one, &file("different", "abd")).expect("read"));
    assert!(!is_same(&one, &folder.path().join("none")).expect("read"));
}

#[test]
fn a_run_that_was_broken_off_before_its_first_record_makes_room_for_another() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for term in 1..=3 {
        let opened = Journal::open(folder.path(), claim(term), &run(), term > 1, &|| Ok(()));
        let (_, past) = opened.expect("taken up");
        assert_eq!(past, None);
    }
}

#[test]
fn a_journal_that_vanishes_is_not_taken_for_an_empty_one() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let error = still(&folder.path().join("gone"), &folder.path().join("to")).expect_err("nothing is there");
    assert!(error.to_string().contains("gone"), "{error}");
}

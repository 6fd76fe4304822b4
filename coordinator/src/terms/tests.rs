use super::lease::is_requeued;
use super::*;

const GONE: &str = "process 4194305 on here, listening on a:1";
const ELSEWHERE: &str = "process 1 on elsewhere";

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// Claims at once.
fn claim(folder: &Path, owner: &str) -> Term {
    let mut claimant = Claimant::new(folder, owner).expect("a folder");
    claimant.claim(Duration::ZERO).expect("nobody lives").expect("nobody is waited for")
}

#[test]
fn terms_grow_and_one_that_was_given_up_or_whose_holder_is_gone_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = claim(folder.path(), "process 1 on x");
    assert_eq!(first.number(), 1);
    first.release();
    assert_eq!(claim(folder.path(), GONE).number(), 2);
    assert_eq!(claim(folder.path(), "process 9 on here").number(), 3);
}

#[test]
fn who_was_superseded_may_write_nothing_and_learns_by_whom() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = claim(folder.path(), GONE);
    assert!(first.check(seconds(1)).is_ok());
    let second = claim(folder.path(), "process 7 on here");
    let error = first.check(seconds(1)).expect_err("superseded").to_string();
    assert!(error.contains("(process 7 on here): term 2 follows our 1"), "{error}");
    assert!(second.check(seconds(1)).is_ok());
}

#[test]
fn a_lease_that_is_renewed_elsewhere_keeps_others_out_and_names_its_holder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut first = claim(folder.path(), ELSEWHERE);
    let mut second = Claimant::new(folder.path(), "process 2 on here").expect("a folder");
    assert!(second.claim(seconds(100)).expect("perhaps").is_none());
    first.renew(seconds(3)).expect("renewed");
    let error = second.claim(seconds(101)).expect_err("held").to_string();
    assert!(error.contains("another coordinator holds it (process 1 on elsewhere)"), "{error}");
}

#[test]
fn a_lease_that_is_not_renewed_runs_out_by_the_clock_of_who_waits() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = claim(folder.path(), ELSEWHERE);
    let mut second = Claimant::new(folder.path(), "process 2 on here").expect("a folder");
    for now in [100, 105, 109] {
        assert!(second.claim(seconds(now)).expect("perhaps").is_none(), "{now}");
    }
    assert_eq!(second.claim(seconds(110)).expect("run out").map(|term| term.number()), Some(2));
    assert!(first.check(Duration::ZERO).is_err());
}

#[test]
fn a_coordinator_that_could_not_renew_stops_before_another_may_take_over() {
    assert!(may_write(2, 2, Duration::ZERO));
    assert!(!may_write(2, 2, HOLD) && HOLD < LEASE);
    assert!(!may_write(2, 3, Duration::ZERO));
}

#[test]
fn a_lease_that_has_run_out_is_not_renewed_and_neither_is_one_of_a_term_that_another_follows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut first = claim(folder.path(), GONE);
    let written = fs::read(folder.path().join("terms/1")).expect("a lease");
    assert!(matches!(first.renew(HOLD), Err(TermError::Expired { .. })));
    assert!(matches!(first.renew(HOLD * 2), Err(TermError::Expired { .. })));
    let second = claim(folder.path(), "process 7 on here");
    assert!(matches!(first.renew(RENEWAL), Err(TermError::Superseded { newest: 2, .. })));
    assert_eq!(fs::read(folder.path().join("terms/1")).expect("a lease"), written);
    assert!(second.check(RENEWAL).is_ok());
}

#[test]
fn a_requeued_job_takes_over_from_its_earlier_start_at_once_and_from_no_other() {
    let job =
        |job: u64, restart: u64| format!("process 1 on x, listening on a:1, job {job} restart {restart}");
    assert!(is_requeued(&job(7, 0), &job(7, 1)));
    assert!(!is_requeued(&job(7, 1), &job(7, 1)));
    assert!(!is_requeued(&job(7, 2), &job(7, 1)));
    assert!(!is_requeued(&job(6, 0), &job(7, 1)));
    assert!(!is_requeued("process 1 on x, listening on a:1", &job(7, 1)));
}

#[test]
fn a_lease_that_cannot_be_written_runs_out_with_what_the_file_system_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut term = claim(folder.path(), ELSEWHERE);
    fs::create_dir(folder.path().join("terms/1.partial")).expect("in the way");
    term.renew(seconds(3)).expect("it may be written later");
    term.check(seconds(6)).expect("it has not run out");
    let error = term.check(seconds(7)).expect_err("it has").to_string();
    assert!(error.contains("could not be renewed for 7 s (") && error.contains("directory"), "{error}");
}

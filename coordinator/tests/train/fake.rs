//! A light worker as a process of its own: this test executed again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::light::{Faults, serve_on};

/// What goes wrong with it, from the environment.
fn faults() -> Faults {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    Faults {
        version: std::env::var("FAKE_VERSION").unwrap_or_else(|_| proto::VERSION.into()),
        kill_at_step: number("FAKE_KILL_AT_STEP"),
        once: std::env::var_os("FAKE_ONCE").map(Into::into),
        unreadable_at_step: number("FAKE_UNREADABLE_AT_STEP"),
        delay: Duration::from_millis(number("FAKE_DELAY_MS").unwrap_or(0)),
        hold: std::env::var_os("FAKE_HOLD").map(Into::into),
        noise: std::env::var_os("FAKE_NOISE").is_some(),
        ..Faults::default()
    }
}

/// Not a test when this program runs tests: the light worker's entry, with its arguments in the environment.
#[test]
fn worker() {
    let Ok(arguments) = std::env::var("FAKE_WORKER") else { return };
    let words: Vec<&str> = arguments.split(' ').collect();
    let given = |flag: &str| words.iter().position(|w| *w == flag).map(|at| words[at + 1]);
    let after = |flag: &str| given(flag).unwrap();
    let rank = after("--rank").parse().unwrap();
    if let Some(folder) = std::env::var_os("FAKE_FOLDER") {
        std::fs::write(Path::new(&folder).join(format!("fake-{rank}.pid")), std::process::id().to_string())
            .unwrap();
    }
    eprintln!("light worker of rank {rank} begins");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let host = after("--host");
    let shows = (given("--token-file").map(PathBuf::from), given("--certificates").map(PathBuf::from));
    let faults = Faults { shows, ..faults() };
    let ended = runtime.block_on(serve_on(host, rank, after("--coordinator"), faults));
    eprintln!("light worker of rank {rank} ends: {ended:?}");
    std::process::exit(i32::from(ended.is_err()));
}

//! Runs whose workers are started over ssh, with a real sshd of this test's own.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::cluster::processes_naming;
use crate::recovers::committed;
use crate::sshd::{Sshd, done};
use crate::support::{Scenario, lives, pids, wait_for};

/// Two hosts that are this one, behind ssh.
struct Here {
    sshd: Sshd,
}

impl Here {
    fn start() -> Self {
        // The system's choice of a free port.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut sshd = Sshd::new(port);
        sshd.listen("127.0.0.1", || Command::new("env"));
        Self { sshd }
    }

    /// A scenario whose coordinator finds an ssh that knows the way, and two hosts, a worker each.
    fn scenario(&self, steps: u64, environment: &[(&str, &str)]) -> Scenario {
        let scenario =
            Scenario::new(&format!("{{ name: explore, steps: {steps}, evaluation: {{ every: 0 }} }}"));
        self.sshd.client(&scenario.path("bin/ssh"));
        let folder = scenario.path("").display().to_string();
        let all = environment
            .iter()
            .copied()
            .chain([("FAKE_FOLDER", folder.as_str()), ("ODD", "it's $HOME; \"x\"")]);
        let all = all.map(|(name, value)| format!("{name}: {}", serde_json::to_string(value).unwrap()));
        let environment = all.collect::<Vec<_>>().join(", ");
        let host = |name: &str| {
            format!("  - {{ name: {name}, workers: 1, threads: 1, environment: {{ {environment} }} }}\n")
        };
        let text = format!("launcher: ssh\nhosts:\n{}{}", host("first"), host("second"));
        fs::write(scenario.path("hosts.yaml"), text).unwrap();
        scenario
    }
}

/// The `PATH` on which the scenario's ssh comes first.
fn path_of(scenario: &Scenario) -> String {
    format!("{}:{}", scenario.path("bin").display(), std::env::var("PATH").unwrap())
}

fn nothing_is_left(scenario: &Scenario) {
    wait_for("the end of all processes of the run", || {
        processes_naming(&scenario.path("")).is_empty().then_some(())
    });
}

#[test]
fn a_worker_killed_behind_ssh_is_told_with_its_signal_and_started_again() {
    let here = Here::start();
    let mark = here.sshd.path("struck").display().to_string();
    let scenario = here.scenario(5, &[("FAKE_KILL_AT_STEP", "3"), ("FAKE_ONCE", &mark)]);
    let ran = scenario.run(&[], &[("PATH", &path_of(&scenario))]).expect(0);
    for word in
        ["step 3 is repeated: rank 1 on second was lost", "signal 9 (SIGKILL)", "| about to be killed"]
    {
        assert!(ran.stderr.contains(word), "{word} in:\n{}", ran.stderr);
    }
    assert_eq!(committed(&scenario), (vec![1, 2, 3, 4, 5], 20));
    assert!(scenario.read("logs/rank-1.attempt-2.log").contains("light worker of rank 1 begins"));
    nothing_is_left(&scenario);
}

#[test]
fn a_lost_ssh_connection_ends_its_worker_and_the_run_starts_another() {
    let here = Here::start();
    let scenario = here.scenario(150, &[("FAKE_DELAY_MS", "10")]);
    let path = path_of(&scenario);
    let running = scenario.start(&[], &[("PATH", &path)]);
    running.wait_for_steps(2);
    let before = pids(&scenario.path(""));
    // The client of rank 1 goes, as by a person's hand.
    let client = process_with(&["/usr/bin/ssh", "'--rank' '1'"]);
    // SAFETY: kill takes no pointers; the process is one that this test's coordinator started.
    assert_eq!(unsafe { libc::kill(client, libc::SIGKILL) }, 0);
    wait_for("the end of the worker without a connection", || (!lives(before[1])).then_some(()));
    let ran = running.end().expect(0);
    assert!(ran.stderr.contains("rank 1 on second was lost"), "{}", ran.stderr);
    assert_eq!(committed(&scenario).0, (1..=150).collect::<Vec<u64>>());
    nothing_is_left(&scenario);
}

/// The process whose command line has all of `words` and names the scenario's rank; there is one.
fn process_with(words: &[&str]) -> i32 {
    let found: Vec<i32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let process = path.file_name()?.to_str()?.parse().ok()?;
            let line = String::from_utf8_lossy(&fs::read(path.join("cmdline")).ok()?).replace('\0', " ");
            (line.starts_with(words[0]) && words.iter().all(|word| line.contains(word))).then_some(process)
        })
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

#[test]
fn no_worker_behind_ssh_outlives_a_killed_coordinator_or_an_interrupted_one() {
    let here = Here::start();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let scenario = here.scenario(1000, &[("FAKE_DELAY_MS", "20")]);
        let path = path_of(&scenario);
        let running = scenario.start(&[], &[("PATH", &path)]);
        running.wait_for_steps(1);
        let workers = pids(&scenario.path(""));
        running.signal(signal);
        for worker in workers {
            wait_for("a worker's end", || (!lives(worker)).then_some(()));
        }
        drop(running);
        nothing_is_left(&scenario);
    }
}

#[test]
fn a_host_that_does_not_let_the_coordinator_in_is_wrong_input_and_what_to_do_is_said() {
    let here = Here::start();
    let scenario = here.scenario(5, &[]);
    fs::copy(here.sshd.path("stranger.pub"), here.sshd.path("authorized_keys")).unwrap();
    let ran = scenario.run(&[], &[("PATH", &path_of(&scenario))]).expect(2);
    let word = ran.last_word();
    assert!(
        word.contains("Permission denied") && word.contains("ssh -o BatchMode=yes 127.0.0.1 true"),
        "{word}"
    );
    nothing_is_left(&scenario);
}

#[test]
fn a_host_that_sees_another_run_folder_is_wrong_input() {
    let here = Here::start();
    let scenario = here.scenario(5, &[]);
    // The far side has something else mounted in the place of the run folder.
    let client = scenario.path("bin/ssh");
    let text = fs::read_to_string(&client).unwrap();
    let run = scenario.run_folder().display().to_string();
    let text = text.replace(
        "exec /usr/bin/ssh",
        &format!("for last; do :; done; last=$(printf '%s' \"$last\" | sed 's,{run}/mark,/nowhere/mark,'); set -- 127.0.0.1 \"$last\"\nexec /usr/bin/ssh"),
    );
    let write = "printf '%s' \"$1\" > \"$0\" && chmod +x \"$0\"";
    done(Command::new("sh").args(["-c", write]).arg(&client).arg(text));
    let ran = scenario.run(&[], &[("PATH", &path_of(&scenario))]).expect(2);
    assert!(
        ran.last_word().contains("/nowhere is not the run folder that the coordinator writes to"),
        "{}",
        ran.stderr
    );
    nothing_is_left(&scenario);
}

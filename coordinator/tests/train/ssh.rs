//! Runs whose workers are started over ssh, with a real sshd of this test's own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::cluster::processes_naming;
use crate::recovers::committed;
use crate::support::{Scenario, connect, lives, pids, wait_for};

/// An sshd that lets this user in by a key of its own.
struct Sshd {
    folder: TempDir,
    daemon: Child,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Sshd {
    fn start() -> Self {
        let program = Path::new("/usr/sbin/sshd");
        assert!(
            program.is_file(),
            "Debian package openssh-server is missing (no {}): run deploy/setup/setup.sh hosts",
            program.display()
        );
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host", "user", "stranger"] {
            done(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]));
        }
        fs::copy(path("user.pub"), path("authorized_keys")).unwrap();
        // sshd of root wants it; of another user it does not.
        let _ = fs::create_dir_all("/run/sshd");
        // The system's choice of a free port.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
             StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n",
            path("host"),
            path("authorized_keys")
        );
        fs::write(path("sshd_config"), server).unwrap();
        let host_key = fs::read_to_string(path("host.pub")).unwrap();
        fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        let client = format!(
            "Port {port}\nIdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\nStrictHostKeyChecking yes\n",
            path("user"),
            path("known_hosts")
        );
        fs::write(path("ssh_config"), client).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let daemon = Command::new(program)
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let sshd = Self { folder, daemon };
        wait_for("sshd", || std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
        drop(connect(&format!("127.0.0.1:{port}")));
        sshd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A scenario whose coordinator finds an ssh that knows the way, and two hosts, a worker each.
    fn scenario(&self, steps: u64, environment: &[(&str, &str)]) -> Scenario {
        let scenario =
            Scenario::new(&format!("{{ name: explore, steps: {steps}, evaluation: {{ every: 0 }} }}"));
        let client =
            format!("#!/bin/sh\nexec /usr/bin/ssh -F '{}' \"$@\"\n", self.path("ssh_config").display());
        let write = "printf '%s' \"$1\" > \"$0\" && chmod +x \"$0\"";
        done(Command::new("sh").args(["-c", write]).arg(scenario.path("bin/ssh")).arg(client));
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
    let sshd = Sshd::start();
    let mark = sshd.path("struck").display().to_string();
    let scenario = sshd.scenario(5, &[("FAKE_KILL_AT_STEP", "3"), ("FAKE_ONCE", &mark)]);
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
    let sshd = Sshd::start();
    let scenario = sshd.scenario(150, &[("FAKE_DELAY_MS", "10")]);
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
    let sshd = Sshd::start();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let scenario = sshd.scenario(1000, &[("FAKE_DELAY_MS", "20")]);
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
    let sshd = Sshd::start();
    let scenario = sshd.scenario(5, &[]);
    fs::copy(sshd.path("stranger.pub"), sshd.path("authorized_keys")).unwrap();
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
    let sshd = Sshd::start();
    let scenario = sshd.scenario(5, &[]);
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

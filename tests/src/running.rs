//! A coordinator at work, and what is left of it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program;

/// How long anything may take before a test says that it never came.
const PATIENCE: Duration = Duration::from_secs(180);

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote.
    pub stderr: String,
}

impl Ended {
    /// Itself, where the exit code is this one.
    #[must_use]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The sentence that it ended with, which is one line at the end of stderr and says all of `words`.
    pub fn says(&self, words: &[&str]) {
        let last = self.stderr.trim_end().lines().last().unwrap_or_default();
        assert!(last.starts_with("coordinator: ") || last.starts_with("worker: "), "{}", self.stderr);
        for word in words {
            assert!(last.contains(word), "{word:?} is not in: {last}");
        }
    }
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    readers: Vec<JoinHandle<String>>,
    run_folder: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it is over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts a program that works in `run_folder`.
    #[must_use]
    pub fn start(mut command: Command, run_folder: &Path) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let readers = vec![read(stdout), read(stderr)];
        Self { child, readers, run_folder: run_folder.to_owned() }
    }

    /// Sends a signal, by its name without SIG.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Whether it has ended.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("a child to look at").is_some()
    }

    /// Where the coordinator listens, once it does.
    #[must_use]
    pub fn address(&self) -> String {
        let file = self.run_folder.join("address");
        wait_for("the address", || fs::read_to_string(&file).ok().map(|text| text.trim().to_owned()))
    }

    /// Waits until so many steps are committed.
    pub fn wait_for_steps(&self, steps: usize) {
        let file = self.run_folder.join("metrics.jsonl");
        let committed = || fs::read_to_string(&file).map_or(0, |text| text.lines().count());
        wait_for("a step", || (committed() >= steps).then_some(()));
    }

    /// Waits for its end.
    #[must_use]
    pub fn end(mut self) -> Ended {
        let status = wait_for("the end", || self.child.try_wait().expect("a child to wait for"));
        let mut said = self.readers.drain(..).map(|reader| reader.join().expect("a reader ends"));
        let (stdout, stderr) = (said.next().unwrap_or_default(), said.next().unwrap_or_default());
        Ended { code: status.code(), stdout, stderr }
    }
}

/// Sends a signal to a process, by its name without SIG.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status().expect("kill starts");
    assert!(sent.success(), "process {process} is over already");
}

/// What the coordinator of the run in this folder says of it; null while nobody answers.
#[must_use]
pub fn status(run: &Path) -> Value {
    let mut command = Command::new(program("coordinator"));
    let answer =
        command.args(["status", "--json", "--output"]).arg(run).output().expect("the program starts");
    serde_json::from_slice(&answer.stdout).unwrap_or_default()
}

fn read(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Looks until there is something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The workers on this machine that were started for the coordinator at `address`.
#[must_use]
pub fn workers_of(address: &str) -> Vec<u32> {
    processes(&["--coordinator", address])
}

/// The processes on this machine whose command lines have all of these words.
#[must_use]
pub fn processes(all: &[&str]) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("a list of processes").filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let meant = |process: &u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        all.iter().all(|word| words.contains(&word.as_bytes()))
    };
    numbers.filter(meant).collect()
}

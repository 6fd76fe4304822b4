//! A folder with everything that a run needs, and a coordinator to run on it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A tiny data set, a host file, a recipe, and programs.
pub(crate) struct Scenario {
    folder: TempDir,
}

impl Scenario {
    /// Two local workers and the stages given, as YAML flow mappings.
    pub(crate) fn new(stages: &str) -> Self {
        let scenario = Self { folder: tempfile::tempdir().unwrap() };
        for (split, count) in [("train", 12), ("validation", 6), ("test", 6)] {
            scenario.labels(split, count);
        }
        fs::create_dir(scenario.path("model")).unwrap();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/quickstart/model/config.json");
        fs::copy(config, scenario.path("model/config.json")).unwrap();
        scenario.hosts("local", "127.0.0.1:0");
        scenario.recipe(stages);
        scenario.programs();
        scenario
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The run folder.
    pub(crate) fn run_folder(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.run_folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn labels(&self, split: &str, count: usize) {
        fs::create_dir_all(self.path("pictures")).unwrap();
        let mut file = fs::File::create(self.path(&format!("{split}.jsonl"))).unwrap();
        for i in 0..count {
            let name = format!("{split}_{:02}_{:02}.png", 10 + i % 3, 1 + i % 5);
            let name = name.replace("png", &format!("c{i}.png"));
            fs::write(self.path("pictures").join(&name), "").unwrap();
            let mos = 1.2 + 3.0 * i as f64 / count as f64;
            writeln!(
                file,
                r#"{{"id":"{i}","image":["{name}"],"conversations":[{{"from":"human","value":"How good?"}},{{"from":"gpt","value":{mos}}}]}}"#
            )
            .unwrap();
        }
    }

    pub(crate) fn hosts(&self, launcher: &str, listen: &str) {
        let text = format!(
            "launcher: {launcher}\ncoordinator: {{ listen: \"{listen}\" }}\nhosts:\n  - {{ name: here, workers: 2, threads: 1 }}\n"
        );
        fs::write(self.path("hosts.yaml"), text).unwrap();
    }

    /// Adds a line to the host file.
    pub(crate) fn hosts_also(&self, line: &str) {
        let text = fs::read_to_string(self.path("hosts.yaml")).unwrap();
        fs::write(self.path("hosts.yaml"), format!("{text}{line}\n")).unwrap();
    }

    /// A subcommand of the coordinator.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Ran {
        Ran::of(Command::new(self.path("bin/coordinator")).args(arguments).output().unwrap())
    }

    fn recipe(&self, stages: &str) {
        let folder = self.folder.path().display();
        let set = |split: &str| {
            format!("[{{ name: tiny, manifest: {folder}/{split}.jsonl, media: {folder}/pictures }}]")
        };
        let text = format!(
            "run: {{ name: tiny, seed: 5, output: {folder}/run }}\nmodel: {{ path: {folder}/model, dtype: float32 }}\n\
             data: {{ train: {}, validation: {}, test: {} }}\nrollout: {{ responses: 3, max_new_tokens: 16 }}\n\
             parallel: {{ samples_per_step: 4 }}\nrecovery: {{ lease: 5, forming: 30 }}\n\
             checkpoint: {{ every: 2, keep: 1 }}\nevaluation: {{ every: 2 }}\nstages: [{stages}]\n",
            set("train"),
            set("validation"),
            set("test")
        );
        fs::write(self.path("recipe.yaml"), text).unwrap();
    }

    /// The coordinator with a program named `worker` beside it: this test's own, as [`crate::fake`].
    fn programs(&self) {
        let bin = self.path("bin");
        fs::create_dir(&bin).unwrap();
        // Other processes write these files: a file that is open for writing here, in a test beside this one too,
        // could not be executed.
        let made = Command::new("cp").arg(env!("CARGO_BIN_EXE_coordinator")).arg(&bin).status().unwrap();
        assert!(made.success());
        let test = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\nexport FAKE_WORKER=\"$*\"\nexec '{}' --exact fake::worker --nocapture\n",
            test.display()
        );
        let write = "printf '%s' \"$1\" > \"$0\" && chmod +x \"$0\"";
        let made =
            Command::new("sh").args(["-c", write]).arg(bin.join("worker")).arg(script).status().unwrap();
        assert!(made.success());
    }

    /// The coordinator on this scenario's files; `faults` go to the light workers.
    pub(crate) fn command(&self, arguments: &[&str], faults: &[(&str, &str)]) -> Command {
        let mut command = Command::new(self.path("bin/coordinator"));
        command
            .args(["--nodes", self.path("hosts.yaml").to_str().unwrap()])
            .args(["--recipe", self.path("recipe.yaml").to_str().unwrap()])
            .args(arguments)
            .env_remove("FAKE_WORKER")
            .envs(faults.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str], faults: &[(&str, &str)]) -> Ran {
        Ran::of(self.command(arguments, faults).output().unwrap())
    }

    pub(crate) fn start(&self, arguments: &[&str], faults: &[(&str, &str)]) -> Running<'_> {
        let mut child = self.command(arguments, faults).spawn().unwrap();
        let (said, mut stderr) =
            (Arc::new(Mutex::new(String::new())), BufReader::new(child.stderr.take().unwrap()));
        let hears = Arc::clone(&said);
        let listener = std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).unwrap() > 0 {
                hears.lock().unwrap().push_str(&std::mem::take(&mut line));
            }
        });
        Running { child, said, listener: Some(listener), scenario: self }
    }
}

/// How a coordinator ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Asserts the exit code, showing what was said where it differs.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The line that the coordinator ends with.
    pub(crate) fn last_word(&self) -> &str {
        self.stderr
            .lines()
            .rev()
            .find(|line| line.starts_with("coordinator: "))
            .unwrap_or_else(|| panic!("{}", self.stderr))
    }
}

/// A coordinator at work; killed when dropped.
pub(crate) struct Running<'a> {
    child: Child,
    /// What it said on stderr so far.
    said: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
    scenario: &'a Scenario,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running<'_> {
    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers; the process is our child and not reaped yet.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    /// The most memory that it has had, bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub(crate) fn address(&self) -> String {
        let file = self.scenario.run_folder().join("address");
        wait_for("the address", || fs::read_to_string(&file).ok().map(|text| text.trim().to_owned()))
    }

    pub(crate) fn wait_for_steps(&self, steps: usize) {
        let file = self.scenario.run_folder().join("metrics.jsonl");
        wait_for("steps", || {
            fs::read_to_string(&file).ok().filter(|text| text.lines().count() >= steps).map(drop)
        });
    }

    pub(crate) fn wait_for_word(&self, word: &str) {
        wait_for(word, || self.said.lock().unwrap().contains(word).then_some(()));
    }

    pub(crate) fn end(mut self) -> Ran {
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        let code = self.child.wait().unwrap().code();
        self.listener.take().unwrap().join().unwrap();
        Ran { code, stdout, stderr: self.said.lock().unwrap().clone() }
    }
}

/// Looks until there is something.
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, look)
}

/// [`wait_for`], so long at most.
pub(crate) fn wait_within<T>(time: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + time;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that light workers of this scenario wrote down.
pub(crate) fn pids(folder: &Path) -> Vec<u32> {
    (0..2)
        .map(|rank| {
            let file = folder.join(format!("fake-{rank}.pid"));
            wait_for("a worker's process id", || fs::read_to_string(&file).ok()?.parse().ok())
        })
        .collect()
}

pub(crate) fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) fn connect(address: &str) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

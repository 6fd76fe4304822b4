//! Several hosts with a Slurm of their own on this machine (tests/cluster).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a job may take to come to a state.
const PATIENCE: Duration = Duration::from_secs(240);

/// A running cluster; taken down when dropped.
pub(crate) struct Cluster {
    folder: TempDir,
}

impl Cluster {
    /// Hosts `ctl` and `n1` to `nN`.
    pub(crate) fn up(nodes: u32) -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap() };
        cluster.call(&["up", &nodes.to_string(), "0"]);
        cluster
    }

    /// The same without a Slurm.
    #[allow(dead_code, reason = "the tests of real workers use it")]
    pub(crate) fn bare(nodes: u32) -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap() };
        cluster.call(&["bare", &nodes.to_string()]);
        cluster
    }

    /// A command of the cluster's script, to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cluster/cluster.sh");
        let mut command = Command::new("bash");
        command
            .arg(script)
            .args(arguments)
            .env("SLURM_TEST_DIR", self.folder.path().join("c"))
            .env("SLURM_TEST_PREFIX", format!("t{}", std::process::id()));
        command
    }

    /// Carries out a command of the cluster's script.
    pub(crate) fn call(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// A command on the host that jobs are submitted from.
    pub(crate) fn submit(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = self.command(&["exec", "ctl"]);
        command.args(arguments).envs(environment.iter().copied()).env_remove("FAKE_WORKER").output().unwrap()
    }

    /// What Slurm says of a job: `JobState=…` and the like, by name.
    pub(crate) fn job(&self, id: &str, what: &str) -> String {
        let shown = self.call(&["exec", "ctl", "scontrol", "show", "job", "-o", id]);
        let start = format!("{what}=");
        shown.split(' ').find_map(|word| word.strip_prefix(&start)).unwrap_or_default().to_owned()
    }

    /// Looks until a job is over, and asserts how.
    pub(crate) fn expect(&self, id: &str, state: &str, log: &Path) {
        const OVER: [&str; 5] = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"];
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.job(id, "JobState");
            if now == state {
                return;
            }
            let log = || std::fs::read_to_string(log).unwrap_or_default();
            assert!(!OVER.contains(&now.as_str()), "job {id} is {now}, not {state}:\n{}", log());
            assert!(Instant::now() < deadline, "job {id} is still {now}, not {state}:\n{}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The next one has a folder and names of its own.
        let _ = self.command(&["down"]).output();
    }
}

/// Command lines of the processes of this machine that name `folder`: what a run left behind.
pub(crate) fn processes_naming(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap();
    let lines = entries.filter_map(|entry| {
        let path: PathBuf = entry.ok()?.path();
        path.file_name()?.to_str()?.parse::<u32>().ok()?;
        let line = String::from_utf8_lossy(&std::fs::read(path.join("cmdline")).ok()?).replace('\0', " ");
        line.contains(&folder).then_some(line)
    });
    lines.collect()
}

//! A run of N workers on files of its own, and its coordinator.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Workers of a host.
const A_HOST: u32 = 8;
/// Seconds of silence that a worker is allowed; a heartbeat comes every fifth of it.
const LEASE: u64 = 10;
/// Time between a worker's heartbeats.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(LEASE / 5);

/// The coordinator of a run; killed when dropped.
pub(crate) struct Ground {
    folder: TempDir,
    coordinator: Child,
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = self.coordinator.kill();
        let _ = self.coordinator.wait();
    }
}

impl Ground {
    /// A sample a worker and step, two responses each; more steps than anybody waits for.
    pub(crate) fn of(workers: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("pictures")).unwrap();
        let mut lines = String::new();
        for i in 0..workers.max(8) {
            fs::write(path(&format!("pictures/{i}.png")), "").unwrap();
            let mos = 1.0 + f64::from(i % 41) / 10.0;
            writeln!(lines, r#"{{"id":"{i}","image":["{i}.png"],"conversations":[{{"from":"human","value":"How good?"}},{{"from":"gpt","value":{mos}}}]}}"#)
                .unwrap();
        }
        fs::write(path("train.jsonl"), lines).unwrap();
        fs::create_dir(path("model")).unwrap();
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/quickstart/model/config.json");
        fs::copy(config, path("model/config.json")).unwrap();
        fs::write(path("hosts.yaml"), hosts(workers)).unwrap();
        let root = folder.path().display();
        let recipe = format!(
            "run: {{ name: crowd, output: {root}/run }}\nmodel: {{ path: {root}/model, dtype: float32 }}\n\
             data: {{ train: [{{ name: tiny, manifest: {root}/train.jsonl, media: {root}/pictures }}] }}\n\
             rollout: {{ responses: 2, max_new_tokens: 16 }}\nparallel: {{ samples_per_step: {workers} }}\n\
             recovery: {{ lease: {LEASE}, forming: 60, restart_grace: 60 }}\n\
             checkpoint: {{ every: 1000000 }}\nevaluation: {{ every: 0 }}\nstages: [{{ name: explore, steps: 1000000 }}]\n"
        );
        fs::write(path("recipe.yaml"), recipe).unwrap();
        let coordinator = Command::new(env!("CARGO_BIN_EXE_coordinator"))
            .args(["--nodes", path("hosts.yaml").to_str().unwrap()])
            .args(["--recipe", path("recipe.yaml").to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { folder, coordinator }
    }

    /// Where the coordinator listens, once it does.
    pub(crate) async fn address(&mut self) -> String {
        let file = self.folder.path().join("run/address");
        loop {
            if let Ok(text) = fs::read_to_string(&file) {
                return text.trim().to_owned();
            }
            if let Some(ended) = self.coordinator.try_wait().unwrap() {
                panic!("the coordinator ended with {ended}:\n{}", self.said());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the coordinator said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Processor time that the coordinator has had.
    pub(crate) fn computed(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        // proc(5): utime and stime are fields 14 and 15; the state behind the name is field 3.
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
        // SAFETY: sysconf takes a number and returns one.
        let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Duration::from_secs_f64(ticks as f64 / a_second as f64)
    }

    /// The most memory that the coordinator has had, bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.coordinator.id()))
    }
}

/// The name of the host that a rank runs on.
pub(crate) fn host_of(rank: u32) -> String {
    format!("h{}", rank / A_HOST)
}

fn hosts(workers: u32) -> String {
    let mut text = "launcher: external\ncoordinator: { listen: \"127.0.0.1:0\" }\nhosts:\n".to_owned();
    for first in (0..workers).step_by(A_HOST as usize) {
        let here = A_HOST.min(workers - first);
        writeln!(text, "  - {{ name: {}, workers: {here}, threads: 1 }}", host_of(first)).unwrap();
    }
    text
}

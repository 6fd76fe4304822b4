//! Workers that somebody else started.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::scene::Scene;
use crate::{left, program};

/// Workers that are no coordinator's children; killed when dropped.
#[derive(Debug)]
pub struct Outside {
    scene: PathBuf,
    run: PathBuf,
    /// By rank.
    workers: Vec<Child>,
}

impl Outside {
    /// Starts a worker for each rank of the scene's run in this folder.
    #[must_use]
    pub fn start(scene: &Scene, run: &Path, ranks: u32) -> Self {
        let (scene, run) = (scene.folder().to_owned(), run.to_owned());
        let workers = (0..ranks).map(|rank| worker(&scene, &run, rank)).collect();
        Self { scene, run, workers }
    }

    /// A rank's process.
    #[must_use]
    pub fn process(&self, rank: u32) -> u32 {
        self.workers[rank as usize].id()
    }

    /// Kills a rank's process.
    pub fn kill(&mut self, rank: u32) {
        self.workers[rank as usize].kill().expect("a process to kill");
    }

    /// Waits for the end of a rank's process, and starts another.
    pub fn restart(&mut self, rank: u32) {
        let child = &mut self.workers[rank as usize];
        child.wait().expect("a child to wait for");
        *child = worker(&self.scene, &self.run, rank);
    }

    /// Starts another process for the rank beside the one that there is, which it gives.
    #[must_use]
    pub fn replace(&mut self, rank: u32) -> Replaced {
        let other = worker(&self.scene, &self.run, rank);
        Replaced(std::mem::replace(&mut self.workers[rank as usize], other))
    }

    /// The exit codes, once all have ended.
    #[must_use]
    pub fn ends(mut self) -> Vec<Option<i32>> {
        self.workers.iter_mut().map(|worker| worker.wait().expect("a child to wait for").code()).collect()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.workers.iter_mut().for_each(end);
    }
}

/// A process whose rank another has taken; killed when dropped.
#[derive(Debug)]
pub struct Replaced(Child);

impl Replaced {
    /// Its number.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.0.id()
    }

    /// The exit code, once it has ended.
    #[must_use]
    pub fn ends(mut self) -> Option<i32> {
        self.0.wait().expect("a child to wait for").code()
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

fn end(worker: &mut Child) {
    // Both fail only where it has ended.
    let _ = worker.kill();
    let _ = worker.wait();
}

fn worker(scene: &Path, run: &Path, rank: u32) -> Child {
    let mut command = Command::new(program("worker"));
    command.args(["--rank", &rank.to_string(), "--threads", "1", "--host", "here", "--coordinator"]);
    command.arg(run.join("address")).env("OMP_NUM_THREADS", "1");
    left::mark(&mut command, scene);
    command.spawn().expect("the worker starts")
}

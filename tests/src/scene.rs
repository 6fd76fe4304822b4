//! A folder with everything that a run needs: data set, model, host file, recipe.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::running::{Ended, Running};
use crate::{left, photographs, program, recovery, root, succeed, text};

/// What a run starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Weights as drawn: nothing is known, least of all the format.
    Fresh,
    /// The quickstart's checkpoint, which answers in the format.
    Trained,
}

/// A folder with everything that a run needs. It goes away when dropped.
#[derive(Debug)]
pub struct Scene {
    folder: TempDir,
}

impl Scene {
    /// 27 training, 9 validation and 9 test pictures of 112 × 112 from five procedural photographs; two workers with
    /// a thread each; `stages` as YAML flow mappings. Steps have four samples of two short responses.
    #[must_use]
    pub fn new(start: Start, stages: &str) -> Self {
        let scene = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        photographs::write(&scene.path("photographs"), 5);
        let (photographs, data) = (scene.text("photographs"), scene.text("data"));
        let small = ["--kinds", "1,11,21", "--levels", "1,3,5", "--crops-per-image", "1", "--size", "112"];
        let places = ["--min-detail", "0", "--candidates", "1", "--photos", &photographs, "--output", &data];
        let _ = succeed("coordinator", &[["dataset", "synthesize"].as_slice(), &small, &places].concat());
        let model = match start {
            Start::Fresh => scene.fresh(),
            Start::Trained => root().join("configs/quickstart/checkpoint"),
        };
        scene.hosts("local", 2, "127.0.0.1:0");
        scene.recipe(&model, stages);
        scene
    }

    fn fresh(&self) -> PathBuf {
        let (model, seed) = (self.path("model"), ["--seed", "3", "--patch-filters", "cosine"]);
        let folders = ["--model-config", "configs/quickstart/model", "--output", text(&model)];
        let _ = succeed("worker", &[["init"].as_slice(), &folders, &seed].concat());
        model
    }

    /// [`Scene::new`] of so many steps of PRPO from fresh weights.
    #[must_use]
    pub fn prpo(steps: usize) -> Self {
        Self::new(Start::Fresh, &format!("{{ name: explore, kind: prpo, steps: {steps} }}"))
    }

    /// What a run of it ends with to which nothing happens, on workers of this host, with these `--set`s.
    #[must_use]
    pub fn undisturbed(&self, workers: u32, set: &[&str]) -> BTreeMap<String, String> {
        let (nodes, output) = (self.text("undisturbed.yaml"), self.path("undisturbed"));
        self.write_hosts("undisturbed.yaml", "local", workers, "127.0.0.1:0");
        let mut command = self.command(&nodes);
        command.arg("--output").arg(&output).args(set).args(NO_EVALUATION);
        let _ = Running::start(command, &output).end().with(0);
        recovery::weights(&output)
    }

    /// Writes the host file: one host called `here`.
    pub fn hosts(&self, launcher: &str, workers: u32, listen: &str) {
        self.write_hosts("hosts.yaml", launcher, workers, listen);
    }

    fn write_hosts(&self, name: &str, launcher: &str, workers: u32, listen: &str) {
        let text = format!(
            "launcher: {launcher}\ncoordinator: {{ listen: \"{listen}\" }}\nhosts:\n  - {{ name: here, workers: \
             {workers}, threads: 1 }}\n"
        );
        fs::write(self.path(name), text).expect("a host file is written");
    }

    /// Adds a line to the host file.
    pub fn hosts_also(&self, line: &str) {
        let path = self.path("hosts.yaml");
        let text = fs::read_to_string(&path).expect("a host file");
        fs::write(path, format!("{text}{line}\n")).expect("a host file is written");
    }

    fn recipe(&self, model: &Path, stages: &str) {
        let data = self.path("data");
        let (data, model, output) = (data.display(), model.display(), self.run_folder());
        let set =
            |part: &str| format!("[{{ name: p, manifest: {data}/{part}.jsonl, media: {data}/images }}]");
        let text = format!(
            "run: {{ name: small, seed: 5, output: {} }}\nmodel: {{ path: {model}, dtype: float32 }}\n\
             data: {{ train: {}, validation: {}, test: {} }}\n\
             rollout: {{ responses: 2, max_new_tokens: 12 }}\nevaluation: {{ every: 0, samples: 4 }}\n\
             optimizer: {{ lr: 1.0e-4, schedule: constant }}\nparallel: {{ samples_per_step: 4 }}\n\
             checkpoint: {{ every: 1000, keep: 1, dtype: float32 }}\nstages: [{stages}]\n",
            output.display(),
            set("train"),
            set("validation"),
            set("test")
        );
        fs::write(self.path("recipe.yaml"), text).expect("a recipe is written");
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A place in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A place in the folder, as an argument.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        text(&self.path(name)).to_owned()
    }

    /// The run folder.
    #[must_use]
    pub fn run_folder(&self) -> PathBuf {
        self.path("run")
    }

    /// A file of the run folder.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        let path = self.run_folder().join(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// A file of JSON lines of the run folder.
    #[must_use]
    pub fn lines(&self, name: &str) -> Vec<Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
        self.read(name).lines().map(line).collect()
    }

    /// Replaces text in a file of the folder, which must hold it.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.path(name);
        let text = fs::read_to_string(&path).expect("a file to edit");
        assert!(text.contains(from), "{from:?} is not in {name}:\n{text}");
        fs::write(path, text.replacen(from, to, 1)).expect("the edited file is written");
    }

    /// The coordinator on this scene's files.
    #[must_use]
    pub fn coordinator(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.text("hosts.yaml"));
        command.args(arguments);
        command
    }

    fn command(&self, nodes: &str) -> Command {
        let mut command = Command::new(program("coordinator"));
        command.args(["--nodes", nodes, "--recipe", &self.text("recipe.yaml")]);
        command.current_dir(root()).stdin(Stdio::null());
        left::mark(&mut command, self.folder.path());
        command
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.begin(arguments).end()
    }

    /// Starts it.
    #[must_use]
    pub fn begin(&self, arguments: &[&str]) -> Running {
        Running::start(self.coordinator(arguments), &self.run_folder())
    }
}

/// Arguments that leave evaluations out of a run.
pub const NO_EVALUATION: [&str; 4] = ["--set", "data.validation=[]", "--set", "data.test=[]"];

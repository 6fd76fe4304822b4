//! Whether what a recipe names is there.

use std::path::Path;

use crate::error::{Error, Problem};
use crate::run::Run;
use crate::sections::Trainable;

impl Run {
    /// Checks that the model folder, every stage's manifests and media folders exist, and that every stage has
    /// something to train on. Apart from loading, so that a dry run can show a recipe whose files are elsewhere.
    ///
    /// # Errors
    /// With everything that is missing.
    pub fn check_files(&self) -> Result<(), Error> {
        self.check(false)
    }

    /// As [`Run::check_files`], but what `model.shape` and a source's `declared` stand in for may be absent: for dry
    /// runs.
    ///
    /// # Errors
    /// As [`Run::check_files`].
    pub fn check_files_or_declared(&self) -> Result<(), Error> {
        self.check(true)
    }

    fn check(&self, declared: bool) -> Result<(), Error> {
        let mut problems = Vec::new();
        let mut missing = |at: &str, path: &Path, expected: &str| {
            let text = format!("{} does not exist; expected {expected}", path.display());
            let problem = Problem { at: at.into(), text };
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        };
        let config = self.model.path.join("config.json");
        let stood_in = declared && self.model.shape.is_some();
        if !config.is_file() && !stood_in {
            missing("model.path", &config, "a model folder in Hugging Face layout");
        }
        for stage in &self.stages {
            if let Some(folder) = stage.lora.adapter.as_ref().filter(|_| stage.trainable == Trainable::Lora) {
                let file = folder.join("adapter_config.json");
                if !file.is_file() {
                    missing("model.lora.adapter", &file, "a folder that PEFT's save_pretrained wrote");
                }
            }
            let data = &stage.data;
            for (list, sources) in
                [("train", &data.train), ("validation", &data.validation), ("test", &data.test)]
            {
                let stood_in = |source: &&crate::DataSource| declared && source.declared.is_some();
                let sources = sources.iter().filter(|source| !stood_in(source));
                for (manifest, media) in sources.flat_map(crate::DataSource::pairs) {
                    if !manifest.is_file() {
                        missing(&format!("data.{list}"), &manifest, "a label file (manifest)");
                    }
                    if !media.is_dir() {
                        missing(&format!("data.{list}"), &media, "a folder of pictures (media)");
                    }
                }
            }
        }
        let idle = self.stages.iter().filter(|stage| stage.data.train.is_empty());
        problems.extend(idle.map(|stage| Problem {
            at: format!("stages.{}.data.train", stage.name),
            text: "is empty; expected at least one data set {name, manifest, media}".into(),
        }));
        if problems.is_empty() { Ok(()) } else { Err(Error::Wrong(problems)) }
    }
}

//! What is asked for, as both command lines have it.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::listing::{self, Item};
use crate::verdict::Rule;

/// Settings that say where something lies, and nothing about an answer.
const PLACES: [&str; 7] = ["images", "videos", "list", "root", "output", "reasoning", "cache"];

/// What is to be judged, how, and where the results go.
#[derive(Clone, Debug, Serialize, clap::Args)]
#[serde(rename_all = "kebab-case")]
#[command(group(clap::ArgGroup::new("what").required(true).args(["images", "videos", "list"])))]
pub struct Asked {
    /// A directory in Hugging Face layout.
    #[arg(long)]
    pub model: PathBuf,
    /// A folder of pictures.
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// A folder of videos, or of their pictures NAME_0.png (mosaic) to NAME_3.png (single frames).
    #[arg(long, value_name = "DIR")]
    pub videos: Option<PathBuf>,
    /// A text file, the path of a picture or video a line.
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// The folder that the list's paths are relative to; the current one when absent.
    #[arg(long, value_name = "DIR", requires = "list")]
    pub root: Option<PathBuf>,
    /// "path score" a line. FILE.failures gets what could not be judged, a JSON line {"path", "error"} each; FILE.progress
    /// (FILE.progress-I of share I) holds what is done until all is.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// JSON lines: {"path", "score", "aspects": [[…] a response], "texts": [a response]}.
    #[arg(long, value_name = "FILE")]
    pub reasoning: Option<PathBuf>,
    /// The question, instead of the published one; the words about the answer's form are added.
    #[arg(long)]
    pub question: Option<String>,
    /// Numbers the pictures before each ("Picture 1: "), as the published code does when it judges.
    #[arg(long)]
    pub add_vision_id: bool,
    /// Which of an answer's numbers is its score.
    #[arg(long, value_enum, default_value = "mean")]
    pub score: Rule,
    /// Responses of which the mean counts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub responses: u32,
    /// Softmax temperature; 0 is greedy.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f64,
    /// Length bound of a response, tokens.
    #[arg(long, default_value_t = 512)]
    pub max_new_tokens: usize,
    /// Names the draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Items judged together.
    #[arg(long, default_value = "8")]
    pub batch: NonZeroUsize,
    /// Least area of a resized picture, pixels; the model's own when absent.
    #[arg(long)]
    pub min_pixels: Option<u32>,
    /// Greatest area of a resized picture, pixels; the model's own when absent.
    #[arg(long)]
    pub max_pixels: Option<u32>,
    /// Shows the model a video itself, its frames in groups, instead of a mosaic and single frames.
    #[arg(long, conflicts_with_all = ["longest_side", "cache"])]
    pub native_video: bool,
    /// Frames a second of a video that is shown itself; the model's own when absent.
    #[arg(long, requires = "native_video")]
    pub fps: Option<f64>,
    /// The most frames of a video that is shown itself; the model's own when absent.
    #[arg(long, requires = "native_video", value_parser = clap::value_parser!(u32).range(2..))]
    pub max_frames: Option<u32>,
    /// The longest side of the pictures that are made of a video, pixels.
    #[arg(long)]
    pub longest_side: Option<u32>,
    /// A folder that keeps the pictures made of videos.
    #[arg(long)]
    pub cache: Option<PathBuf>,
    /// Compute type.
    #[arg(long, value_enum, default_value = "float32")]
    pub dtype: Dtype,
}

/// How the tools compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// f32 throughout.
    Float32,
    /// bf16 weights and activations.
    Bfloat16,
}

impl Asked {
    /// What is to be judged, in the order of the output.
    ///
    /// # Errors
    /// If the folder or list cannot be read, or holds nothing.
    pub fn items(&self) -> Result<Vec<Item>, Error> {
        match (&self.images, &self.videos, &self.list) {
            (Some(folder), ..) => listing::pictures(folder),
            (_, Some(folder), _) => listing::videos(folder),
            (_, _, Some(file)) => listing::list(file, self.root.as_deref().unwrap_or(Path::new(""))),
            _ => Err(Error::Input("nothing to judge: give --images, --videos or --list".into())),
        }
    }

    /// All that decides what an answer is.
    ///
    /// # Errors
    /// If there is no model, or a path is no UTF-8.
    pub fn how(&self) -> Result<Value, Error> {
        let model = fs::canonicalize(&self.model).map_err(|e| {
            Error::Input(format!("{}: {e}; expected a model's directory", self.model.display()))
        })?;
        let mut all = Self { model, ..self.clone() }.values()?;
        all.retain(|key, _| !PLACES.contains(&key.as_str()));
        Ok(Value::Object(all))
    }

    /// The same as arguments of `worker infer`, each a word `--key=value`.
    ///
    /// # Errors
    /// If a path is no UTF-8.
    pub fn arguments(&self) -> Result<Vec<String>, Error> {
        let word = |(key, value): (String, Value)| match value {
            Value::Null | Value::Bool(false) => None,
            Value::Bool(true) => Some(format!("--{key}")),
            Value::String(text) => Some(format!("--{key}={text}")),
            other => Some(format!("--{key}={other}")),
        };
        Ok(self.values()?.into_iter().filter_map(word).collect())
    }

    fn values(&self) -> Result<Map<String, Value>, Error> {
        match serde_json::to_value(self) {
            Ok(Value::Object(all)) => Ok(all),
            Ok(other) => Err(Error::Input(format!("settings are no mapping: {other}"))),
            Err(e) => Err(Error::Input(format!("a path among the arguments: {e}; expected UTF-8"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::line;

    fn of(words: &[&str]) -> Asked {
        let words = [&["--model", "/", "--output", "o"], words].concat();
        line(&words.into_iter().map(str::to_owned).collect::<Vec<_>>()).expect("arguments")
    }

    #[test]
    fn the_arguments_of_what_is_asked_ask_the_same() {
        for words in [
            &["--images", "a b"][..],
            &[
                "--list",
                "l",
                "--root",
                "r",
                "--question=-- it's \"so\"",
                "--dtype",
                "bfloat16",
                "--cache",
                "c",
            ],
            &[
                "--videos",
                "v",
                "--native-video",
                "--fps",
                "1.5",
                "--add-vision-id",
                "--score",
                "first",
                "--temperature",
                "0.7",
                "--max-pixels",
                "9",
                "--batch",
                "3",
            ],
        ] {
            let asked = of(words);
            let again = line(&asked.arguments().expect("UTF-8")).expect("arguments");
            assert_eq!(again.values(), asked.values(), "{words:?}");
        }
    }

    #[test]
    fn where_results_go_decides_no_answer_and_the_question_does() {
        let how = |words: &[&str]| of(words).how().expect("a model");
        assert_eq!(how(&["--images", "a"]), how(&["--images", "b", "--reasoning", "r"]));
        assert_ne!(how(&["--images", "a"]), how(&["--images", "a", "--question", "q"]));
        let absent = Asked { model: "/nowhere/at all".into(), ..of(&["--images", "a"]) };
        assert!(absent.how().is_err_and(|e| e.to_string().contains("expected a model's directory")));
    }

    #[test]
    fn no_responses_are_refused() {
        let words = ["--model=/", "--output=o", "--images=i", "--responses=0"].map(str::to_owned);
        assert!(line(&words).is_err());
    }
}

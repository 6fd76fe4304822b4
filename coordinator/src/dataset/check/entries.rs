//! A manifest's entries, and all that is wrong with their form.

use std::fs;
use std::path::{Path, PathBuf};

use data::{is_mos_text, is_video_name, reference_of};
use serde_json::Value;

use super::Finding;
use crate::failure::Failure;

/// An entry that could be read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    /// `line 7`, or `entry 7` of an array.
    pub(super) place: String,
    /// The same with the file's name, as findings begin.
    pub(super) at: String,
    /// The manifest.
    pub(super) manifest: PathBuf,
    /// None where it is a line of MOS text.
    pub(super) id: Option<String>,
    /// The folder that files are relative to.
    pub(super) folder: PathBuf,
    /// A picture, a video itself, or a video's pictures.
    pub(super) files: Vec<String>,
    pub(super) score: f64,
    /// The undistorted original; what stands before a line end narrows it to a folder.
    pub(super) reference: String,
}

impl Entry {
    /// The reference as splits count it.
    pub(super) fn plain_reference(&self) -> &str {
        self.reference.rsplit('\n').next().unwrap_or(&self.reference)
    }
}

/// What an entry says of itself.
#[derive(Debug, PartialEq)]
struct Said {
    id: Option<String>,
    files: Vec<String>,
    score: f64,
    reference: String,
}

/// Every entry of a manifest, JSON lines, an array or MOS text, and what is wrong with the others.
pub(super) fn read(manifest: &Path, folder: &Path) -> Result<(Vec<Entry>, Vec<Finding>), Failure> {
    let shown = manifest.display();
    let text = fs::read_to_string(manifest).map_err(|e| {
        Failure::input(format!(
            "{shown}: cannot be read: {e}; expected a manifest of JSON lines or an array, or MOS text"
        ))
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let array = text.trim_start().starts_with('[');
    let mos = is_mos_text(manifest, text.as_bytes());
    let lines = || text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let values: Vec<(usize, Result<Said, String>)> = if array {
        match serde_json::from_str::<Vec<Value>>(text) {
            Ok(values) => values.iter().map(|value| entry(value, true)).enumerate().collect(),
            Err(e) => vec![(e.line().saturating_sub(1), Err(format!("is no JSON array: {e}")))],
        }
    } else if mos {
        lines().map(|(index, line)| (index, label(line, index + 1))).collect()
    } else {
        let value = |line| serde_json::from_str(line).map_err(|e| format!("is no JSON object: {e}"));
        lines().map(|(index, line)| (index, value(line).and_then(|value| entry(&value, false)))).collect()
    };
    let (mut entries, mut findings) = (Vec::new(), Vec::new());
    for (index, value) in values {
        let (place, at) = match array {
            true => (format!("entry {}", index + 1), format!("{shown}: entry {}", index + 1)),
            false => (format!("line {}", index + 1), format!("{shown}:{}", index + 1)),
        };
        match value {
            Ok(Said { id, files, score, reference }) => {
                let (manifest, folder) = (manifest.to_owned(), folder.to_owned());
                entries.push(Entry { place, at, manifest, id, folder, files, score, reference });
            }
            Err(what) => findings.push(Finding { at, what }),
        }
    }
    if entries.is_empty() && findings.is_empty() {
        findings.push(Finding { at: shown.to_string(), what: "there is no entry in it".into() });
    }
    Ok((entries, findings))
}

/// A line of MOS text.
fn label(line: &str, number: usize) -> Result<Said, String> {
    let label = eval::parse_label(line, "", number).map_err(|e| {
        let said = e.to_string();
        said.strip_prefix(&format!(":{number}: ")).unwrap_or(&said).to_owned()
    })?;
    let stem = |name: &str| Path::new(name).with_extension("").to_string_lossy().to_lowercase();
    let reference = match &label.reference {
        Some(named) => stem(named),
        None => reference_of(&label.path, is_video_name(Path::new(&label.path))),
    };
    Ok(Said { id: None, files: vec![label.path], score: label.mos, reference })
}

/// An object of a manifest.
fn entry(value: &Value, array: bool) -> Result<Said, String> {
    let id = match &value["id"] {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return Err("has no id".into()),
    };
    let key = if value["image"].is_null() && !value["video"].is_null() { "video" } else { "image" };
    let files: Vec<String> = match &value[key] {
        Value::String(file) => vec![file.clone()],
        Value::Array(files) => {
            let names: Vec<String> =
                files.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
            if names.is_empty() || names.len() != files.len() {
                return Err(format!("\"{key}\" is {}, expected file names", value[key]));
            }
            names
        }
        _ => return Err("has no list of images under \"image\", nor a \"video\"".into()),
    };
    let turns = value["conversations"].as_array().ok_or("has no \"conversations\"")?;
    let turn = |from: &str| turns.iter().find(|turn| turn["from"] == from).map(|turn| &turn["value"]);
    if !turn("human").is_some_and(Value::is_string) {
        return Err("has no question (a turn from \"human\")".into());
    }
    let answer = turn("gpt").ok_or("has no score (a turn from \"gpt\")")?;
    let score = answer.as_f64().or_else(|| answer.as_str().and_then(|text| text.trim().parse().ok()));
    let score = score.ok_or_else(|| format!("its score is {answer}, expected a number"))?;
    let video = array || key == "video" || files.iter().any(|file| is_video_name(Path::new(file)));
    let reference = files.first().map(|file| reference_of(file, video)).unwrap_or_default();
    Ok(Said { id: Some(id), files, score, reference })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::{Said, entry, label, read};

    #[test]
    fn an_entry_that_is_not_the_published_format_is_told_what_it_lacks() {
        let turns = |gpt: Value| json!([{"from": "human", "value": "q"}, {"from": "gpt", "value": gpt}]);
        let good = json!({"id": 1, "image": ["a.png"], "conversations": turns(json!(3.5))});
        let said = |id: &str, file: &str, score, reference: &str| Said {
            id: Some(id.into()),
            files: vec![file.into()],
            score,
            reference: reference.into(),
        };
        assert_eq!(entry(&good, false), Ok(said("1", "a.png", 3.5, "a")));
        let video = json!({"id": "v", "video": "a.mp4", "conversations": turns(json!("2"))});
        assert_eq!(entry(&video, false), Ok(said("v", "a.mp4", 2.0, "a")));
        for (bad, says) in [
            (json!([]), "no id"),
            (json!({"id": 1}), "image"),
            (json!({"id": 1, "image": [3], "conversations": []}), "file names"),
            (json!({"id": 1, "image": ["a"], "conversations": []}), "question"),
            (json!({"id": 1, "image": ["a"], "conversations": turns(json!("good"))}), "number"),
        ] {
            let error = entry(&bad, false).expect_err("bad");
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn an_array_of_videos_is_read_and_a_broken_one_says_where() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("videos.json");
        let entry = r#"{"id": 7, "image": ["a_0.png", "a_1.png"], "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": 3}]}"#;
        std::fs::write(&file, format!("[{entry},\n {{}}]")).expect("written");
        let (entries, findings) = read(&file, Path::new("m")).expect("readable");
        assert!(
            entries[0].reference == "a" && entries[0].at.ends_with("videos.json: entry 1"),
            "{entries:?}"
        );
        assert!(findings[0].to_string().ends_with("videos.json: entry 2: has no id"), "{findings:?}");
        std::fs::write(&file, "[{]").expect("written");
        assert!(read(&file, Path::new("m")).expect("readable").1[0].what.contains("no JSON array"));
    }

    #[test]
    fn a_line_of_mos_text_is_an_entry_whose_reference_it_may_name() {
        let said = label("I01.png I01_10_03.png 3.5 0.2", 4).expect("a label");
        assert_eq!(
            (said.id, said.files, said.score, said.reference.as_str()),
            (None, vec!["I01_10_03.png".into()], 3.5, "i01")
        );
        assert_eq!(label("v/a.mp4, 3", 1).expect("a label").reference, "v/a");
        let wrong = label("a.png", 3).expect_err("no score");
        assert!(wrong.starts_with("1 columns in"), "{wrong}");
    }
}

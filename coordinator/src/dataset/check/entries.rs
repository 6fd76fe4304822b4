//! A manifest's entries, and all that is wrong with their form.

use std::fs;
use std::path::Path;

use data::is_video_name;
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
    pub(super) id: String,
    /// A picture, a video itself, or a video's pictures.
    pub(super) files: Vec<String>,
    pub(super) video: bool,
    pub(super) score: f64,
}

/// Every entry of a manifest, JSON lines or an array, and what is wrong with the others.
pub(super) fn read(manifest: &Path) -> Result<(Vec<Entry>, Vec<Finding>), Failure> {
    let shown = manifest.display();
    let text = fs::read_to_string(manifest).map_err(|e| {
        Failure::input(format!("{shown}: cannot be read: {e}; expected a manifest of JSON lines or an array"))
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let array = text.trim_start().starts_with('[');
    let values: Vec<(usize, Result<Value, String>)> = if array {
        match serde_json::from_str::<Vec<Value>>(text) {
            Ok(values) => values.into_iter().map(Ok).enumerate().collect(),
            Err(e) => vec![(e.line().saturating_sub(1), Err(format!("is no JSON array: {e}")))],
        }
    } else {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let value = |line| serde_json::from_str(line).map_err(|e| format!("is no JSON object: {e}"));
        lines.map(|(index, line)| (index, value(line))).collect()
    };
    let (mut entries, mut findings) = (Vec::new(), Vec::new());
    for (index, value) in values {
        let (place, at) = match array {
            true => (format!("entry {}", index + 1), format!("{shown}: entry {}", index + 1)),
            false => (format!("line {}", index + 1), format!("{shown}:{}", index + 1)),
        };
        match value.and_then(|value| entry(&value, array)) {
            Ok((id, files, video, score)) => entries.push(Entry { place, at, id, files, video, score }),
            Err(what) => findings.push(Finding { at, what }),
        }
    }
    if entries.is_empty() && findings.is_empty() {
        findings.push(Finding { at: shown.to_string(), what: "there is no entry in it".into() });
    }
    Ok((entries, findings))
}

/// Id, files, whether they are a video's, and score.
fn entry(value: &Value, array: bool) -> Result<(String, Vec<String>, bool, f64), String> {
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
    Ok((id, files, video, score))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{entry, read};

    #[test]
    fn an_entry_that_is_not_the_published_format_is_told_what_it_lacks() {
        let turns = |gpt: Value| json!([{"from": "human", "value": "q"}, {"from": "gpt", "value": gpt}]);
        let good = json!({"id": 1, "image": ["a.png"], "conversations": turns(json!(3.5))});
        assert_eq!(entry(&good, false), Ok(("1".into(), vec!["a.png".into()], false, 3.5)));
        let video = json!({"id": "v", "video": "a.mp4", "conversations": turns(json!("2"))});
        assert_eq!(entry(&video, false), Ok(("v".into(), vec!["a.mp4".into()], true, 2.0)));
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
        let (entries, findings) = read(&file).expect("readable");
        assert!(entries[0].video && entries[0].at.ends_with("videos.json: entry 1"), "{entries:?}");
        assert!(findings[0].to_string().ends_with("videos.json: entry 2: has no id"), "{findings:?}");
        std::fs::write(&file, "[{]").expect("written");
        assert!(read(&file).expect("readable").1[0].what.contains("no JSON array"));
    }
}

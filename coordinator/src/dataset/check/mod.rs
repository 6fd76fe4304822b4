//! `coordinator dataset check`: what is wrong with a manifest and its pictures, all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use serde_json::Value;

use super::parallel;
use crate::failure::Failure;
use crate::tell;

/// What to check.
#[derive(clap::Args)]
pub struct Args {
    /// JSON lines in the published image format.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The folder that the manifest's file names are relative to.
    #[arg(long, value_name = "DIR")]
    media: PathBuf,
    /// Manifests of the other splits: none may share a reference picture with this one.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    other: Vec<PathBuf>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// `manifest.jsonl:7`, or the manifest.
    at: String,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// A line that could be read.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    line: usize,
    id: String,
    images: Vec<String>,
    score: f64,
}

/// Checks a manifest; every finding is a line on stdout.
///
/// # Errors
/// Exit code 2 if anything is wrong: a broken line, a missing or unreadable picture, an id or picture named twice, a
/// score outside [1, 5], a reference picture that another split has too.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (entries, mut findings) = read(&args.manifest)?;
    let shown = args.manifest.display().to_string();
    findings.extend(duplicates(&shown, &entries));
    findings.extend(out_of_range(&shown, &entries));
    findings.extend(unreadable(&shown, &entries, &args.media)?);
    let own = references(&entries);
    for other in &args.other {
        let (entries, broken) = read(other)?;
        findings.extend(broken);
        findings.extend(leaks(&shown, &own, &other.display().to_string(), &references(&entries)));
    }
    for finding in &findings {
        tell::out(finding)?;
    }
    match findings.len() {
        0 => tell::out(format_args!(
            "{shown}: {} entries over {} references, nothing wrong",
            entries.len(),
            own.len()
        )),
        count => Err(Failure::input(format!(
            "{shown}: {count} findings in {} entries, listed above",
            entries.len()
        ))),
    }
}

fn read(manifest: &Path) -> Result<(Vec<Entry>, Vec<Finding>), Failure> {
    let shown = manifest.display();
    let text = fs::read_to_string(manifest).map_err(|e| {
        Failure::input(format!("{shown}: cannot be read: {e}; expected a manifest of JSON lines"))
    })?;
    let (mut entries, mut findings) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match entry(index + 1, line) {
            Ok(entry) => entries.push(entry),
            Err(what) => findings.push(Finding { at: format!("{shown}:{}", index + 1), what }),
        }
    }
    if entries.is_empty() && findings.is_empty() {
        findings.push(Finding { at: shown.to_string(), what: "there is no entry in it".into() });
    }
    Ok((entries, findings))
}

fn entry(line: usize, text: &str) -> Result<Entry, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("is no JSON object: {e}"))?;
    let id = match &value["id"] {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return Err("has no id".into()),
    };
    let image = value["image"].as_array().ok_or("has no list of images under \"image\"")?;
    let images: Vec<String> = image.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    if images.is_empty() || images.len() != image.len() {
        return Err(format!("\"image\" is {}, expected file names", value["image"]));
    }
    let turns = value["conversations"].as_array().ok_or("has no \"conversations\"")?;
    let turn = |from: &str| turns.iter().find(|turn| turn["from"] == from).map(|turn| &turn["value"]);
    if !turn("human").is_some_and(Value::is_string) {
        return Err("has no question (a turn from \"human\")".into());
    }
    let answer = turn("gpt").ok_or("has no score (a turn from \"gpt\")")?;
    let score = answer.as_f64().or_else(|| answer.as_str().and_then(|text| text.trim().parse().ok()));
    let score = score.ok_or_else(|| format!("its score is {answer}, expected a number"))?;
    Ok(Entry { line, id, images, score })
}

fn duplicates(shown: &str, entries: &[Entry]) -> Vec<Finding> {
    let (mut ids, mut images) = (BTreeMap::new(), BTreeMap::new());
    let mut findings = Vec::new();
    for entry in entries {
        let at = format!("{shown}:{}", entry.line);
        if let Some(line) = ids.insert(&entry.id, entry.line) {
            findings.push(Finding { at: at.clone(), what: format!("id {} is line {line}'s too", entry.id) });
        }
        if let Some(line) = images.insert(&entry.images, entry.line) {
            findings.push(Finding { at, what: format!("{} is line {line}'s too", entry.images.join(", ")) });
        }
    }
    findings
}

fn out_of_range(shown: &str, entries: &[Entry]) -> Vec<Finding> {
    let outside = entries.iter().filter(|entry| !(1.0..=5.0).contains(&entry.score));
    outside
        .map(|entry| Finding {
            at: format!("{shown}:{}", entry.line),
            what: format!("its score {} is outside [1, 5]", entry.score),
        })
        .collect()
}

fn unreadable(shown: &str, entries: &[Entry], media: &Path) -> Result<Vec<Finding>, Failure> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries {
        for image in &entry.images {
            first.entry(image).or_insert(entry.line);
        }
    }
    let pictures: Vec<(&str, usize)> = first.into_iter().collect();
    let threads = available_parallelism().map_or(1, usize::from);
    let found = parallel::map(threads, &pictures, |&(image, line)| {
        let path = media.join(image);
        let what = if path.is_file() {
            vision::decode(&path).err().map(|e| e.to_string())
        } else {
            Some(format!("{} is missing", path.display()))
        };
        Ok::<_, Failure>(what.map(|what| (line, what)))
    })?;
    let mut found: Vec<(usize, String)> = found.into_iter().flatten().collect();
    found.sort();
    Ok(found.into_iter().map(|(line, what)| Finding { at: format!("{shown}:{line}"), what }).collect())
}

/// The references of a manifest's pictures.
fn references(entries: &[Entry]) -> BTreeSet<String> {
    entries.iter().flat_map(|entry| &entry.images).map(|image| reference(image)).collect()
}

/// `I01_10_03.png` and `I01_10_03.c2.png` are of `i01`; a name without type and level is its own reference.
fn reference(image: &str) -> String {
    let stem =
        Path::new(image).file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let uncut = match stem.rsplit_once(".c") {
        Some((front, cut)) if number(cut) => front,
        _ => &stem,
    };
    let mut parts = uncut.rsplitn(3, '_');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(level), Some(kind), Some(front)) if number(level) && number(kind) && !front.is_empty() => {
            front.to_owned()
        }
        _ => stem,
    }
}

fn leaks(shown: &str, own: &BTreeSet<String>, other: &str, others: &BTreeSet<String>) -> Vec<Finding> {
    let shared = own.intersection(others);
    shared
        .map(|name| Finding {
            at: shown.to_owned(),
            what: format!("reference {name} is in {other} too: a leak between splits"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{entry, reference};

    #[test]
    fn references_follow_kadids_names() {
        for (image, expected) in [
            ("I01_10_03.png", "i01"),
            ("a/I01_10_03.c2.png", "i01"),
            ("i01_01_1.bmp", "i01"),
            ("10004473376.jpg", "10004473376"),
            ("my_photo.png", "my_photo"),
            ("_1_2.png", "_1_2"),
            ("scene.v2.png", "scene.v2"),
        ] {
            assert_eq!(reference(image), expected, "{image}");
        }
    }

    #[test]
    fn a_line_that_is_not_the_published_format_is_told_what_it_lacks() {
        let good = r#"{"id": 1, "image": ["a.png"], "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": 3.5}]}"#;
        assert_eq!(entry(1, good).expect("good").score, 3.5);
        for (bad, says) in [
            ("{", "no JSON"),
            ("[]", "no id"),
            (r#"{"id": 1}"#, "image"),
            (r#"{"id": 1, "image": [3], "conversations": []}"#, "file names"),
            (r#"{"id": 1, "image": ["a"], "conversations": []}"#, "question"),
            (
                r#"{"id": 1, "image": ["a"], "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "good"}]}"#,
                "number",
            ),
        ] {
            let error = entry(1, bad).expect_err(bad);
            assert!(error.contains(says), "{error}");
        }
    }
}

//! `coordinator dataset check`: what is wrong with manifests and their pictures and videos, all of it.

mod entries;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use data::{is_video_name, ready_made};
use settings::DataSource;
use vision::{VideoOptions, decode, video_pictures};

use self::entries::{Entry, read};
use super::parallel;
use crate::failure::Failure;
use crate::tell;

/// What to check.
#[derive(clap::Args)]
pub struct Args {
    /// JSON lines (pictures) or a JSON array (videos) in the published format; several files joined by ":".
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The folder that the manifest's file names are relative to; as many as files, joined by ":".
    #[arg(long, value_name = "DIR")]
    media: PathBuf,
    /// Manifests of the other splits: none may share a reference picture or a video with this one.
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

/// Checks a manifest; every finding is a line on stdout.
///
/// # Errors
/// Exit code 2 if anything is wrong: a broken entry, a missing or unreadable picture or video, one that is cut off or
/// damaged, an id or picture named twice, a score outside [1, 5], a reference picture that another split has too.
pub fn run(args: &Args) -> Result<(), Failure> {
    let manifests = DataSource::split(&args.manifest);
    let folders = DataSource::split(&args.media);
    if manifests.len() != folders.len() {
        return Err(Failure::input(format!(
            "--manifest joins {} files and --media {} folders; expected as many",
            manifests.len(),
            folders.len()
        )));
    }
    let (mut findings, mut own, mut count) = (Vec::new(), BTreeSet::new(), 0);
    for (manifest, media) in manifests.iter().zip(&folders) {
        let (entries, broken) = read(manifest)?;
        findings.extend(broken);
        findings.extend(duplicates(&entries));
        findings.extend(out_of_range(&entries));
        findings.extend(unreadable(&entries, media)?);
        own.extend(references(&entries));
        count += entries.len();
    }
    let shown = args.manifest.display().to_string();
    for other in args.other.iter().flat_map(|other| DataSource::split(other)) {
        let (entries, broken) = read(&other)?;
        findings.extend(broken);
        findings.extend(leaks(&shown, &own, &other.display().to_string(), &references(&entries)));
    }
    for finding in &findings {
        tell::out(finding)?;
    }
    match findings.len() {
        0 => tell::out(format_args!("{shown}: {count} entries over {} references, nothing wrong", own.len())),
        found => Err(Failure::input(format!("{shown}: {found} findings in {count} entries, listed above"))),
    }
}

fn duplicates(entries: &[Entry]) -> Vec<Finding> {
    let (mut ids, mut files) = (BTreeMap::new(), BTreeMap::new());
    let mut findings = Vec::new();
    for entry in entries {
        let mut twice = |what: String, first: Option<&str>| {
            let finding = |first| Finding { at: entry.at.clone(), what: format!("{what} is {first}'s too") };
            findings.extend(first.map(finding));
        };
        twice(format!("id {}", entry.id), ids.insert(&entry.id, entry.place.as_str()));
        twice(entry.files.join(", "), files.insert(&entry.files, entry.place.as_str()));
    }
    findings
}

fn out_of_range(entries: &[Entry]) -> Vec<Finding> {
    let outside = entries.iter().filter(|entry| !(1.0..=5.0).contains(&entry.score));
    let finding = |entry: &Entry| Finding {
        at: entry.at.clone(),
        what: format!("its score {} is outside [1, 5]", entry.score),
    };
    outside.map(finding).collect()
}

fn unreadable(entries: &[Entry], media: &Path) -> Result<Vec<Finding>, Failure> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, entry) in entries.iter().enumerate() {
        for file in &entry.files {
            first.entry(file).or_insert(number);
        }
    }
    let files: Vec<(&str, usize)> = first.into_iter().collect();
    let threads = available_parallelism().map_or(1, usize::from);
    let found = parallel::map(threads, &files, |&(file, number)| {
        let wrong = faults(&media.join(file));
        Ok::<_, Failure>(wrong.into_iter().map(|what| (number, what)).collect::<Vec<_>>())
    })?;
    let mut found: Vec<(usize, String)> = found.into_iter().flatten().collect();
    found.sort();
    Ok(found.into_iter().map(|(number, what)| Finding { at: entries[number].at.clone(), what }).collect())
}

/// What is wrong with a picture's or video's file; a video that is not there is its ready-made pictures.
fn faults(path: &Path) -> Vec<String> {
    if is_video_name(path) {
        match ready_made(path) {
            _ if path.is_file() => match video_pictures(path, &VideoOptions::default()) {
                Ok(made) => {
                    made.about.notes.iter().map(|note| format!("{}: {note}", path.display())).collect()
                }
                Err(error) => vec![error.to_string()],
            },
            Some(pictures) => pictures.iter().flat_map(|picture| faults(picture)).collect(),
            None => vec![format!("{} is missing, and so are pictures of it (_0.png)", path.display())],
        }
    } else if path.is_file() {
        decode(path).err().map(|error| error.to_string()).into_iter().collect()
    } else {
        vec![format!("{} is missing", path.display())]
    }
}

/// The references of a manifest's pictures.
fn references(entries: &[Entry]) -> BTreeSet<String> {
    let of = |entry: &Entry| -> Vec<String> {
        if entry.video {
            entry.files.iter().take(1).map(|file| video(file)).collect()
        } else {
            entry.files.iter().map(|file| reference(file)).collect()
        }
    };
    entries.iter().flat_map(of).collect()
}

/// `v/a.mp4` and its mosaic `v/a_0.png` are of `v/a`.
fn video(file: &str) -> String {
    let stem = Path::new(file).with_extension("").to_string_lossy().to_lowercase();
    match stem.strip_suffix("_0") {
        Some(video) if !is_video_name(Path::new(file)) => video.to_owned(),
        _ => stem,
    }
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
    use super::{reference, video};

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
    fn a_video_and_its_mosaic_are_one() {
        for (file, expected) in
            [("v/A_1_2.mp4", "v/a_1_2"), ("v/A_1_2_0.png", "v/a_1_2"), ("v/a_0.mp4", "v/a_0")]
        {
            assert_eq!(video(file), expected, "{file}");
        }
    }
}

//! What files hold: whether they can be read, and whether two of them hold the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::available_parallelism;

use data::{is_video_name, ready_made};
use sha2::{Digest, Sha256};
use vision::{VideoOptions, decode, video_pictures};

use super::Finding;
use super::listing::Listing;
use crate::dataset::parallel;
use crate::failure::Failure;

/// What was found out about a listing's files.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) faults: Vec<Finding>,
    /// Per entry, what its first file holds; none where it cannot be read.
    contents: Vec<Option<[u8; 32]>>,
}

/// One file: what is wrong with it, and a hash of what it holds.
#[derive(Default)]
struct Seen {
    faults: Vec<String>,
    content: Option<[u8; 32]>,
}

/// Reads every file of a listing.
pub(super) fn look(listing: &Listing) -> Result<Looked, Failure> {
    let mut first: BTreeMap<(&Path, &str), usize> = BTreeMap::new();
    for (number, entry) in listing.entries.iter().enumerate() {
        for file in &entry.files {
            first.entry((&entry.folder, file)).or_insert(number);
        }
    }
    let files: Vec<((&Path, &str), usize)> = first.into_iter().collect();
    let threads = available_parallelism().map_or(1, usize::from);
    let seen = parallel::map(threads, &files, |((folder, file), _)| {
        Ok::<_, Failure>(see(&folder.join(file), listing.checked))
    })?;
    let mut faults: Vec<(usize, String)> = Vec::new();
    let mut by_file = BTreeMap::new();
    for ((key, number), seen) in files.iter().zip(seen) {
        faults.extend(seen.faults.into_iter().map(|what| (*number, what)));
        by_file.insert(*key, seen.content);
    }
    faults.sort();
    let content = |entry: &super::entries::Entry| {
        by_file.get(&(entry.folder.as_path(), entry.files.first()?.as_str())).copied().flatten()
    };
    Ok(Looked {
        contents: listing.entries.iter().map(content).collect(),
        faults: faults
            .into_iter()
            .map(|(number, what)| Finding { at: listing.entries[number].at.clone(), what })
            .collect(),
    })
}

/// What a picture's or video's file holds; a video that is not there is its ready-made pictures. Frames are decoded
/// where the file is `checked`, not only compared.
fn see(path: &Path, checked: bool) -> Seen {
    if is_video_name(path) {
        if !path.is_file() {
            return match ready_made(path) {
                Some(pictures) => {
                    let all: Vec<Seen> = pictures.iter().map(|picture| see_picture(picture)).collect();
                    let content = all.first().and_then(|seen| seen.content);
                    Seen { content, faults: all.into_iter().flat_map(|seen| seen.faults).collect() }
                }
                None => fault(format!("{} is missing, and so are pictures of it (_0.png)", path.display())),
            };
        }
        let content = std::fs::read(path).ok().map(|bytes| Sha256::digest(bytes).into());
        let faults = match checked.then(|| video_pictures(path, &VideoOptions::default())) {
            None => Vec::new(),
            Some(Ok(made)) => {
                made.about.notes.iter().map(|note| format!("{}: {note}", path.display())).collect()
            }
            Some(Err(error)) => vec![error.to_string()],
        };
        Seen { faults, content }
    } else {
        see_picture(path)
    }
}

/// The same pixels are the same picture, whatever the file format.
fn see_picture(path: &Path) -> Seen {
    if !path.is_file() {
        return fault(format!("{} is missing", path.display()));
    }
    match decode(path) {
        Err(error) => fault(error.to_string()),
        Ok(picture) => {
            let mut hash = Sha256::new();
            hash.update((picture.width() as u64).to_le_bytes());
            hash.update(picture.data());
            Seen { faults: Vec::new(), content: Some(hash.finalize().into()) }
        }
    }
}

fn fault(what: String) -> Seen {
    Seen { faults: vec![what], content: None }
}

/// Entries that hold what an earlier one of another name holds.
pub(super) fn repeated(listing: &Listing, looked: &Looked) -> Vec<Finding> {
    let mut first = BTreeMap::new();
    let mut findings = Vec::new();
    for (entry, content) in listing.entries.iter().zip(&looked.contents) {
        let Some(content) = content else { continue };
        match first.get(content) {
            None => {
                first.insert(content, entry);
            }
            Some(earlier) if (&earlier.folder, &earlier.files) != (&entry.folder, &entry.files) => {
                findings.push(Finding {
                    at: entry.at.clone(),
                    what: format!(
                        "{} holds what {}'s {} holds",
                        entry.files[0], earlier.place, earlier.files[0]
                    ),
                });
            }
            // The same file named twice is said so already.
            Some(_) => {}
        }
    }
    findings
}

/// Entries of one split that hold what an entry of another holds, where their references do not tell already.
pub(super) fn leaks(one: (&Listing, &Looked), other: (&Listing, &Looked)) -> Vec<Finding> {
    let held: BTreeMap<[u8; 32], &super::entries::Entry> = other
        .0
        .entries
        .iter()
        .zip(&other.1.contents)
        .filter_map(|(entry, content)| Some(((*content)?, entry)))
        .collect();
    let shared = one.0.entries.iter().zip(&one.1.contents).filter_map(|(entry, content)| {
        let twin = held.get(&(*content)?)?;
        (twin.reference != entry.reference).then(|| Finding {
            at: entry.at.clone(),
            what: format!(
                "{} holds what {} of {} holds: a leak between splits",
                entry.files[0], twin.files[0], other.0.name
            ),
        })
    });
    shared.collect()
}

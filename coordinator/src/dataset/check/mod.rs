//! `coordinator dataset check`: what is wrong with manifests and their pictures and videos, all of it.

mod content;
mod entries;
mod listing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use settings::DataSource;

use self::content::Looked;
use self::listing::{Listing, Read, of_manifests, of_recipe};
use crate::failure::Failure;
use crate::tell;

/// What to check.
#[derive(clap::Args)]
pub struct Args {
    /// JSON lines (pictures) or a JSON array (videos) in the published format, or a MOS text file; several files
    /// joined by ":".
    #[arg(long, value_name = "FILE", required_unless_present = "recipe")]
    manifest: Option<PathBuf>,
    /// The folder that the manifest's file names are relative to; as many as files, joined by ":".
    #[arg(long, value_name = "DIR", required_unless_present = "recipe")]
    media: Option<PathBuf>,
    /// Manifests of the other splits: none may share a reference, a picture or a video with this one.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    other: Vec<PathBuf>,
    /// The folder of the other splits' files; --media's (first) where it is not given.
    #[arg(long, value_name = "DIR")]
    other_media: Option<PathBuf>,
    /// Checks every list of every stage of this recipe instead: train, validation and test share nothing.
    #[arg(long, value_name = "RUN.yaml", conflicts_with_all = ["manifest", "media", "other"])]
    recipe: Option<PathBuf>,
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

/// Checks a manifest, or a recipe's; every finding is a line on stdout.
///
/// # Errors
/// Exit code 2 if anything is wrong: a broken entry, a missing or unreadable picture or video, one that is cut off or
/// damaged, an id or picture named twice, a picture that is another's under a new name, a score outside [1, 5], a
/// reference or picture that another split has too.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (shown, groups) = match (&args.recipe, &args.manifest, &args.media) {
        (Some(recipe), ..) => (recipe.display().to_string(), of_recipe(recipe)?),
        (None, Some(manifest), Some(media)) => {
            let other = args.other_media.clone().or_else(|| DataSource::split(media).into_iter().next());
            let read = of_manifests(manifest, media, &args.other, &other.unwrap_or_default())?;
            (manifest.display().to_string(), vec![read])
        }
        _ => return Err(Failure::input("give --manifest FILE and --media DIR, or --recipe RUN.yaml")),
    };
    let (mut findings, mut entries, mut references) = (Vec::new(), 0, BTreeSet::new());
    for Read { listings, broken } in groups {
        findings.extend(broken);
        findings.extend(of_group(&listings)?);
        for listing in listings.iter().filter(|listing| listing.checked) {
            entries += listing.entries.len();
            references.extend(listing.entries.iter().map(|entry| entry.reference.clone()));
        }
    }
    for finding in &findings {
        tell::out(finding)?;
    }
    match findings.len() {
        0 => tell::out(format_args!(
            "{shown}: {entries} entries over {} references, nothing wrong",
            references.len()
        )),
        found => Err(Failure::input(format!("{shown}: {found} findings in {entries} entries, listed above"))),
    }
}

/// Lists that may share nothing.
fn of_group(listings: &[Listing]) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let looked: Vec<Looked> = listings.iter().map(content::look).collect::<Result<_, _>>()?;
    for (listing, looked) in listings.iter().zip(&looked).filter(|(listing, _)| listing.checked) {
        findings.extend(duplicates(listing));
        findings.extend(out_of_range(listing));
        findings.extend(looked.faults.iter().cloned());
        findings.extend(content::repeated(listing, looked));
    }
    for (i, one) in listings.iter().enumerate() {
        for (j, other) in listings.iter().enumerate().skip(i + 1).filter(|_| one.checked) {
            findings.extend(leaks(one, other));
            findings.extend(content::leaks((one, &looked[i]), (other, &looked[j])));
        }
    }
    Ok(findings)
}

fn duplicates(listing: &Listing) -> Vec<Finding> {
    let (mut ids, mut files) = (BTreeMap::new(), BTreeMap::new());
    let mut findings = Vec::new();
    for entry in &listing.entries {
        let mut twice = |what: String, first: Option<&str>| {
            let finding = |first| Finding { at: entry.at.clone(), what: format!("{what} is {first}'s too") };
            findings.extend(first.map(finding));
        };
        let name = |id: &String| (&entry.manifest, id.clone());
        if let Some(id) = &entry.id {
            twice(format!("id {id}"), ids.insert(name(id), entry.place.as_str()));
        }
        twice(entry.files.join(", "), files.insert((&entry.folder, &entry.files), entry.place.as_str()));
    }
    findings
}

fn out_of_range(listing: &Listing) -> Vec<Finding> {
    let outside = listing.entries.iter().filter(|entry| !(1.0..=5.0).contains(&entry.score));
    let finding = |entry: &entries::Entry| Finding {
        at: entry.at.clone(),
        what: format!("its score {} is outside [1, 5]", entry.score),
    };
    outside.map(finding).collect()
}

fn leaks(one: &Listing, other: &Listing) -> Vec<Finding> {
    let of = |listing: &Listing| -> BTreeSet<String> {
        listing.entries.iter().map(|entry| entry.reference.clone()).collect()
    };
    of(one)
        .intersection(&of(other))
        .map(|name| Finding {
            at: one.name.clone(),
            what: format!(
                "reference {} is in {} too: a leak between splits",
                name.rsplit('\n').next().unwrap_or(name),
                other.name
            ),
        })
        .collect()
}

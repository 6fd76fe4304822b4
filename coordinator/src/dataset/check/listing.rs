//! Which entries are looked at together: a manifest and the other splits, or a stage's three lists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use data::{Part, split_references};
use settings::DataSource;

use super::Finding;
use super::entries::{Entry, read};
use crate::failure::Failure;

/// One split.
#[derive(Debug)]
pub(super) struct Listing {
    /// As findings name it.
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
    /// All of it is checked; else only what it shares with others.
    pub(super) checked: bool,
}

/// Splits that may share nothing, and the entries that could not be read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) listings: Vec<Listing>,
    pub(super) broken: Vec<Finding>,
}

/// A manifest, and manifests of other splits.
pub(super) fn of_manifests(
    manifest: &Path,
    media: &Path,
    others: &[PathBuf],
    other_media: &Path,
) -> Result<Read, Failure> {
    let (manifests, folders) = (DataSource::split(manifest), DataSource::split(media));
    if manifests.len() != folders.len() {
        return Err(Failure::input(format!(
            "--manifest joins {} files and --media {} folders; expected as many",
            manifests.len(),
            folders.len()
        )));
    }
    let (mut all, mut own) = (Read::default(), Vec::new());
    for (manifest, media) in manifests.iter().zip(&folders) {
        let (entries, broken) = read(manifest, media)?;
        own.extend(entries);
        all.broken.extend(broken);
    }
    all.listings.push(Listing { name: manifest.display().to_string(), entries: own, checked: true });
    for other in others.iter().flat_map(|other| DataSource::split(other)) {
        let (entries, broken) = read(&other, other_media)?;
        all.broken.extend(broken);
        all.listings.push(Listing { name: other.display().to_string(), entries, checked: false });
    }
    Ok(all)
}

/// The lists of every stage, each set of lists once.
pub(super) fn of_recipe(recipe: &Path) -> Result<Vec<Read>, Failure> {
    let run = settings::load_run(recipe, &[]).map_err(Failure::input)?;
    let (mut seen, mut groups) = (BTreeSet::new(), Vec::new());
    for stage in &run.stages {
        let lists = [&stage.data.train, &stage.data.validation, &stage.data.test];
        if !seen.insert(format!("{lists:?}")) {
            continue;
        }
        let mut all = Read::default();
        for (part, sources) in Part::ALL.into_iter().zip(lists) {
            let mut entries = Vec::new();
            for source in sources {
                let (own, broken) = of_source(source, part)?;
                entries.extend(own);
                all.broken.extend(broken);
            }
            let name = format!("stage {}, {}", stage.name, part.name());
            all.listings.push(Listing { name, entries, checked: true });
        }
        groups.push(all);
    }
    Ok(groups)
}

/// A source as a recipe's list has it: its scale brought to [1, 5], its part by reference.
fn of_source(source: &DataSource, part: Part) -> Result<(Vec<Entry>, Vec<Finding>), Failure> {
    let (mut entries, mut broken) = (Vec::new(), Vec::new());
    for (manifest, media) in source.pairs() {
        let (mut own, wrong) = read(&manifest, &media)?;
        let ends = own.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), e| {
            (least.min(e.score), greatest.max(e.score))
        });
        let ends =
            source.range.map(|[least, greatest]| (least, greatest)).or(source.found_range.then_some(ends));
        if let Some((least, greatest)) = ends.filter(|(least, greatest)| least < greatest) {
            own.iter_mut().for_each(|e| e.score = (e.score - least) / (greatest - least) * 4.0 + 1.0);
        }
        // Two data sets may both have a picture called I01: references count within their folder.
        own.iter_mut().for_each(|e| e.reference = format!("{}\n{}", media.display(), e.reference));
        entries.extend(own);
        // Three lists may read one file: its broken lines are said once, where it is trained on.
        broken.extend(wrong.into_iter().filter(|_| source.split.is_none() || part == Part::Train));
    }
    if let Some(shares) = source.split {
        let references: BTreeSet<String> = entries.iter().map(|e| e.plain_reference().to_owned()).collect();
        let parts = split_references(&references, shares, source.split_seed);
        entries.retain(|e| parts.get(e.plain_reference()) == Some(&part));
    }
    Ok((entries, broken))
}

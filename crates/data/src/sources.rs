//! A recipe's data sets to samples: files read, scales brought to [1, 5], parts taken by reference.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use settings::DataSource;

use crate::error::Error;
use crate::manifest::{inside, make_unique, parse};
use crate::reference::reference_of;
use crate::sample::{Distortion, Media, Sample};
use crate::split::{Part, split_references};
use crate::video::is_video_name;

/// A line of a MOS text file.
#[derive(Clone, Debug, PartialEq)]
pub struct TextLabel {
    /// Relative to the media folder.
    pub path: String,
    /// The undistorted original, where the file names it.
    pub reference: Option<String>,
    /// Mean opinion score, in the file's own range.
    pub mos: f64,
}

/// Reads the text of a MOS file; its second argument names the file in messages. (The formats are `eval`'s.)
pub type ReadText = fn(&str, &str) -> Result<Vec<TextLabel>, String>;

/// Whether a label file is MOS text and no manifest: by its name, and by what it begins with.
#[must_use]
pub fn is_mos_text(path: &Path, bytes: &[u8]) -> bool {
    let begins = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start().first();
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    !matches!(begins, Some(b'{' | b'[')) && !matches!(extension.as_deref(), Some("json" | "jsonl"))
}

/// Reads every source's label files, in order, as the recipe's list `part` has them; ids are unique over all.
///
/// # Errors
/// If a file cannot be read or has a broken entry: the first one, with file and line. If a scale or a split leaves
/// nothing to use.
pub fn read_sources(sources: &[DataSource], part: Part, text: ReadText) -> Result<Vec<Sample>, Error> {
    let mut samples = Vec::new();
    for source in sources {
        samples.extend(read_source(source, part, text)?);
    }
    make_unique(&mut samples);
    Ok(samples)
}

fn read_source(source: &DataSource, part: Part, text: ReadText) -> Result<Vec<Sample>, Error> {
    let pairs = source.pairs();
    let joined = pairs.len() > 1;
    let mut samples = Vec::new();
    for (i, (path, media)) in pairs.iter().enumerate() {
        let bytes = std::fs::read(path).map_err(|e| Error::Read { path: path.clone(), source: e })?;
        let dataset = |entry: Option<&str>| match (joined, entry) {
            (false, _) => source.name.clone(),
            (true, Some(name)) => format!("{}/{name}", source.name),
            (true, None) => format!("{}/{}", source.name, i + 1),
        };
        let file = path.display().to_string();
        let mut read = match is_mos_text(path, &bytes) {
            true => of_text(&file, &bytes, media, &dataset(None), text)?,
            false => parse(&file, &bytes, media, dataset)?,
        };
        rescale(&mut read, source, &file)?;
        samples.extend(read);
    }
    take_part(samples, source, part)
}

fn of_text(
    file: &str,
    bytes: &[u8],
    media: &Path,
    dataset: &str,
    read: ReadText,
) -> Result<Vec<Sample>, Error> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Error::Text(format!("{file}: not UTF-8 text after byte {}", e.valid_up_to())))?;
    let sample = |label: TextLabel| {
        let path = inside("path", &label.path).map_err(|reason| Error::Text(format!("{file}: {reason}")))?;
        Ok(labelled(dataset, media, path, label))
    };
    read(text, file).map_err(Error::Text)?.into_iter().map(sample).collect()
}

fn labelled(dataset: &str, folder: &Path, path: PathBuf, label: TextLabel) -> Sample {
    let video = is_video_name(&path);
    let stem = |name: &str| Path::new(name).with_extension("").to_string_lossy().to_lowercase();
    Sample {
        id: format!("{dataset}/{}", path.with_extension("").display()),
        dataset: dataset.into(),
        media: if video { Media::Video } else { Media::Image },
        question: String::new(),
        mos: label.mos,
        reference: match label.reference {
            Some(named) => stem(&named),
            None => reference_of(&path.to_string_lossy(), video),
        },
        distortion: if video { None } else { Distortion::of(&path) },
        images: vec![folder.join(path)],
    }
}

/// `(mos − least) / (greatest − least) · 4 + 1`, docs/method.md section 1.
fn rescale(samples: &mut [Sample], source: &DataSource, file: &str) -> Result<(), Error> {
    let ends = match (source.range, source.found_range) {
        (Some([least, greatest]), _) => (least, greatest),
        (None, true) => samples.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), s| {
            (least.min(s.mos), greatest.max(s.mos))
        }),
        (None, false) => return Ok(()),
    };
    let (least, greatest) = ends;
    if least >= greatest {
        return Err(Error::Text(format!(
            "{file}: every MOS is {least}; expected different ones where found_range is true, or give range"
        )));
    }
    for sample in samples {
        sample.mos = (sample.mos - least) / (greatest - least) * 4.0 + 1.0;
    }
    Ok(())
}

fn take_part(samples: Vec<Sample>, source: &DataSource, part: Part) -> Result<Vec<Sample>, Error> {
    let Some(shares) = source.split else { return Ok(samples) };
    let references: BTreeSet<String> = samples.iter().map(|s| s.reference.clone()).collect();
    let count = references.len();
    let parts = split_references(&references, shares, source.split_seed);
    let taken: Vec<Sample> = samples.into_iter().filter(|s| parts.get(&s.reference) == Some(&part)).collect();
    if taken.is_empty() {
        return Err(Error::Text(format!(
            "{}: split {shares:?} of {count} references leaves none for {}; expected a share for the list that \
             names the source",
            source.name,
            part.name()
        )));
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"id": 1, "dataset_name": "KADID-10K", "image": ["I01_01_01.png"], "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": 4.5}]}"#;

    fn text(text: &str, file: &str) -> Result<Vec<TextLabel>, String> {
        let label = |line: &str| {
            let columns: Vec<&str> = line.split(' ').collect();
            let [reference, path, mos] = columns[..] else { return Err(format!("{file}: {line}")) };
            let reference = (reference != "-").then(|| reference.to_owned());
            Ok(TextLabel { path: path.into(), reference, mos: mos.parse().expect("a number") })
        };
        text.lines().map(label).collect()
    }

    fn source(folder: &Path, files: &[&str], media: &str) -> DataSource {
        let joined: Vec<String> = files.iter().map(|file| folder.join(file).display().to_string()).collect();
        DataSource {
            name: "all".into(),
            manifest: joined.join(":").into(),
            media: media.into(),
            range: None,
            found_range: false,
            split: None,
            split_seed: 0,
            declared: None,
        }
    }

    fn write(folder: &Path, name: &str, text: &str) {
        std::fs::write(folder.join(name), text).expect("written");
    }

    #[test]
    fn joined_manifests_are_data_sets_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "a.jsonl", LINE);
        write(folder.path(), "b.jsonl", &LINE.replace("\"dataset_name\": \"KADID-10K\", ", ""));
        let joined = source(folder.path(), &["a.jsonl", "b.jsonl"], "x:y");
        let samples = read_sources(&[joined], Part::Train, text).expect("good files");
        let seen: Vec<_> = samples.iter().map(|s| (s.dataset.as_str(), s.images[0].to_str())).collect();
        assert_eq!(seen, [("all/KADID-10K", Some("x/I01_01_01.png")), ("all/2", Some("y/I01_01_01.png"))]);
        let absent = source(Path::new(""), &["no.jsonl"], "x");
        let said = read_sources(&[absent], Part::Train, text).expect_err("absent").to_string();
        assert!(said.starts_with("no.jsonl: ") && said.ends_with("expected a readable label file"), "{said}");
    }

    #[test]
    fn a_mos_text_file_trains_too_beside_a_manifest() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "mos.txt", "I01.png I01_10_03.png 3.5\n- v/a.mp4 2\n");
        write(folder.path(), "a.jsonl", LINE);
        let joined = source(folder.path(), &["mos.txt", "a.jsonl"], "x:y");
        let samples = read_sources(&[joined], Part::Train, text).expect("good files");
        let seen: Vec<_> = samples
            .iter()
            .map(|s| (s.id.as_str(), s.dataset.as_str(), s.media, s.reference.as_str(), s.mos))
            .collect();
        assert_eq!(
            seen,
            [
                ("all/1/I01_10_03", "all/1", Media::Image, "i01", 3.5),
                ("all/1/v/a", "all/1", Media::Video, "v/a", 2.0),
                ("all/KADID-10K/I01_01_01", "all/KADID-10K", Media::Image, "i01", 4.5)
            ]
        );
        write(folder.path(), "mos.txt", "- ../a.png 3\n");
        let said = read_sources(&[source(folder.path(), &["mos.txt"], "x")], Part::Train, text);
        assert!(said.expect_err("outside").to_string().contains("leaves the media folder"));
    }

    #[test]
    fn a_scale_given_or_found_becomes_one_to_five() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "mos.txt", "- a.png 20\n- b.png 60\n- c.png 100\n");
        let plain = source(folder.path(), &["mos.txt"], "x");
        let scores = |source: DataSource| {
            let samples = read_sources(&[source], Part::Train, text).expect("good files");
            samples.iter().map(|s| s.mos).collect::<Vec<_>>()
        };
        assert_eq!(scores(plain.clone()), [20.0, 60.0, 100.0]);
        assert_eq!(scores(DataSource { range: Some([0.0, 100.0]), ..plain.clone() }), [1.8, 3.4, 5.0]);
        assert_eq!(scores(DataSource { found_range: true, ..plain.clone() }), [1.0, 3.0, 5.0]);
        write(folder.path(), "mos.txt", "- a.png 2\n- b.png 2\n");
        let said = read_sources(&[DataSource { found_range: true, ..plain }], Part::Train, text);
        assert!(said.expect_err("flat").to_string().contains("every MOS is 2; expected different ones"));
    }

    #[test]
    fn lists_that_name_one_source_share_no_reference_and_leave_no_sample_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = |i: usize| format!("- I{:02}_01_{:02}.png {}\n", i / 5, i % 5 + 1, i % 5 + 1);
        write(folder.path(), "mos.txt", &(0..50).map(line).collect::<String>());
        let split = DataSource { split: Some([60, 20, 20]), ..source(folder.path(), &["mos.txt"], "x") };
        let parts =
            Part::ALL.map(|part| read_sources(std::slice::from_ref(&split), part, text).expect("a part"));
        assert_eq!(parts.each_ref().map(Vec::len), [30, 10, 10]);
        let references =
            parts.each_ref().map(|part| part.iter().map(|s| s.reference.clone()).collect::<BTreeSet<_>>());
        assert!(references[0].is_disjoint(&references[1]) && references[0].is_disjoint(&references[2]));
        assert!(references[1].is_disjoint(&references[2]));
        let none = DataSource { split: Some([1, 0, 1]), ..split };
        let said = read_sources(&[none], Part::Validation, text).expect_err("none").to_string();
        assert!(said.contains("leaves none for validation"), "{said}");
    }
}

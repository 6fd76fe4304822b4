//! Label files: JSON lines of pictures, or a JSON array of videos (docs/method.md section 7).

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::error::Error;
use crate::reference::reference_of;
use crate::sample::{Distortion, Media, Sample};
use crate::video::{VIDEO_PICTURES, is_video_name};

/// The samples of one manifest's bytes; `file` is its name in messages, `media` the folder of its pictures.
///
/// # Errors
/// On the first broken entry: `train.jsonl:7: …` with what was expected.
pub fn parse_manifest(file: &str, bytes: &[u8], media: &Path, dataset: &str) -> Result<Vec<Sample>, Error> {
    let mut samples = parse(file, bytes, media, |_| dataset.into())?;
    make_unique(&mut samples);
    Ok(samples)
}

pub(crate) fn parse(
    file: &str,
    bytes: &[u8],
    media: &Path,
    dataset: impl Fn(Option<&str>) -> String,
) -> Result<Vec<Sample>, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let broken = |place: String, reason: String| Error::Entry { place, reason };
    let is_array = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let mut samples = Vec::new();
    if is_array {
        let entries: Vec<Value> = serde_json::from_slice(bytes).map_err(|e| {
            broken(format!("{file}:{}", e.line()), format!("not JSON: {e}; expected an array of objects"))
        })?;
        for (i, entry) in entries.iter().enumerate() {
            let sample = sample_of(entry, Media::Video, media, &dataset);
            samples.push(sample.map_err(|reason| broken(format!("{file}: entry {}", i + 1), reason))?);
        }
    } else {
        for (i, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let place = || format!("{file}:{}", i + 1);
            let entry: Value = serde_json::from_slice(line)
                .map_err(|e| broken(place(), format!("not JSON: {e}; expected one object a line")))?;
            let sample = sample_of(&entry, Media::Image, media, &dataset);
            samples.push(sample.map_err(|reason| broken(place(), reason))?);
        }
    }
    if samples.is_empty() { Err(Error::Empty { file: file.into() }) } else { Ok(samples) }
}

fn sample_of(
    entry: &Value,
    media: Media,
    folder: &Path,
    dataset: impl Fn(Option<&str>) -> String,
) -> Result<Sample, String> {
    if !entry.is_object() {
        return Err(format!("expected an object with \"image\" and \"conversations\", got {}", shown(entry)));
    }
    let (files, media) = pictures(entry, media)?;
    let dataset = dataset(entry.get("dataset_name").and_then(Value::as_str));
    let first = files.first().map(|file| file.with_extension("")).unwrap_or_default();
    Ok(Sample {
        id: format!("{dataset}/{}", first.display()),
        dataset,
        media,
        question: question(entry)?,
        mos: mos(entry)?,
        reference: files
            .first()
            .map(|file| reference_of(&file.to_string_lossy(), media == Media::Video))
            .unwrap_or_default(),
        distortion: match (media, &files[..]) {
            (Media::Image, [file]) => Distortion::of(file),
            _ => None,
        },
        images: files.into_iter().map(|file| folder.join(file)).collect(),
    })
}

/// The files of an entry, and what they are: a video itself may stand under "video", or as the only "image".
fn pictures(entry: &Value, media: Media) -> Result<(Vec<PathBuf>, Media), String> {
    let (key, expected) = match (entry.get("image"), entry.get("video")) {
        (Some(_), Some(_)) => return Err("both image and video; expected one of them".into()),
        (None, Some(_)) => ("video", "expected \"video\": \"file.mp4\""),
        _ => ("image", "expected \"image\": [\"file.png\"]"),
    };
    let files: Vec<PathBuf> = match entry.get(key) {
        Some(Value::String(file)) => vec![inside(key, file)?],
        Some(Value::Array(files)) => {
            let file = |file: &Value| match file.as_str() {
                Some(file) => inside(key, file),
                None => Err(format!("{key} {} is not text; {expected}", shown(file))),
            };
            files.iter().map(file).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(format!("{key} is {}; {expected}", shown(other))),
        None => return Err(format!("no image; {expected}")),
    };
    let videos = files.iter().filter(|file| is_video_name(file)).count();
    let media = if key == "video" || videos > 0 { Media::Video } else { media };
    match (media, files.len()) {
        (_, 0) => Err(format!("{key} is an empty list; {expected}")),
        (_, n) if n > 1 && (key == "video" || videos > 0) => Err(format!(
            "{key} lists {n} files, {videos} of them videos; expected one video, or pictures of one"
        )),
        (Media::Video, n) if n > VIDEO_PICTURES => {
            Err(format!("image lists {n} pictures; expected at most {VIDEO_PICTURES} for a video"))
        }
        _ => Ok((files, media)),
    }
}

/// The path, if it stays inside the folder that it is relative to.
pub(crate) fn inside(key: &str, file: &str) -> Result<PathBuf, String> {
    let path = Path::new(file);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let named = path.file_name().is_some() && !file.chars().any(char::is_control);
    if plain && named {
        Ok(path.components().filter(|part| matches!(part, Component::Normal(_))).collect())
    } else {
        let file: String = file.chars().take(200).collect();
        Err(format!("{key} {file:?} leaves the media folder; expected a relative path without '..'"))
    }
}

/// What the turn of `speaker` says.
fn said<'a>(entry: &'a Value, speaker: &str) -> Result<Option<&'a Value>, String> {
    let expected = "expected \"conversations\": [{\"from\": \"human\", \"value\": question}, {\"from\": \"gpt\", \"value\": mos}]";
    let turns = entry
        .get("conversations")
        .and_then(Value::as_array)
        .ok_or_else(|| format!("no conversations; {expected}"))?;
    Ok(turns
        .iter()
        .find(|turn| turn.get("from").and_then(Value::as_str) == Some(speaker))
        .and_then(|turn| turn.get("value")))
}

/// The human's words without `<image>`; empty where nobody asks.
fn question(entry: &Value) -> Result<String, String> {
    match said(entry, "human")? {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.replace("<image>", "").trim().into()),
        Some(other) => Err(format!("the human's value is {}; expected a question", shown(other))),
    }
}

fn mos(entry: &Value) -> Result<f64, String> {
    let value = said(entry, "gpt")?.ok_or("no turn from \"gpt\"; expected one whose value is the MOS")?;
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let finite = number.filter(|mos| mos.is_finite());
    finite.ok_or_else(|| format!("MOS {} is not a finite number; expected one, e.g. 3.25", shown(value)))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".into(),
        Value::String(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        plain => plain.to_string(),
    }
}

/// Appends `#2`, `#3` … to an id that is taken, in order.
pub(crate) fn make_unique(samples: &mut [Sample]) {
    let mut taken = HashSet::new();
    let mut next = std::collections::HashMap::<String, usize>::new();
    for sample in samples {
        if taken.insert(sample.id.clone()) {
            continue;
        }
        let number = next.entry(sample.id.clone()).or_insert(2);
        loop {
            let id = format!("{}#{number}", sample.id);
            *number += 1;
            if taken.insert(id.clone()) {
                sample.id = id;
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = r#"{"id": 1, "dataset_name": "KADID-10K", "image": ["I01_01_01.png"], "conversations": [{"from": "human", "value": "<image>\nRate it."}, {"from": "gpt", "value": 4.633587786259543}]}"#;

    fn read(text: &str) -> Result<Vec<Sample>, String> {
        parse_manifest("train.jsonl", text.as_bytes(), Path::new("/media"), "kadid")
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_published_line_is_read() {
        let samples = read(&format!("\u{feff}{LINE}\r\n\n{LINE}\n")).expect("good lines");
        let ids: Vec<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
        assert_eq!(ids, ["kadid/I01_01_01", "kadid/I01_01_01#2"]);
        let sample = &samples[0];
        assert_eq!(
            (sample.question.as_str(), sample.mos, sample.media),
            ("Rate it.", 4.633587786259543, Media::Image)
        );
        assert_eq!(sample.images, [PathBuf::from("/media/I01_01_01.png")]);
        assert_eq!(
            sample.distortion.as_ref().map(|d| (d.kind, d.level, d.reference.as_str())),
            Some((1, 1, "I01"))
        );
    }

    #[test]
    fn a_json_array_holds_videos_of_up_to_four_pictures() {
        let video = |n: usize| {
            let files: Vec<String> = (0..n).map(|i| format!("\"v/a_{i}.png\"")).collect();
            LINE.replace("\"I01_01_01.png\"", &files.join(","))
        };
        let samples = read(&format!("[{},\n{}]", video(4), video(1))).expect("good videos");
        assert_eq!(
            (samples[0].media, samples[0].images.len(), samples[0].id.as_str()),
            (Media::Video, 4, "kadid/v/a_0")
        );
        let said = read(&format!("[{}, {}]", video(1), video(5))).expect_err("five pictures");
        assert_eq!(said, "train.jsonl: entry 2: image lists 5 pictures; expected at most 4 for a video");
    }

    #[test]
    fn a_video_may_be_named_itself_in_either_form_of_file() {
        let itself = LINE.replace("\"image\": [\"I01_01_01.png\"]", "\"video\": \"v/I01_01_01.mp4\"");
        let listed = LINE.replace("I01_01_01.png", "v/a.mkv");
        for text in [format!("{itself}\n{listed}"), format!("[{itself}, {listed}]")] {
            let samples = read(&text).expect("videos");
            let seen: Vec<_> =
                samples.iter().map(|s| (s.media, s.images[0].to_str(), s.id.as_str())).collect();
            assert_eq!(
                seen,
                [
                    (Media::Video, Some("/media/v/I01_01_01.mp4"), "kadid/v/I01_01_01"),
                    (Media::Video, Some("/media/v/a.mkv"), "kadid/v/a")
                ]
            );
            assert_eq!(samples[0].distortion, None);
        }
        for (wrong, words) in [
            (
                LINE.replace("\"I01_01_01.png\"", "\"a.mp4\", \"b.mp4\""),
                "image lists 2 files, 2 of them videos",
            ),
            (LINE.replace("\"image\"", "\"video\": \"a.mp4\", \"image\""), "both image and video"),
            (itself.replace("v/I01_01_01.mp4", "../a.mp4"), "video \"../a.mp4\" leaves the media folder"),
            (itself.replace("\"v/I01_01_01.mp4\"", "3"), "video is 3; expected \"video\": \"file.mp4\""),
        ] {
            let said = read(&wrong).expect_err(&wrong);
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_broken_entry_is_named_with_its_line_and_what_was_expected() {
        for (wrong, expected) in [
            ("{".to_string(), "train.jsonl:2: not JSON: "),
            ("3".into(), "train.jsonl:2: expected an object with \"image\" and \"conversations\", got 3"),
            (
                LINE.replace("image\":", "picture\":"),
                "train.jsonl:2: no image; expected \"image\": [\"file.png\"]",
            ),
            (LINE.replace("[\"I01_01_01.png\"]", "[]"), "train.jsonl:2: image is an empty list; expected"),
            (LINE.replace("\"I01_01_01.png\"", "7"), "train.jsonl:2: image 7 is not text; expected"),
            (
                LINE.replace("4.633587786259543", "\"high\""),
                "train.jsonl:2: MOS \"high\" is not a finite number; expected one",
            ),
            (
                LINE.replace("4.633587786259543", "\"nan\""),
                "train.jsonl:2: MOS \"nan\" is not a finite number",
            ),
            (LINE.replace("4.633587786259543", "1e999"), "train.jsonl:2: not JSON: number out of range"),
            (LINE.replace("gpt", "human"), "train.jsonl:2: no turn from \"gpt\"; expected"),
            (LINE.replace("conversations", "turns"), "train.jsonl:2: no conversations; expected"),
        ] {
            let said = read(&format!("{LINE}\n{wrong}\n")).expect_err(&wrong);
            assert!(said.starts_with(expected), "{said}\n{expected}");
        }
        assert!(read("\n \n").expect_err("empty").starts_with("train.jsonl: no entries; expected"));
    }

    #[test]
    fn a_path_that_leaves_the_media_folder_is_refused() {
        for path in
            ["/etc/passwd", "../a.png", "a/../../b.png", "", ".", "a/..", "a\\u0000b.png", "a\\nb.png"]
        {
            let said = read(&LINE.replace("I01_01_01.png", path)).expect_err(path);
            assert!(said.contains("leaves the media folder"), "{said}");
        }
        let samples = read(&LINE.replace("I01_01_01.png", "./a//b.png")).expect("stays inside");
        assert_eq!(
            (samples[0].images[0].to_str(), samples[0].id.as_str()),
            (Some("/media/a/b.png"), "kadid/a/b")
        );
    }

    #[test]
    fn ids_are_unique_even_where_a_file_is_named_like_a_repetition() {
        let text =
            ["a.png", "a#2.png", "a.jpg", "a.bmp"].map(|file| LINE.replace("I01_01_01.png", file)).join("\n");
        let ids: Vec<String> = read(&text).expect("good lines").into_iter().map(|sample| sample.id).collect();
        assert_eq!(ids, ["kadid/a", "kadid/a#2", "kadid/a#3", "kadid/a#4"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_manifest("f", &bytes, Path::new("m"), "d");
        }

        #[test]
        fn no_damage_to_a_good_line_makes_a_path_leave_its_folder(at in 0usize..180, with in "[./\\\\\"{}\\[\\]0-9a-e]{0,6}") {
            let mut text = LINE.to_string();
            let at = at.min(text.len());
            text.insert_str(at, &with);
            if let Ok(samples) = parse_manifest("f", text.as_bytes(), Path::new("m"), "d") {
                for sample in samples {
                    prop_assert!(sample.mos.is_finite());
                    prop_assert!(sample.images.iter().all(|file| file.starts_with("m") && !file.components().any(|c| c == Component::ParentDir)));
                }
            }
        }
    }
}

//! MOS text files (docs/method.md section 7).

use std::path::Path;

use crate::lines::{Error, Place, normal, parse, read};

const EXPECTED: &str = "\"dis mos\", \"dis mos std\", \"ref dis mos\", \"ref dis mos std\" or \"path, mos\"";

/// One labelled picture or video.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Relative to the media folder, `/` between components.
    pub path: String,
    /// The undistorted original, where the file names it.
    pub reference: Option<String>,
    /// Mean opinion score, in the file's own range.
    pub mos: f64,
    /// Its standard deviation over people, where the file has it.
    pub std: Option<f64>,
}

/// Reads a label file.
///
/// # Errors
/// If it cannot be read, a line has none of the forms, a number is not finite, or a path comes twice.
pub fn read_labels(path: &Path) -> Result<Vec<Label>, Error> {
    parse_labels(&read(path)?, &path.display().to_string())
}

/// Parses the text of a label file; `file` is for messages.
///
/// Blank separated `ref dis mos std`, `dis mos std`, `dis mos` or `ref dis mos` (of three columns a numeric
/// second one means `dis mos std`), or `path, mos`. Lines may differ in form.
///
/// # Errors
/// As [`read_labels`].
pub fn parse_labels(text: &str, file: &str) -> Result<Vec<Label>, Error> {
    parse(text, file, EXPECTED, label, |label| &label.path)
}

/// One line of such a file; `number` counts from 1.
///
/// # Errors
/// As [`read_labels`], but for what other lines say.
pub fn parse_label(line: &str, file: &str, number: usize) -> Result<Label, Error> {
    label(line.trim(), &Place { file, line: number, expected: EXPECTED })
}

fn label(line: &str, place: &Place<'_>) -> Result<Label, Error> {
    if let Some((path, mos)) = after_comma(line, place)? {
        return Ok(Label { path: path_of(path, place)?, reference: None, mos, std: None });
    }
    let columns: Vec<&str> = line.split_whitespace().collect();
    let (reference, path, mos, std) = match columns[..] {
        [path, mos] => (None, path, mos, None),
        [path, mos, std] if mos.parse::<f64>().is_ok() => (None, path, mos, Some(std)),
        [reference, path, mos] => (Some(reference), path, mos, None),
        [reference, path, mos, std] => (Some(reference), path, mos, Some(std)),
        _ => return Err(place.wrong(format!("{} columns in {line:?}", columns.len()))),
    };
    Ok(Label {
        path: path_of(path, place)?,
        reference: reference.map(normal),
        mos: place.number("mos", mos)?,
        std: std.map(|std| place.number("std", std)).transpose()?,
    })
}

/// `path, mos`; `None` where the line has no comma before its only number.
fn after_comma<'a>(line: &'a str, place: &Place<'_>) -> Result<Option<(&'a str, f64)>, Error> {
    let Some((path, mos)) = line.rsplit_once(',') else { return Ok(None) };
    let mos = mos.trim();
    if mos.contains(char::is_whitespace) {
        // A comma inside a name of a blank-separated line.
        return Ok(None);
    }
    if path.split_whitespace().nth(1).is_some_and(|_| last_is_number(path)) {
        return Err(place.wrong(format!("{line:?} has a number before the comma")));
    }
    Ok(Some((path, place.number("mos", mos)?)))
}

fn last_is_number(text: &str) -> bool {
    text.split_whitespace().last().is_some_and(|token| token.parse::<f64>().is_ok())
}

fn path_of(path: &str, place: &Place<'_>) -> Result<String, Error> {
    let path = normal(path.trim());
    if path.is_empty() { Err(place.wrong("no path".into())) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expected<'a> = (Option<&'a str>, &'a str, f64, Option<f64>);

    fn check(text: &str, expected: &[Expected<'_>]) {
        let labels = parse_labels(text, "mos.txt").expect("labels");
        let found: Vec<Expected<'_>> =
            labels.iter().map(|l| (l.reference.as_deref(), l.path.as_str(), l.mos, l.std)).collect();
        assert_eq!(found, expected);
    }

    fn error(text: &str) -> String {
        parse_labels(text, "mos.txt").expect_err("a broken file").to_string()
    }

    // The first lines of the label files that the published project ships.

    #[test]
    fn two_columns_are_dis_and_mos() {
        check(
            "AttnGAN_normal_000.jpg 1.860466\nAttnGAN_normal_001.jpg 2.213573\n",
            &[
                (None, "AttnGAN_normal_000.jpg", 1.860466, None),
                (None, "AttnGAN_normal_001.jpg", 2.213573, None),
            ],
        );
        check(
            "1.jpg 4.660962\r\n3.jpg 1.955758\r\n",
            &[(None, "1.jpg", 4.660962, None), (None, "3.jpg", 1.955758, None)],
        );
        check(
            "I01_01_1.bmp 4.0247\ni01_01_2.bmp 4.0552\n",
            &[(None, "I01_01_1.bmp", 4.0247, None), (None, "i01_01_2.bmp", 4.0552, None)],
        );
    }

    #[test]
    fn three_columns_with_a_numeric_second_are_dis_mos_std() {
        check(
            "10004473376.jpg 4.478899486428679 0.527277894494\n00001.jpg 2.9940425531914894 17.5539983235403\n",
            &[
                (None, "10004473376.jpg", 4.478899486428679, Some(0.527277894494)),
                (None, "00001.jpg", 2.9940425531914894, Some(17.5539983235403)),
            ],
        );
    }

    #[test]
    fn three_columns_with_a_name_second_are_ref_dis_mos() {
        check(
            "0_0.png 0_1.png 4.569234903368079\nonline50_Original.png online50_SeeSRx4.png 5.000000\n",
            &[
                (Some("0_0.png"), "0_1.png", 4.569234903368079, None),
                (Some("online50_Original.png"), "online50_SeeSRx4.png", 5.0, None),
            ],
        );
    }

    #[test]
    fn four_columns_are_ref_dis_mos_std() {
        check(
            "I01.png I01_01_01.png 4.57 0.7042726744663603\nI01.png I01_01_02.png 4.33 0.9322016949137134\n",
            &[
                (Some("I01.png"), "I01_01_01.png", 4.57, Some(0.7042726744663603)),
                (Some("I01.png"), "I01_01_02.png", 4.33, Some(0.9322016949137134)),
            ],
        );
    }

    #[test]
    fn a_comma_separates_a_video_from_its_mos() {
        check(
            "KoNViD_1k_videos/4542323058.mp4, 3.22\nVideo/A001.mp4,4.3616\nyfcc-batch1/722.mp4,4.3137\n",
            &[
                (None, "KoNViD_1k_videos/4542323058.mp4", 3.22, None),
                (None, "Video/A001.mp4", 4.3616, None),
                (None, "yfcc-batch1/722.mp4", 4.3137, None),
            ],
        );
        check("Sports 2160P-4e9f.mp4, 4.405", &[(None, "Sports 2160P-4e9f.mp4", 4.405, None)]);
        check("a,b.png 4.5", &[(None, "a,b.png", 4.5, None)]);
    }

    #[test]
    fn a_mark_at_the_start_and_blank_lines_are_no_labels() {
        check("\u{feff}./a//b.png 1\n\n  \n", &[(None, "a/b.png", 1.0, None)]);
    }

    #[test]
    fn a_broken_line_says_where_and_what_was_expected() {
        assert_eq!(
            error("a.png 1\nb.png\n"),
            "mos.txt:2: 1 columns in \"b.png\": expected \"dis mos\", \"dis mos std\", \"ref dis mos\", \
             \"ref dis mos std\" or \"path, mos\""
        );
        assert!(error("a b c d e\n").starts_with("mos.txt:1: 5 columns"));
        assert!(error("a.png b.png\n").starts_with("mos.txt:1: mos \"b.png\" is not a number"));
        assert!(error("a.png 3.0 high\n").starts_with("mos.txt:1: std \"high\" is not a number"));
        assert!(error("a.png 3,5\n").starts_with("mos.txt:1: \"a.png 3,5\" has a number before the comma"));
        assert!(error("dis_img,ref_img,dmos,var\n").starts_with("mos.txt:1: mos \"var\" is not a number"));
        assert!(error(", 3\n").starts_with("mos.txt:1: no path"));
        assert!(error("").starts_with("mos.txt: no lines"));
    }

    #[test]
    fn numbers_must_be_finite() {
        assert!(error("a.png nan\n").starts_with("mos.txt:1: mos \"nan\" is not finite"));
        assert!(error("a.mp4, inf\n").starts_with("mos.txt:1: mos \"inf\" is not finite"));
        assert!(error("a.png 1e999 0.1\n").starts_with("mos.txt:1: mos \"1e999\" is not finite"));
    }

    #[test]
    fn a_path_may_come_once() {
        assert_eq!(
            error("r.png a.png 1\nr.png b.png 2\nr.png ./a.png 3\n"),
            "mos.txt:3: \"a.png\" already stands on line 1: keep one of them"
        );
    }

    #[test]
    fn a_file_that_is_not_text_says_which_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mos.txt");
        std::fs::write(&file, b"a.png 1\nb\xff.png 2\n").expect("a file");
        let message = read_labels(&file).expect_err("not text").to_string();
        assert!(message.ends_with("mos.txt:2: not UTF-8 text"), "{message}");
        let message = read_labels(&folder.path().join("none")).expect_err("no file").to_string();
        assert!(message.contains("none: "), "{message}");
    }
}

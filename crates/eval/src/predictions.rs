//! Prediction files: `path score`, the score is a line's last token.

use std::path::Path;

use crate::lines::{Error, Place, normal, parse, read};

const EXPECTED: &str = "\"path score\"";

/// One predicted quality.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// As the file writes it, `/` between components; blanks may stand in it.
    pub path: String,
    /// Predicted quality.
    pub score: f64,
}

/// Reads a prediction file.
///
/// # Errors
/// If it cannot be read, a line is not `path score`, a score is not finite, or a path comes twice.
pub fn read_predictions(path: &Path) -> Result<Vec<Prediction>, Error> {
    parse_predictions(&read(path)?, &path.display().to_string())
}

/// Parses the text of a prediction file; `file` is for messages. A comma before the score is dropped.
///
/// # Errors
/// As [`read_predictions`].
pub fn parse_predictions(text: &str, file: &str) -> Result<Vec<Prediction>, Error> {
    parse(text, file, EXPECTED, prediction, |prediction| &prediction.path)
}

fn prediction(line: &str, place: &Place<'_>) -> Result<Prediction, Error> {
    let split = line.rsplit_once(char::is_whitespace).or_else(|| line.rsplit_once(','));
    let (path, score) = split.ok_or_else(|| place.wrong(format!("no score in {line:?}")))?;
    let path = normal(path.trim_end().trim_end_matches(',').trim());
    if path.is_empty() {
        return Err(place.wrong(format!("no path in {line:?}")));
    }
    Ok(Prediction { path, score: place.number("score", score)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, f64)> {
        let predictions = parse_predictions(text, "scores.txt").expect("predictions");
        predictions.into_iter().map(|p| (p.path, p.score)).collect()
    }

    fn error(text: &str) -> String {
        parse_predictions(text, "scores.txt").expect_err("a broken file").to_string()
    }

    #[test]
    fn the_last_token_is_the_score_and_the_rest_the_path() {
        assert_eq!(
            parsed("a/b.png 3.25\nmy photo (1).jpg\t4\n./c.mp4, 1.5\nd.mp4,2\n"),
            [
                ("a/b.png".into(), 3.25),
                ("my photo (1).jpg".into(), 4.0),
                ("c.mp4".into(), 1.5),
                ("d.mp4".into(), 2.0)
            ]
        );
    }

    #[test]
    fn a_broken_line_says_where_and_what_was_expected() {
        assert_eq!(error("a.png 1\nb.png\n"), "scores.txt:2: no score in \"b.png\": expected \"path score\"");
        assert!(error("a.png high\n").starts_with("scores.txt:1: score \"high\" is not a number"));
        assert!(error("a.png NaN\n").starts_with("scores.txt:1: score \"NaN\" is not finite"));
        assert!(error(", 3\n").starts_with("scores.txt:1: no path"));
        assert!(
            error("a.png 1\n\na.png 2\n").starts_with("scores.txt:3: \"a.png\" already stands on line 1")
        );
        assert!(error("\n").starts_with("scores.txt: no lines"));
    }
}

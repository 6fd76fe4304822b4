//! Text files of one sample a line: reading, and errors that say where.

use std::collections::HashMap;
use std::path::Path;

/// What is wrong with a label or prediction file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not text.
    #[error("{file}:{line}: not UTF-8 text")]
    NotText {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
    },
    /// A line of another form.
    #[error("{file}:{line}: {problem}: expected {expected}")]
    Line {
        /// The file.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
        /// The forms that are taken.
        expected: &'static str,
    },
    /// The same path twice.
    #[error("{file}:{line}: {path:?} already stands on line {first}: keep one of them")]
    Duplicate {
        /// The file.
        file: String,
        /// The second line, from 1.
        line: usize,
        /// The first line.
        first: usize,
        /// What both name.
        path: String,
    },
    /// No lines at all.
    #[error("{file}: no lines: expected {expected}")]
    Empty {
        /// The file.
        file: String,
        /// The forms that are taken.
        expected: &'static str,
    },
}

/// Reads a file as text; a byte-order mark is dropped.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| Error::Read { file: file.clone(), source })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Error::NotText { file, line: 1 + valid.iter().filter(|&&b| b == b'\n').count() }
    })
}

/// Where a value stands.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: usize,
    pub(crate) expected: &'static str,
}

impl Place<'_> {
    pub(crate) fn wrong(&self, problem: String) -> Error {
        Error::Line { file: self.file.into(), line: self.line, problem, expected: self.expected }
    }

    /// A finite number, decimal point.
    pub(crate) fn number(&self, what: &str, token: &str) -> Result<f64, Error> {
        match token.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            Ok(_) => Err(self.wrong(format!("{what} {token:?} is not finite"))),
            Err(_) => Err(self.wrong(format!("{what} {token:?} is not a number"))),
        }
    }
}

/// Parses every line that is not blank; refuses a path that comes twice, and a file without lines.
pub(crate) fn parse<T>(
    text: &str,
    file: &str,
    expected: &'static str,
    item: impl Fn(&str, &Place<'_>) -> Result<T, Error>,
    path: impl Fn(&T) -> &str,
) -> Result<Vec<T>, Error> {
    let mut items: Vec<T> = Vec::new();
    let mut lines = HashMap::new();
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = Place { file, line: i + 1, expected };
        let parsed = item(line.trim(), &place)?;
        let path = path(&parsed).to_owned();
        if let Some(&first) = lines.get(&path) {
            return Err(Error::Duplicate { file: file.into(), line: place.line, first, path });
        }
        lines.insert(path, place.line);
        items.push(parsed);
    }
    if items.is_empty() {
        return Err(Error::Empty { file: file.into(), expected });
    }
    Ok(items)
}

/// A path as both files would write it: components joined by `/`, without `.` and empty ones.
pub(crate) fn normal(path: &str) -> String {
    let components = path.split(['/', '\\']).filter(|c| !c.is_empty() && *c != ".");
    components.collect::<Vec<_>>().join("/")
}

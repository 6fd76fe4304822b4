//! Which photographs: a folder, or a list that may say more about each.

use std::fs;
use std::path::{Path, PathBuf};

use super::split::Part;
use crate::failure::Failure;

/// Names that are taken for pictures in a folder.
const PICTURES: [&str; 7] = ["jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp"];

/// Folders within folders, at most: what is deeper is a loop or no photo collection.
const MAX_DEPTH: usize = 32;

/// A photograph as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// As the list or the folder has it; names the photograph in the card.
    pub(super) name: String,
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Where the list wants it.
    pub(super) part: Option<Part>,
    /// What the list says of its terms.
    pub(super) licence: Option<String>,
    /// What the list says its bytes are.
    pub(super) sha256: Option<String>,
}

/// The photographs of a folder (recursively, by name) or of a list. A list has a path a line, or `SPLIT<TAB>PATH`, or a
/// heading of tab separated columns of which `path` must be one, and `split`, `licence` and `sha256` may be. Paths are
/// relative to `root`, or to the list's folder. Blank lines and lines with `#` first are skipped.
///
/// # Errors
/// If it cannot be read, a line of the list is broken, or there is no photograph in it.
pub(super) fn photographs(from: &Path, root: Option<&Path>) -> Result<Vec<Source>, Failure> {
    let shown = from.display();
    let sources = if from.is_dir() {
        let mut files = Vec::new();
        walk(from, 0, &mut files)?;
        files.sort();
        files.into_iter().map(|path| in_folder(from, path)).collect()
    } else {
        let text = fs::read_to_string(from).map_err(|e| {
            Failure::input(format!(
                "{shown}: cannot be read as a list of photographs: {e}; expected a folder or a text file"
            ))
        })?;
        let beside = from.parent().unwrap_or(Path::new("."));
        list(&text, &shown.to_string(), root.unwrap_or(beside))?
    };
    if sources.is_empty() {
        return Err(Failure::input(format!(
            "{shown}: no photograph in it (looked for {})",
            PICTURES.join(", ")
        )));
    }
    Ok(sources)
}

fn in_folder(folder: &Path, path: PathBuf) -> Source {
    let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
    Source { name, path, part: None, licence: None, sha256: None }
}

fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let fail = |e: std::io::Error| Failure::input(format!("{}: cannot be listed: {e}", folder.display()));
    if depth > MAX_DEPTH {
        return Err(Failure::input(format!("{}: more than {MAX_DEPTH} folders deep", folder.display())));
    }
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        // Of links, only those to files are followed: a folder's would be seen twice or for ever.
        let (path, kind) = (entry.path(), entry.file_type().map_err(fail)?);
        if kind.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if path.is_file() && is_picture(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| PICTURES.contains(&e.as_str()))
}

/// Which column holds what.
struct Columns {
    path: usize,
    part: Option<usize>,
    licence: Option<usize>,
    sha256: Option<usize>,
}

impl Columns {
    /// Of a heading; none where the line is not one.
    fn heading(fields: &[&str]) -> Option<Self> {
        let find = |name: &str| fields.iter().position(|field| *field == name);
        let path = find("path")?;
        Some(Self { path, part: find("split"), licence: find("licence"), sha256: find("sha256") })
    }

    /// Of a line without a heading above it.
    fn plain(fields: &[&str]) -> Self {
        let part = (fields.len() == 2).then_some(0);
        Self { path: fields.len() - 1, part, licence: None, sha256: None }
    }
}

fn list(text: &str, shown: &str, root: &Path) -> Result<Vec<Source>, Failure> {
    let mut heading = None;
    let mut sources = Vec::new();
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    for (index, line) in lines {
        let at = format!("{shown}:{}", index + 1);
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        if sources.is_empty() && heading.is_none() {
            heading = Columns::heading(&fields);
            if heading.is_some() {
                continue;
            }
        }
        if heading.is_none() && fields.len() > 2 {
            return Err(Failure::input(format!(
                "{at}: {} columns, expected PATH or SPLIT<TAB>PATH",
                fields.len()
            )));
        }
        let plain = Columns::plain(&fields);
        let columns = heading.as_ref().unwrap_or(&plain);
        let field = |column: Option<usize>| {
            column.and_then(|c| fields.get(c)).filter(|field| !field.is_empty()).map(ToString::to_string)
        };
        let name =
            field(Some(columns.path)).ok_or_else(|| Failure::input(format!("{at}: there is no path")))?;
        let part = field(columns.part)
            .map(|name| Part::named(&name).map_err(|e| Failure::input(format!("{at}: {e}"))));
        sources.push(Source {
            path: root.join(&name),
            name,
            part: part.transpose()?,
            licence: field(columns.licence),
            sha256: field(columns.sha256),
        });
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{list, photographs};
    use crate::dataset::split::Part;

    #[test]
    fn a_folder_is_read_recursively_by_name_and_only_pictures_count() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("b")).expect("made");
        for name in ["z.JPG", "b/a.png", "notes.txt", "b/c.svg"] {
            fs::write(folder.path().join(name), "x").expect("written");
        }
        let names: Vec<String> =
            photographs(folder.path(), None).expect("read").into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["b/a.png", "z.JPG"]);
        assert_eq!(photographs(&folder.path().join("none"), None).expect_err("missing").exit_code, 2);
    }

    #[test]
    fn a_list_is_paths_or_splits_with_paths_or_columns() {
        let root = Path::new("/photos");
        let plain = list("# ours\n\na.jpg\ntest\tb c.jpg\n", "l", root).expect("plain");
        assert_eq!((plain[0].part, plain[1].part), (None, Some(Part::Test)));
        assert_eq!(plain[1].path, root.join("b c.jpg"));
        let columns =
            list("package\tpath\tlicence\tsplit\np\ta.jpg\tCC0\tvalidation\np\tb.jpg\t\t\n", "l", root);
        let columns = columns.expect("columns");
        assert_eq!((columns[0].part, columns[0].licence.as_deref()), (Some(Part::Validation), Some("CC0")));
        assert_eq!((columns[1].part, columns[1].licence.as_deref()), (None, None));
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = list("a.jpg\nhalf\tb.jpg\n", "photos.txt", Path::new("/")).expect_err("no such split");
        assert!(error.message.starts_with("photos.txt:2: "), "{error}");
        assert!(list("a\tb\tc\n", "l", Path::new("/")).is_err());
    }
}

//! What is to be judged: a folder's pictures, a folder's videos, or a list.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use data::{is_video_name, ready_made};

use crate::error::Error;

/// File names that end so are pictures.
const PICTURES: [&str; 8] = ["png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "webp"];

/// One thing to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// As the output writes it: relative to the folder, or as the list has it.
    pub name: String,
    /// A picture, a video itself, or a video's ready-made pictures.
    pub files: Vec<PathBuf>,
    /// Whether it is judged as a video.
    pub video: bool,
}

/// The pictures below a folder, by name.
pub(crate) fn pictures(folder: &Path) -> Result<Vec<Item>, Error> {
    let items = below(folder)?.into_iter().filter(|(path, _)| is_picture_name(path));
    let items: Vec<Item> = items.map(|(path, name)| Item { name, files: vec![path], video: false }).collect();
    some(items, folder, "pictures")
}

/// The videos below a folder, by name; and ready-made pictures `name_0.png` … of videos that are not there.
pub(crate) fn videos(folder: &Path) -> Result<Vec<Item>, Error> {
    let files = below(folder)?;
    let mut items: Vec<Item> = files
        .iter()
        .filter(|(path, _)| is_video_name(path))
        .map(|(path, name)| Item { name: name.clone(), files: vec![path.clone()], video: true })
        .collect();
    let stems: Vec<PathBuf> = items.iter().map(|item| item.files[0].with_extension("")).collect();
    for (path, name) in &files {
        let text = path.to_string_lossy();
        let Some(stem) = text.strip_suffix("_0.png").map(PathBuf::from) else { continue };
        if stems.contains(&stem) {
            continue;
        }
        let mut video = stem.into_os_string();
        video.push(".mp4");
        if let Some(files) = ready_made(Path::new(&video)) {
            items.push(Item { name: name.clone(), files, video: true });
        }
    }
    items.sort_by(|a, b| a.name.cmp(&b.name));
    some(items, folder, "videos, nor pictures of one (name_0.png)")
}

/// The files that a list names, a path a line, relative to `root`; what is a video is told by its name.
pub(crate) fn list(file: &Path, root: &Path) -> Result<Vec<Item>, Error> {
    let text = fs::read_to_string(file)
        .map_err(|e| Error::Input(format!("{}: {e}; expected a list, a path a line", file.display())))?;
    let mut lines = HashMap::new();
    let mut items = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let name = line.trim();
        if name.is_empty() {
            continue;
        }
        if let Some(first) = lines.insert(name.to_owned(), number + 1) {
            return Err(Error::Input(format!(
                "{}:{}: {name:?} already stands on line {first}: keep one of them",
                file.display(),
                number + 1
            )));
        }
        let path = root.join(name);
        items.push(Item { name: name.to_owned(), video: is_video_name(&path), files: vec![path] });
    }
    some(items, file, "lines")
}

fn some(items: Vec<Item>, place: &Path, what: &str) -> Result<Vec<Item>, Error> {
    if items.is_empty() {
        return Err(Error::Input(format!("{}: there are no {what} in it", place.display())));
    }
    Ok(items)
}

/// Every file below a folder with its name relative to it, by name. Links to folders are not followed.
fn below(folder: &Path) -> Result<Vec<(PathBuf, String)>, Error> {
    let unreadable =
        |path: &Path, e: std::io::Error| Error::Input(format!("{}: {e}; expected a folder", path.display()));
    let (mut found, mut left) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).map_err(|e| unreadable(&next, e))? {
            let entry = entry.map_err(|e| unreadable(&next, e))?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
                found.push((path, name));
            }
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(found)
}

fn is_picture_name(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| PICTURES.contains(&extension.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        folder
    }

    fn names(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.name.as_str()).collect()
    }

    #[test]
    fn a_folders_pictures_come_by_name_whatever_lies_beside_them() {
        let folder = folder(&["b.PNG", "a/z.jpg", "a.txt", "v.mp4"]);
        assert_eq!(names(&pictures(folder.path()).unwrap()), ["a/z.jpg", "b.PNG"]);
        assert!(matches!(pictures(&folder.path().join("none")), Err(Error::Input(_))));
    }

    #[test]
    fn ready_made_pictures_are_a_video_unless_the_video_is_there() {
        let folder = folder(&["v.mp4", "v_0.png", "w_0.png", "w_1.png", "w_3.png", "x.png"]);
        let items = videos(folder.path()).unwrap();
        assert_eq!(names(&items), ["v.mp4", "w_0.png"]);
        assert!(items.iter().all(|item| item.video));
        assert_eq!((items[0].files.len(), items[1].files.len()), (1, 2));
    }

    #[test]
    fn a_list_keeps_its_order_and_names_and_refuses_a_repetition() {
        let folder = folder(&[]);
        let file = folder.path().join("list.txt");
        fs::write(&file, "\u{feff}b c.png\r\n\na.mp4\n").unwrap();
        let items = list(&file, Path::new("root")).unwrap();
        assert_eq!(names(&items), ["b c.png", "a.mp4"]);
        assert_eq!((items[0].video, items[1].video), (false, true));
        assert_eq!(items[1].files, [Path::new("root/a.mp4")]);
        fs::write(&file, "a\nb\na\n").unwrap();
        let said = list(&file, Path::new("")).unwrap_err().to_string();
        assert!(said.ends_with("list.txt:3: \"a\" already stands on line 1: keep one of them"), "{said}");
    }
}

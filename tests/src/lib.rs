//! What the whole-program tests share: where the programs and the Python reference are, and small worlds to run.
#![allow(clippy::missing_panics_doc, clippy::expect_used, reason = "a test fails by panicking")]

pub mod answers;
pub mod left;
pub mod moments;
pub mod outside;
pub mod photographs;
pub mod recovery;
pub mod running;
pub mod scene;
pub mod trial;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The project's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests crate lies in the project").to_path_buf()
}

/// A program of this build: it lies beside the tests' own folder.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let found = test.ancestors().skip(1).take(3).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `make build` (looked above {})", test.display()))
}

/// What `make setup` fetches lies here: `PRERESQ_CACHE`, else a folder among the user's caches.
#[must_use]
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    std::env::var_os("PRERESQ_CACHE").map_or_else(
        || std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("preresq"),
        PathBuf::from,
    )
}

/// A Python with torch and transformers: `PRERESQ_PYTHON`, else that of `make setup`.
#[must_use]
pub fn python() -> PathBuf {
    std::env::var_os("PRERESQ_PYTHON").map_or_else(|| cache().join("venv/bin/python3"), PathBuf::from)
}

/// Runs a program with its arguments in the project's root.
#[must_use]
pub fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(program(name)).args(arguments).current_dir(root()).output().expect("the program starts")
}

/// Runs a program that must succeed, and gives its stdout.
pub fn succeed(name: &str, arguments: &[&str]) -> String {
    let output = run(name, arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {arguments:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Runs a program that must end with `code`, and gives its stderr.
#[must_use]
pub fn fail(name: &str, arguments: &[&str], code: i32) -> String {
    let output = run(name, arguments);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{name} {arguments:?}\n{err}");
    err
}

/// Runs a Python script of `tests/python` that must succeed, and gives its stdout.
pub fn script(name: &str, arguments: &[&str]) -> String {
    let path = root().join("tests/python").join(name);
    let output = Command::new(python()).arg(&path).args(arguments).output().expect("Python starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {}\n{err}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A path as an argument.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

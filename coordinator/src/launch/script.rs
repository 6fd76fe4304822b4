//! What runs on another host: a shell that looks whether it is the right place, and ends the worker when its standard
//! input ends.

use std::path::{Path, PathBuf};

use super::WorkerSpec;
use crate::failure::Failure;
use crate::folder::RunFolder;

/// The shell's program, given with `sh -c`.
const SCRIPT: &str = include_str!("remote.sh");
/// How the shell's own lines begin.
const OWN: &str = "launch: ";

/// What all workers of a run on other hosts have in common.
#[derive(Clone, Debug)]
pub(super) struct Place {
    mark: PathBuf,
    held: String,
    directory: PathBuf,
    program: PathBuf,
}

impl Place {
    /// A folder that holds `mark`, and a program.
    pub(super) fn new(folder: &RunFolder, mark: &str, program: &Path) -> Result<Self, Failure> {
        let directory = std::env::current_dir()
            .map_err(|e| Failure::input(format!("the folder that this was started in: {e}")))?;
        let (held, program) = (mark.to_owned(), program.to_owned());
        Ok(Self { mark: folder.file(proto::MARK), held, directory, program })
    }

    /// `sh -c …`, that runs the worker where the run folder is the right one.
    pub(super) fn command(&self, worker: &WorkerSpec, address: &str) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        let (mark, directory, program) = (text(&self.mark), text(&self.directory), text(&self.program));
        let mut all: Vec<String> = ["/bin/sh", "-c", SCRIPT, "launch"].map(String::from).into();
        all.extend([mark, self.held.clone(), directory, program.clone(), "env".into()]);
        all.extend(worker.environment.iter().map(|(name, value)| format!("{name}={value}")));
        all.push(program);
        all.extend(worker.arguments(address));
        all
    }
}

/// Words as one line for a POSIX shell.
pub(super) fn quoted(words: &[String]) -> String {
    let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// The process that the shell says it started, in a log's text; `None`: it did not come to that.
pub(super) fn process_in(log: &str) -> Option<u32> {
    let after = format!("{OWN}process ");
    let line = log.lines().find_map(|line| line.strip_prefix(after.as_str()))?;
    line.split(' ').next()?.parse().ok()
}

/// What the shell says is wrong with the host, in a log's text.
pub(super) fn wrong_in(log: &str) -> Option<String> {
    let line = log.lines().find_map(|line| line.strip_prefix(OWN))?;
    (!line.starts_with("process ")).then(|| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn place(folder: &tempfile::TempDir, program: &str) -> Place {
        let folder = RunFolder::make(folder.path()).expect("made");
        let mark = folder.mark().expect("marked");
        Place::new(&folder, &mark, Path::new(program)).expect("a place")
    }

    fn worker() -> WorkerSpec {
        WorkerSpec {
            rank: 3,
            host: "h".into(),
            address: "10.0.0.1".into(),
            user: None,
            device: "cpu".into(),
            threads: 1,
            environment: BTreeMap::from([("NAME".into(), "it's $HOME; \"x\"\n*".into())]),
            security: Vec::new(),
            instead: None,
        }
    }

    /// What a login shell makes of the line, as ssh's other end has it.
    fn shell(line: &str) -> std::process::Child {
        let mut command = Command::new("sh");
        command.args(["-c", line]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("a shell")
    }

    #[test]
    fn every_word_arrives_as_it_was_written_and_the_exit_code_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut words = place(&folder, "/bin/sh").command(&worker(), "a:1");
        let at = words.iter().rposition(|word| word == "/bin/sh").expect("the program");
        words.splice(
            at + 1..,
            ["-c", "printf '%s|' \"$NAME\" \"$@\"; exit 7", "x", "b'c", "$d"].map(String::from),
        );
        let mut child = shell(&quoted(&words));
        let _open = child.stdin.take();
        let output = child.wait_with_output().expect("ended");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("it's $HOME; \"x\"\n*|b'c|$d|"), "{text}");
        assert_eq!(output.status.code(), Some(7));
        assert!(
            process_in(&text.replace("it's", "\nit's")).is_some() || text.contains("launch: process "),
            "{text}"
        );
    }

    #[test]
    fn a_worker_dies_when_who_started_it_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut words = place(&folder, "/bin/sleep").command(&worker(), "a:1");
        let at = words.iter().rposition(|word| word == "/bin/sleep").expect("the program");
        words.splice(at + 1.., ["1000".to_owned()]);
        let mut child = shell(&quoted(&words));
        let mut said = [0; 40];
        let length = child.stdout.as_mut().expect("piped").read(&mut said).expect("readable");
        let process = process_in(&String::from_utf8_lossy(&said[..length])).expect("a process");
        assert!(Path::new(&format!("/proc/{process}")).exists());
        drop(child.stdin.take());
        assert_eq!(child.wait().expect("ended").code(), Some(128 + libc::SIGKILL));
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }

    #[test]
    fn a_host_that_sees_another_folder_says_so_and_starts_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = place(&folder, "/bin/true");
        std::fs::write(folder.path().join(proto::MARK), "another").expect("writable");
        let output = shell(&quoted(&place.command(&worker(), "a:1"))).wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(2));
        let said = wrong_in(&String::from_utf8_lossy(&output.stderr)).expect("a word");
        assert!(said.contains("is not the run folder that the coordinator writes to"), "{said}");
    }
}

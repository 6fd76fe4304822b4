//! Beginning a term's journal from the last one's: as that stood at one moment, and whole, or not at all.
//!
//! The coordinator before may have been cut off in the middle of a write, and may write on. A copy counts only if the
//! source reads the same once more after it: then it is what the source was between the two. What was cut off is rolled
//! back by SQLite, then every page and record is looked at, and only a file that lacks nothing gets the journal's name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::{FILE, Journal, JournalError, name, newest_below};
use crate::engine::Record;

/// How often a source that changes is copied.
const TRIES: usize = 10;
/// Between two tries: a write of the coordinator before is over by then.
const PAUSE: Duration = Duration::from_millis(200);
/// The database, and what SQLite keeps beside it while it writes.
const PARTS: [&str; 2] = ["", "-journal"];

/// Begins the journal of `term` from that of `earlier`.
///
/// # Errors
/// If that one is damaged, does not stop changing, or cannot be read; or if the copy cannot be written.
pub(super) fn begin_from(folder: &Path, earlier: u64, term: u64) -> Result<(), JournalError> {
    let (from, to) = (folder.join(name(earlier)), folder.join(name(term)));
    let partial = part(&to, ".partial");
    let copied = still(&from, &partial).and_then(|()| {
        look(folder, earlier, &partial)?;
        let put = File::open(&partial).and_then(|file| file.sync_all()).and_then(|()| {
            fs::rename(&partial, &to)?;
            File::open(folder)?.sync_all()
        });
        put.map_err(|source| JournalError::Copy { path: to.clone(), source })
    });
    forget(folder, term);
    copied
}

/// Removes what is left of a copy that did not become the journal of `term`.
pub(super) fn forget(folder: &Path, term: u64) {
    let partial = part(&folder.join(name(term)), ".partial");
    PARTS.iter().for_each(|beside| drop(fs::remove_file(part(&partial, beside))));
}

fn part(path: &Path, end: &str) -> PathBuf {
    let mut whole = path.as_os_str().to_owned();
    whole.push(end);
    whole.into()
}

/// Copies `from` with what is beside it, until it stands still meanwhile.
fn still(from: &Path, to: &Path) -> Result<(), JournalError> {
    still_by(from, to, |_| std::thread::sleep(PAUSE))
}

/// [`still`]; `pause` is called after each try that was disturbed.
fn still_by(from: &Path, to: &Path, mut pause: impl FnMut(usize)) -> Result<(), JournalError> {
    let failed = |source| JournalError::Copy { path: from.into(), source };
    for attempt in 1..=TRIES {
        let each = |act: fn(&Path, &Path) -> io::Result<bool>| -> io::Result<bool> {
            PARTS.iter().try_fold(true, |all, end| Ok(all & act(&part(from, end), &part(to, end))?))
        };
        if each(copy_part).map_err(failed)? && each(is_same).map_err(failed)? {
            // Without what is beside it, a database stands still too; where there is none, nothing was copied.
            return fs::metadata(to).map(drop).map_err(failed);
        }
        pause(attempt);
    }
    Err(JournalError::Changing { path: from.into() })
}

/// Where there is no such file, there is none at the other place either; always true.
fn copy_part(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::copy(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::remove_file(to) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(true),
        },
        Err(e) => Err(e),
        Ok(_) => Ok(true),
    }
}

/// Whether both are there with the same bytes, or neither is.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let open = |path: &Path| match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    };
    let (mut one, mut other) = match (open(one)?, open(other)?) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return Ok(one.is_none() && other.is_none()),
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    loop {
        for (file, bytes) in [(&mut one, &mut a), (&mut other, &mut b)] {
            bytes.clear();
            file.take(1 << 20).read_to_end(bytes)?;
        }
        if a != b || a.is_empty() {
            return Ok(a == b);
        }
    }
}

/// Looks at every page and record of a copy of the journal of `term`, whatever was under way in it rolled back.
fn look(folder: &Path, term: u64, copy: &Path) -> Result<(), JournalError> {
    let damaged = |reason: String| damaged(folder, term, reason);
    let sqlite = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull | ErrorCode::OutOfMemory | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen,
        ) => JournalError::Sqlite { path: copy.into(), source: error },
        // The copy is nobody else's and can be written to: what cannot be done to it is its own fault.
        _ => damaged(error.to_string()),
    };
    let connection = Connection::open(copy).map_err(sqlite)?;
    let found = wrong_pages(&connection).map_err(sqlite)?;
    if found != ["ok"] {
        return Err(damaged(found.join("; ").replace('\n', " ")));
    }
    if !holds_run(&connection).map_err(sqlite)? {
        // A coordinator that died as it began leaves such a file, and no link.
        return match fs::symlink_metadata(folder.join(FILE)) {
            Ok(_) => Err(damaged("it holds no run".into())),
            Err(_) => Ok(()),
        };
    }
    let journal = Journal { connection, path: folder.join(name(term)) };
    let records = journal.records().map_err(|error| match error {
        JournalError::Sqlite { source, .. } => damaged(source.to_string()),
        other => other,
    })?;
    let steps = records.iter().filter(|record| matches!(record, Record::Step(_))).count() as u64;
    let number = |sql: &str| {
        journal.connection.query_row(sql, [], |row| row.get::<_, u64>(0)).map_err(|e| damaged(e.to_string()))
    };
    match (number("SELECT coalesce(max(seq), 0) FROM records")?, number("SELECT count(*) FROM steps")?) {
        (last, _) if last != records.len() as u64 => {
            Err(damaged(format!("{} of {last} records are left", records.len())))
        }
        (_, told) if told != steps => Err(damaged(format!("it records {steps} steps and lists {told}"))),
        _ => Ok(()),
    }
}

/// What SQLite finds wrong; `ok` where that is nothing.
fn wrong_pages(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = connection.prepare("PRAGMA quick_check(3)")?;
    let found = check.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    // A header that forbids to write is seen by nothing else.
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
    Ok(found)
}

fn holds_run(connection: &Connection) -> rusqlite::Result<bool> {
    let is_there =
        |sql: &str| connection.query_row(sql, [], |_| Ok(())).optional().map(|found| found.is_some());
    Ok(is_there("SELECT 1 FROM sqlite_master WHERE name = 'run'")? && is_there("SELECT 1 FROM run")?)
}

/// What is wrong with the journal of `term`, and how to go on.
fn damaged(folder: &Path, term: u64, reason: String) -> JournalError {
    let way_out = match newest_below(folder, term) {
        Some(older) => format!(
            "move it away and give --resume again: the run then goes on with {}, and what was committed after that is \
             done again",
            name(older)
        ),
        None => format!(
            "choose another --output; a new run may begin with a checkpoint of {} as its model.path",
            folder.join("checkpoints").display()
        ),
    };
    JournalError::Damaged { path: folder.join(name(term)), reason, way_out }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;

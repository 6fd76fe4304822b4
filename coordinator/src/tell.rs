//! Lines for people and scripts. A reader that went away (`| head -1`) is no failure, where `println!` would panic.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

use crate::failure::Failure;

/// Writes a line to stdout.
///
/// # Errors
/// If it cannot be written although somebody reads: a full disk (1).
pub fn out(text: impl Display) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::other(format!("stdout: {e}"))),
        _ => Ok(()),
    }
}

/// Writes a line to stderr. Nobody is left to be told where that fails.
pub fn err(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

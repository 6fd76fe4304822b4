//! How a command ends when it does not end well: one line for people, one exit code for scripts.

use std::fmt;

/// A command's failure: what to print on stderr, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One line: what, where, what was expected, the way out.
    pub message: String,
    /// 2 wrong input, 75 try again, 1 otherwise.
    pub exit_code: u8,
}

impl Failure {
    /// Wrong input: exit code 2. Line breaks become blanks, so that it stays one line.
    pub fn input(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        let message =
            message.split('\n').map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
        Self { message, exit_code: 2 }
    }

    /// It may succeed when tried again: exit code 75.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), exit_code: 75 }
    }

    /// Anything else: exit code 1.
    pub fn other(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), exit_code: 1 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<judge::Error> for Failure {
    fn from(error: judge::Error) -> Self {
        match error {
            judge::Error::Input(_) => Self::input(error),
            judge::Error::Busy(_) => Self::retry(error),
            judge::Error::File(_) => Self::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn wrong_input_is_told_in_one_line_and_exits_with_2() {
        let failure = Failure::input("hosts.yaml:7:\n  unknown key \"gpu\"\n");
        assert_eq!(failure.message, "hosts.yaml:7: unknown key \"gpu\"");
        assert_eq!(failure.exit_code, 2);
    }
}

//! What happens to the run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use proto::v1::worker_message::Body as Report;
use proto::v1::{Join, Sample, Sampling};

use super::{CheckpointName, CheckpointRecord, Plan, Rank};

/// Who says it, and of which epoch and term it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its rank.
    pub rank: Rank,
    /// Assigned when it joined.
    pub incarnation: u64,
    /// The epoch that the message belongs to.
    pub epoch: u64,
    /// The coordinator's term that it answers.
    pub term: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
        }
    }
}

/// The names of Linux's signals that end workers.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        19 => "SIGSTOP",
        _ => return None,
    })
}

/// What happens to the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A stream's first message.
    Joining {
        /// Names the stream until it has a rank.
        stream: u64,
        /// The rank that it asks for.
        rank: Rank,
        /// What it says of itself.
        join: Join,
    },
    /// A member says something.
    Message {
        /// Who, of which epoch and term.
        sender: Sender,
        /// What.
        body: Report,
    },
    /// A member's stream ended.
    Disconnected {
        /// Whose.
        rank: Rank,
        /// Of which incarnation.
        incarnation: u64,
        /// As the transport has it.
        reason: String,
    },
    /// A process that the launcher started ended, and not because it was to be started anew.
    Exited {
        /// Of which rank.
        rank: Rank,
        /// Its number on its host.
        process: u32,
        /// How.
        exit: Exit,
        /// The end of its log.
        last_lines: Vec<String>,
    },
    /// Answers [`super::Command::Plan`].
    Planned {
        /// The step asked for, counted over all stages.
        step: u64,
        /// The try asked for.
        attempt: u32,
        /// What it does.
        plan: Plan,
    },
    /// Answers [`super::Command::Score`]: rollouts are scored and on disk.
    Scored {
        /// The step asked for.
        step: u64,
        /// The try asked for.
        attempt: u32,
        /// What each rank trains on, or responses to draw again before it.
        plan: Plan,
    },
    /// Answers [`super::Command::PlanEvaluation`].
    EvaluationPlanned {
        /// The epoch that asked.
        epoch: u64,
        /// Each rank's share.
        samples: BTreeMap<Rank, Vec<Sample>>,
        /// How answers are drawn.
        sampling: Sampling,
    },
    /// Answers [`super::Command::ScoreEvaluation`].
    EvaluationScored {
        /// The epoch that asked.
        epoch: u64,
        /// Name to value: srcc, plcc, ….
        metrics: BTreeMap<String, f64>,
    },
    /// Answers [`super::Command::StageCheckpoint`].
    CheckpointStaged {
        /// The epoch that asked.
        epoch: u64,
        /// Exists, empty.
        folder: PathBuf,
    },
    /// Answers [`super::Command::PublishCheckpoint`].
    CheckpointPublished(CheckpointRecord),
    /// Answers [`super::Command::OpenCheckpoint`]: it is whole, and lies here.
    CheckpointOpened {
        /// Which.
        name: CheckpointName,
        /// Its folder.
        folder: PathBuf,
    },
    /// Answers [`super::Command::OpenCheckpoint`]: it cannot be used.
    CheckpointBroken {
        /// Which.
        name: CheckpointName,
    },
    /// The shell could not do what it was asked to.
    Trouble {
        /// What, where, expected, the way out.
        reason: String,
        /// Of the coordinator.
        exit_code: u8,
    },
    /// Another coordinator may speak for the run from now on.
    TermLost {
        /// Who has taken over, or why that cannot be known.
        reason: String,
    },
    /// A person asked the run to stop.
    Interrupted,
    /// A person holds the run, or lets it go on.
    Pause(bool),
}

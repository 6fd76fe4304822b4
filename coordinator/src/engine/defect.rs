//! Ways in which an engine can be wrong: the simulation is held to find each.

/// A deliberate mistake; a run never has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// EP-1: an epoch's number is used again.
    EpochUsedTwice,
    /// EP-2: the last member's readiness is not waited for.
    CommitWithoutOne,
    /// CO-1: a commit is sent before it is on disk.
    CommitBeforeJournal,
    /// ST-1: the journal is not told that commits were voided.
    RestoreUnsaid,
    /// ST-2: a committed step is done once more.
    CommittedRepeated,
    /// ST-2: half of a step that was tried for its own sake is committed as the step.
    ProbeCommitted,
    /// QU-1: a sample is left out that two losses have in common, without having been tried alone.
    QuarantinedUntried,
    /// RC-1: nobody looks what the members of a new epoch hold.
    UnequalGoOn,
    /// RC-2: any member that holds something is a source.
    AnySource,
    /// TM-1: a coordinator does not look whether another took its place.
    FenceIgnored,
    /// LV-1: who is lost for good is waited for.
    WaitForever,
}

//! The moments of a run of five steps on which faults are planned.

/// When something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The run's first world forms.
    Forming,
    /// Responses are drawn.
    Rollout,
    /// An update begins.
    Update,
    /// The first micro-batch's backward pass is done.
    Backward,
    /// Gradients are summed over ranks.
    AllReduce,
    /// StepReady was sent.
    Prepared,
    /// Commit has come.
    Commit,
    /// Half a checkpoint is written.
    Checkpoint,
    /// A world forms again, because the second worker was killed: who survived that has the run's state.
    FormingAgain,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Forming,
        Self::Rollout,
        Self::Update,
        Self::Backward,
        Self::AllReduce,
        Self::Prepared,
        Self::Commit,
        Self::Checkpoint,
        Self::FormingAgain,
    ];

    /// Those to which nothing else has led.
    pub const FIRST: &[Self] = Self::ALL.split_at(8).0;

    /// On whom it is planned: the last rank, or whom it is about.
    #[must_use]
    pub fn rank(self, workers: u32) -> u32 {
        match self {
            // Of copies the first rank writes.
            Self::Checkpoint | Self::FormingAgain => 0,
            _ => workers - 1,
        }
    }

    /// The faults of a recipe by which `action` happens then: the first of them.
    #[must_use]
    pub fn faults(self, workers: u32, action: &str) -> String {
        let own = self.fault(workers, action);
        if self == Self::FormingAgain {
            return format!("faults=[{own}, {{rank: 1, step: 3, phase: backward, do: kill}}]");
        }
        format!("faults=[{own}]")
    }

    /// The faults by which `action` happens at each of the moments, in their order.
    #[must_use]
    pub fn faults_at(moments: &[Self], workers: u32, action: &str) -> String {
        let all: Vec<String> = moments.iter().map(|moment| moment.fault(workers, action)).collect();
        format!("faults=[{}]", all.join(", "))
    }

    fn fault(self, workers: u32, action: &str) -> String {
        let (rank, phase) = (self.rank(workers), self.phase());
        let step = if self == Self::Forming { 1 } else { 3 };
        format!("{{rank: {rank}, step: {step}, phase: {phase}, do: {action}}}")
    }

    fn phase(self) -> &'static str {
        match self {
            Self::Forming | Self::FormingAgain => "forming",
            Self::Rollout => "rollout",
            Self::Update => "update",
            Self::Backward => "backward",
            Self::AllReduce => "all_reduce",
            Self::Prepared => "prepared",
            Self::Commit => "commit",
            Self::Checkpoint => "checkpoint",
        }
    }
}

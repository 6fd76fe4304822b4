//! The states of a run down to their phases, and which follows which.

use super::super::super::state::{Checkpointing, Evaluating, Restoring, State, StepPhase};
use super::*;

/// What a run is at, in two words at most.
pub(super) fn place(engine: &Engine) -> &'static str {
    match &engine.state {
        State::Waiting { lost: None, .. } => "waiting",
        State::Waiting { .. } => "waiting after a loss",
        State::Forming { .. } => "forming",
        State::Restoring(Restoring::Opening(_)) => "opening",
        State::Restoring(Restoring::Loading { .. }) => "restoring",
        State::Restoring(Restoring::Healing { .. }) => "healing",
        State::Staging { .. } => "loading",
        State::Stepping(stepping) => match stepping.phase {
            StepPhase::Planning => "planning",
            StepPhase::Rollout(_) => "rollout",
            StepPhase::Scoring => "scoring",
            StepPhase::Update { .. } => "update",
            StepPhase::Commit { .. } => "commit",
        },
        State::Evaluating { phase, .. } => match phase {
            Evaluating::Planning => "planning questions",
            Evaluating::Answering { .. } => "answering",
            Evaluating::Scoring => "scoring answers",
        },
        State::Checkpointing { phase, .. } => match phase {
            Checkpointing::Staging => "staging",
            Checkpointing::Writing { .. } => "writing",
            Checkpointing::Publishing => "publishing",
        },
        State::Paused => "paused",
        State::Failing(_) => "failing",
        State::Finishing { .. } => "finishing",
        State::Ended(_) => "over",
    }
}

/// From each state: those that follow it in every ten thousand runs, and those that follow it seldom.
pub(super) const FOLLOW: [(&str, &[&str], &[&str]); 21] = [
    ("waiting", &["forming", "finishing", "over"], &["failing"]),
    ("waiting after a loss", &["forming", "failing", "finishing", "over"], &["publishing"]),
    (
        "forming",
        &[
            "waiting after a loss",
            "opening",
            "healing",
            "loading",
            "planning",
            "planning questions",
            "staging",
            "paused",
            "failing",
            "finishing",
            "over",
        ],
        &["waiting", "publishing"],
    ),
    (
        "opening",
        &["restoring", "loading"],
        &["waiting after a loss", "forming", "paused", "failing", "finishing"],
    ),
    (
        "restoring",
        &[
            "waiting after a loss",
            "forming",
            "loading",
            "planning",
            "planning questions",
            "paused",
            "failing",
            "finishing",
        ],
        &[],
    ),
    (
        "healing",
        &[
            "waiting after a loss",
            "forming",
            "planning",
            "planning questions",
            "staging",
            "paused",
            "failing",
            "finishing",
        ],
        &["waiting", "loading", "publishing"],
    ),
    (
        "loading",
        &[
            "waiting after a loss",
            "forming",
            "planning",
            "planning questions",
            "paused",
            "failing",
            "finishing",
        ],
        &["over"],
    ),
    ("planning", &["rollout", "update", "over"], &["staging", "failing", "finishing"]),
    (
        "rollout",
        &["waiting after a loss", "planning", "scoring", "staging", "failing", "finishing"],
        &["forming", "paused"],
    ),
    ("scoring", &["update"], &["staging", "failing", "finishing"]),
    (
        "update",
        &["waiting after a loss", "forming", "planning", "commit", "failing"],
        &["staging", "paused", "finishing", "over"],
    ),
    (
        "commit",
        &[
            "waiting after a loss",
            "forming",
            "planning",
            "planning questions",
            "staging",
            "paused",
            "failing",
            "over",
        ],
        &[],
    ),
    ("planning questions", &["answering", "over"], &["staging", "failing", "finishing"]),
    (
        "answering",
        &["waiting after a loss", "scoring answers", "staging", "failing", "finishing"],
        &["forming"],
    ),
    (
        "scoring answers",
        &[
            "waiting after a loss",
            "forming",
            "loading",
            "planning",
            "planning questions",
            "staging",
            "paused",
            "finishing",
        ],
        &["failing"],
    ),
    ("staging", &["writing"], &["failing", "over"]),
    ("writing", &["waiting after a loss", "publishing", "failing"], &["forming", "finishing", "over"]),
    (
        "publishing",
        &[
            "waiting after a loss",
            "forming",
            "loading",
            "planning",
            "planning questions",
            "paused",
            "failing",
            "finishing",
        ],
        &["over"],
    ),
    (
        "paused",
        &[
            "waiting after a loss",
            "forming",
            "loading",
            "planning",
            "planning questions",
            "staging",
            "failing",
            "finishing",
        ],
        &["over"],
    ),
    ("failing", &["waiting after a loss", "forming", "finishing"], &["waiting", "publishing", "over"]),
    ("finishing", &["over"], &[]),
];

/// Asserts that all that can follow did, and nothing else.
pub(super) fn check(passed: &BTreeMap<(&str, &str), u64>) {
    let often = FOLLOW.iter().flat_map(|(from, often, _)| often.iter().map(move |to| (*from, *to)));
    let missing: Vec<_> = often.filter(|pair| !passed.contains_key(pair)).collect();
    assert!(missing.is_empty(), "never followed: {missing:?}");
    let is_known = |(from, to): &(&str, &str)| {
        FOLLOW
            .iter()
            .any(|(state, often, seldom)| state == from && (often.contains(to) || seldom.contains(to)))
    };
    let unknown: Vec<_> = passed.keys().filter(|pair| !is_known(pair)).collect();
    assert!(unknown.is_empty(), "followed, and is not known to: {unknown:?}");
}

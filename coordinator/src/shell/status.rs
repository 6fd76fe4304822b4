//! What the status call answers.

use std::time::Duration;

use serde_json::{Value, json};
use settings::Run;

use crate::engine::{Activity, Engine, MemberState};

/// The run's state as JSON: verdict, step, stage, members.
pub(super) fn json(engine: &Engine, now: Duration, run: &Run) -> String {
    let verdict = engine.verdict(now);
    let stage = engine.activity().copied().and_then(Activity::stage).and_then(|s| run.stages.get(s));
    let steps: u64 = run.stages.iter().map(|s| s.steps).sum();
    let members: Vec<Value> = engine
        .members()
        .iter()
        .map(|(rank, member)| {
            let (state, reason) = match &member.state {
                MemberState::Ready => ("ready", None),
                MemberState::Active => ("active", None),
                MemberState::Suspect { since } => {
                    ("suspect", Some(format!("not heard for {} s", now.saturating_sub(*since).as_secs())))
                }
                MemberState::Leaving { deadline } => {
                    ("leaving", Some(format!("gone in {} s", deadline.saturating_sub(now).as_secs())))
                }
                MemberState::Dead { reason, .. } => ("dead", Some(reason.clone())),
                MemberState::Left => ("left", None),
            };
            json!({
                "rank": rank, "incarnation": member.incarnation, "host": member.host, "process": member.process,
                "device": member.device, "state": state, "reason": reason, "phase": member.phase,
            })
        })
        .collect();
    let quarantined: Vec<Value> = engine
        .quarantined()
        .iter()
        .map(|found| json!({"sample": found.sample, "step": found.step, "reason": found.reason}))
        .collect();
    let search = engine.search().map(|(step, suspects)| json!({"step": step, "suspects": suspects}));
    json!({
        "run": run.run.name, "state": verdict.state, "reason": verdict.reason,
        "seconds_left": verdict.left.map(|d| d.as_secs()), "epoch": engine.epoch(), "term": engine.term(),
        "step": engine.committed_step(), "steps": steps, "stage": stage.map(|s| s.name.clone()), "members": members,
        "quarantined": quarantined, "search": search,
    })
    .to_string()
}

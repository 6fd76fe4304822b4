//! Held-out questions.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{Evaluate, Evaluated, Sample, Sampling};

use super::state::{Evaluating, State};
use super::stepping::unusable;
use super::{Activity, Command, Engine, EvaluationRecord, EvaluationSet, Moment, Rank, Record};

impl Engine {
    pub(super) fn begin_evaluation(
        &mut self,
        stage: usize,
        set: EvaluationSet,
        moment: Moment,
        out: &mut Vec<Command>,
    ) {
        self.state = State::Evaluating { stage, set, moment, phase: Evaluating::Planning };
        let world = self.world.iter().copied().collect();
        out.push(Command::PlanEvaluation { stage, set, moment, world });
    }

    pub(super) fn on_evaluation_planned(
        &mut self,
        now: Duration,
        mut samples: BTreeMap<Rank, Vec<Sample>>,
        sampling: &Sampling,
        out: &mut Vec<Command>,
    ) {
        let State::Evaluating { phase, .. } = &mut self.state else { return };
        if !matches!(phase, Evaluating::Planning) {
            return;
        }
        let ids = |share: &Vec<Sample>| share.iter().map(|s| s.id.clone()).collect();
        let asked = self.world.iter().map(|r| (*r, samples.get(r).map(ids).unwrap_or_default())).collect();
        *phase = Evaluating::Answering { asked, answers: BTreeMap::new() };
        self.members.restart_progress(now);
        for rank in &self.world {
            let samples = samples.remove(rank).unwrap_or_default();
            let order = Evaluate { step: self.committed_step, samples, sampling: Some(*sampling) };
            self.send(*rank, Order::Evaluate(order), out);
        }
    }

    pub(super) fn on_evaluated(
        &mut self,
        now: Duration,
        rank: Rank,
        done: Evaluated,
        out: &mut Vec<Command>,
    ) {
        let State::Evaluating { stage, set, moment, phase } = &mut self.state else { return };
        let Evaluating::Answering { asked, answers } = phase else { return };
        // Two evaluations may follow each other at one step: an answer belongs where its samples were asked.
        let ids = done.samples.iter().map(|s| &s.sample_id);
        if done.step != self.committed_step || !asked.get(&rank).is_some_and(|asked| asked.iter().eq(ids)) {
            return;
        }
        if let Some(reason) = unusable(&done.samples) {
            return self.fail(now, reason, 2, out);
        }
        answers.entry(rank).or_insert(done.samples);
        if answers.len() == self.world.len() {
            let answers = std::mem::take(answers);
            let (stage, set, moment) = (*stage, *set, *moment);
            *phase = Evaluating::Scoring;
            out.push(Command::ScoreEvaluation { stage, step: self.committed_step, set, moment, answers });
        }
    }

    pub(super) fn on_evaluation_scored(
        &mut self,
        now: Duration,
        metrics: BTreeMap<String, f64>,
        out: &mut Vec<Command>,
    ) {
        let State::Evaluating { stage, set, moment, phase: Evaluating::Scoring } = self.state else { return };
        if moment == Moment::During && metrics.contains_key("early_stop") {
            self.end_stage_here(stage);
        }
        let record = EvaluationRecord { step: self.committed_step, stage, set, moment, metrics };
        out.push(Command::Journal(Record::Evaluation(record)));
        self.advance(now, out);
    }

    /// The stage has no further step (`evaluation.early_stop`).
    fn end_stage_here(&mut self, stage: usize) {
        if let (Some(Activity::Evaluate { done, .. }), Some(spec)) =
            (self.activity, self.spec.stages.get_mut(stage))
        {
            spec.steps = done;
        }
    }
}

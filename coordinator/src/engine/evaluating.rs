//! Held-out questions.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::v1::coordinator_message::Body as Order;
use proto::v1::{Evaluate, Evaluated, Sample, Sampling};

use super::state::{Evaluating, State};
use super::stepping::unusable;
use super::{Command, Engine, EvaluationRecord, EvaluationSet, Moment, Rank, Record};

impl Engine {
    pub(super) fn begin_evaluation(
        &mut self,
        stage: usize,
        number: u64,
        (set, moment): (EvaluationSet, Moment),
        out: &mut Vec<Command>,
    ) {
        self.state = State::Evaluating { stage, number, set, moment, phase: Evaluating::Planning };
        let (epoch, world) = (self.epoch, self.world.iter().copied().collect());
        out.push(Command::PlanEvaluation { epoch, stage, set, moment, world });
    }

    pub(super) fn on_evaluation_planned(
        &mut self,
        now: Duration,
        epoch: u64,
        mut samples: BTreeMap<Rank, Vec<Sample>>,
        sampling: &Sampling,
        out: &mut Vec<Command>,
    ) {
        let State::Evaluating { phase, .. } = &mut self.state else { return };
        if epoch != self.epoch || !matches!(phase, Evaluating::Planning) {
            return;
        }
        let ids = |share: &Vec<Sample>| share.iter().map(|s| s.id.clone()).collect();
        let asked = self.world.iter().map(|r| (*r, samples.get(r).map(ids).unwrap_or_default())).collect();
        *phase = Evaluating::Answering { asked, answers: BTreeMap::new() };
        self.members.restart_progress(now);
        let step = self.committed_step();
        for rank in &self.world {
            let samples = samples.remove(rank).unwrap_or_default();
            let order = Evaluate { step, samples, sampling: Some(*sampling) };
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
        let step = self.committed_step();
        let State::Evaluating { stage, set, moment, phase, .. } = &mut self.state else { return };
        let Evaluating::Answering { asked, answers } = phase else { return };
        // Two evaluations may follow each other at one step: an answer belongs where its samples were asked.
        let ids = done.samples.iter().map(|s| &s.sample_id);
        if done.step != step || !asked.get(&rank).is_some_and(|asked| asked.iter().eq(ids)) {
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
            out.push(Command::ScoreEvaluation { epoch: self.epoch, stage, step, set, moment, answers });
        }
    }

    pub(super) fn on_evaluation_scored(
        &mut self,
        now: Duration,
        epoch: u64,
        metrics: BTreeMap<String, f64>,
        out: &mut Vec<Command>,
    ) {
        let State::Evaluating { stage, number, set, moment, phase: Evaluating::Scoring } = self.state else {
            return;
        };
        if epoch != self.epoch {
            return;
        }
        let step = self.committed_step();
        let stop = moment == Moment::During && metrics.contains_key("early_stop");
        let srcc = metrics.get("srcc").copied().filter(|srcc| srcc.is_finite());
        let srcc = srcc.filter(|_| set == EvaluationSet::Validation);
        let record = EvaluationRecord { step, stage, number, set, moment, stop, srcc, metrics };
        self.journal(Record::Evaluation(record), out);
        self.advance(now, out);
    }
}

//! Progress for people: bars with rates and time left on a terminal, plain lines elsewhere. All on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use settings::Run;

use crate::engine::Verdict;
use crate::report::{EvaluationLine, StepLine};
use crate::tell;
use crate::terms::Clock;

/// Between two plain lines about steps.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two plain lines about the same state.
const VERDICT_EVERY: Duration = Duration::from_secs(5);
/// How fast an older step's time is forgotten in the rate.
const FORGET: f64 = 0.9;

/// What a person sees while the run runs.
pub(super) struct Display {
    stages: Vec<(String, u64)>,
    bar: Option<ProgressBar>,
    clock: Clock,
    told: Option<Duration>,
    /// The last step's numbers, beside the bar.
    numbers: String,
    /// What is being done now, beside the bar.
    doing: String,
    /// Why a worker was refused last: one that tries again and again is told of once.
    refused: String,
    /// The state of the last verdict that was told, and when.
    verdict: Option<(&'static str, Duration)>,
    /// Seconds a step, smoothed.
    pace: Option<f64>,
    interrupted: bool,
}

impl Display {
    pub(super) fn new(run: &Run, clock: Clock) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0).with_style(ProgressStyle::default_spinner());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let stages = run.stages.iter().map(|s| (s.name.clone(), s.steps)).collect();
        Self {
            stages,
            bar,
            clock,
            told: None,
            numbers: String::new(),
            doing: String::new(),
            refused: String::new(),
            verdict: None,
            pace: None,
            interrupted: false,
        }
    }

    /// A line of its own.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell::err(text)),
            None => tell::err(text),
        }
    }

    pub(super) fn refused(&mut self, reason: &str) {
        if self.refused != reason {
            reason.clone_into(&mut self.refused);
            self.say(&format!("refused a worker: {reason}"));
        }
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) {
        match &self.bar {
            Some(_) => {
                // The bar says which stage; what is left is the phase.
                let running = verdict.reason.split(" (stage").next().unwrap_or_default().to_owned();
                self.doing = if verdict.state == "running" { running } else { verdict.to_string() };
                self.show();
            }
            // Steps have lines of their own, and a failure is the program's last word.
            None if matches!(verdict.state, "running" | "failed") => {}
            None => {
                let (state, now) = (verdict.state, self.clock.now());
                let news = self
                    .verdict
                    .is_none_or(|(last, told)| last != state || now.saturating_sub(told) >= VERDICT_EVERY);
                if news {
                    self.verdict = Some((state, now));
                    tell::err(verdict);
                }
            }
        }
    }

    pub(super) fn stage(&mut self, stage: usize) {
        let Some((name, steps)) = self.stages.get(stage).cloned() else { return };
        self.pace = None;
        self.numbers.clear();
        self.say(&format!("stage {name}: {steps} steps"));
        if let Some(bar) = &self.bar {
            let style = "{prefix} {bar:24} {pos}/{len} {msg}";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_length(steps);
            bar.set_position(0);
            bar.set_prefix(name);
        }
    }

    pub(super) fn step(&mut self, line: &StepLine) {
        let pace = self.pace.map_or(line.seconds, |pace| FORGET * pace + (1.0 - FORGET) * line.seconds);
        self.pace = Some(pace);
        let (name, steps) = self.stages.get(line.stage).cloned().unwrap_or_default();
        let left = Duration::from_secs_f64((pace * steps.saturating_sub(line.number) as f64).clamp(0.0, 1e9));
        let numbers = numbers(line);
        if let Some(bar) = &self.bar {
            bar.set_position(line.number);
            self.numbers = format!("{pace:.1} s/step, {} left; {numbers}", spoken(left));
            self.show();
            return;
        }
        let now = self.clock.now();
        let due = self.told.is_none_or(|told| now.saturating_sub(told) >= LINE_EVERY);
        if due || line.number == steps || line.number == 1 {
            self.told = Some(now);
            tell::err(format_args!(
                "stage {name}: step {} of {steps}, {pace:.1} s/step, {} left; {numbers}",
                line.number,
                spoken(left)
            ));
        }
    }

    fn show(&self) {
        if let Some(bar) = &self.bar {
            let parts = [&self.numbers, &self.doing];
            let told: Vec<&str> = parts.into_iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
            bar.set_message(told.join(" | "));
        }
    }

    pub(super) fn evaluation(&self, line: &EvaluationLine) {
        let known = ["srcc", "plcc", "format", "reward", "kind_accuracy"];
        let told = known.iter().filter_map(|n| line.metrics.get(*n).map(|v| format!("{n} {v:.3}")));
        let told: Vec<String> = told.collect();
        self.say(&format!(
            "evaluation after step {}: {} on {} {} samples ({:.1} s)",
            line.step,
            told.join(", "),
            line.samples,
            line.set,
            line.seconds
        ));
    }

    /// A signal came: whether it is the second.
    pub(super) fn interrupted(&mut self) -> bool {
        if !self.interrupted {
            self.say("stopping: the step is finished or dropped, weights go to disk; a second signal stops at once");
        }
        std::mem::replace(&mut self.interrupted, true)
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn numbers(line: &StepLine) -> String {
    let mut told = vec![format!("loss {:.4}", line.loss)];
    let known = ["reward", "format", "kl"];
    told.extend(known.iter().filter_map(|n| line.metrics.get(*n).map(|v| format!("{n} {v:.3}"))));
    told.push(format!("grad {:.2}", line.grad_norm));
    if line.skipped {
        told.push("skipped: not finite".into());
    }
    told.join(", ")
}

/// A duration as people say it.
fn spoken(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..=99 => format!("{s} s"),
        s @ 100..=5999 => format!("{} min", s / 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

//! Where a setting comes from, for messages.

use crate::check::Finding;
use crate::error::Problem;
use crate::position::{Path, line_of};

/// The recipe's text and what was laid over it.
pub(crate) struct Origins<'a> {
    /// The file's name as messages have it.
    pub(crate) file: &'a str,
    /// Its text.
    pub(crate) text: &'a str,
    /// Every `--set`, in order: the place and the argument.
    pub(crate) overrides: Vec<(Path, &'a str)>,
}

impl Origins<'_> {
    /// The problem that a finding is, at the setting that brings it about: a stage's own before the base
    /// section's, `--set` before the file, else the nearest place around it.
    pub(crate) fn problem(&self, finding: &Finding) -> Problem {
        let mut around = finding.path.clone();
        loop {
            for path in [&around, &around.base()] {
                if let Some(at) = self.at(path) {
                    return Problem { at, text: finding.text.clone() };
                }
            }
            if around.0.pop().is_none() {
                return Problem { at: self.file.into(), text: finding.text.clone() };
            }
        }
    }

    fn at(&self, path: &Path) -> Option<String> {
        let sets = |(set, _): &&(Path, &str)| path.0.starts_with(&set.0);
        if path.0.is_empty() {
            return None;
        }
        match self.overrides.iter().rev().find(sets) {
            Some((_, argument)) => Some(format!("--set {argument}")),
            None => line_of(self.text, path).map(|line| format!("{}:{line}", self.file)),
        }
    }

    /// The problems that the findings are, each said once.
    pub(crate) fn problems(&self, findings: &[Finding]) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Vec::new();
        for finding in findings {
            let problem = self.problem(finding);
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        problems
    }
}

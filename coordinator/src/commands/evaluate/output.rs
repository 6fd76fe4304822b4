//! What is printed: numbers of each data set and their unweighted means, as JSON or as a table.

use std::collections::BTreeMap;

use eval::{Bootstrap, Breakdown, Fit, Interval, Paired, Report, plcc, srcc};
use serde::Serialize;

use super::set::Set;

/// What is printed; null where a correlation is undefined. Of several data sets the numbers at the top are their
/// unweighted means, and counts are sums.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Output {
    pub(super) srcc: Option<f64>,
    pub(super) plcc: Option<f64>,
    pub(super) krcc: Option<f64>,
    pub(super) rmse: Option<f64>,
    pub(super) matched: usize,
    pub(super) missing: usize,
    pub(super) distinct_scores: usize,
    /// Of a single data set; else the mean of those that converged.
    pub(super) fit: Fitted,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) srcc_interval: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plcc_interval: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) breakdown: Option<Breakdown>,
    /// Of several predictions of one picture, mean over pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spread: Option<f64>,
    /// Against another run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) against: Option<Against>,
    /// Each of several data sets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) sets: BTreeMap<String, Output>,
}

/// A fit, or the mean over several.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Fitted {
    One(Fit),
    Mean { plcc: Option<f64>, failed_sets: usize },
}

/// This run's numbers less the other's, over the samples that both predict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Against {
    /// Samples.
    pub(super) samples: usize,
    pub(super) srcc: Option<Difference>,
    pub(super) plcc: Option<Difference>,
}

/// A difference with its interval from paired resampling.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    pub(super) difference: f64,
    #[serde(flatten)]
    pub(super) interval: Option<Interval>,
}

impl Output {
    pub(super) fn of(sets: &[Set], bootstrap: Option<&Bootstrap>) -> Self {
        let mut each: Vec<(String, Self)> =
            sets.iter().map(|set| (set.name.clone(), Self::of_one(set, bootstrap))).collect();
        if each.len() == 1 {
            return each.remove(0).1;
        }
        let mean = |value: fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = each.iter().filter_map(|(_, output)| value(output)).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let fitted = |output: &Self| match output.fit {
            Fitted::One(Fit::Fitted { plcc, .. }) => Some(plcc),
            _ => None,
        };
        let sum = |count: fn(&Self) -> usize| each.iter().map(|(_, output)| count(output)).sum();
        Self {
            srcc: mean(|o| o.srcc),
            plcc: mean(|o| o.plcc),
            krcc: mean(|o| o.krcc),
            rmse: mean(|o| o.rmse),
            matched: sum(|o| o.matched),
            missing: sum(|o| o.missing),
            distinct_scores: sum(|o| o.distinct_scores),
            fit: Fitted::Mean {
                plcc: mean(fitted),
                failed_sets: each.iter().filter(|(_, output)| fitted(output).is_none()).count(),
            },
            srcc_interval: None,
            plcc_interval: None,
            breakdown: None,
            spread: None,
            against: None,
            sets: each.into_iter().collect(),
        }
    }

    fn of_one(set: &Set, bootstrap: Option<&Bootstrap>) -> Self {
        let report = Report::of(&set.pairs(), bootstrap);
        let Report { n, srcc, plcc, krcc, rmse, distinct_scores, fit, srcc_interval, plcc_interval } = report;
        let breakdown = Breakdown::of(&set.items);
        let broken_down = breakdown.within_reference.references > 0 || !breakdown.kinds.is_empty();
        Self {
            srcc,
            plcc,
            krcc,
            rmse,
            matched: n,
            missing: set.missing(),
            distinct_scores,
            fit: Fitted::One(fit),
            srcc_interval,
            plcc_interval,
            breakdown: broken_down.then_some(breakdown),
            spread: set.spread,
            against: (!set.paired.is_empty()).then(|| Against::of(&set.paired, bootstrap)),
            sets: BTreeMap::new(),
        }
    }

    pub(super) fn table(&self) -> String {
        let number = |v: Option<f64>| {
            v.map_or("undefined: fewer than two pairs, or all alike".into(), |v| format!("{v:.4}"))
        };
        let with = |v: Option<f64>, interval: &Option<Interval>| match interval {
            Some(Interval { low, high, .. }) => format!("{}  [{low:.4}, {high:.4}]", number(v)),
            None => number(v),
        };
        let fitted = match &self.fit {
            Fitted::One(Fit::Fitted { plcc, .. }) => format!("{plcc:.4}"),
            Fitted::One(Fit::Failed { failed }) => format!("failed: {failed}"),
            Fitted::Mean { plcc, failed_sets: 0 } => number(*plcc),
            Fitted::Mean { plcc, failed_sets } => format!("{} (failed for {failed_sets})", number(*plcc)),
        };
        let mut rows = vec![
            ("srcc".to_owned(), with(self.srcc, &self.srcc_interval)),
            ("plcc".into(), with(self.plcc, &self.plcc_interval)),
            ("plcc, fitted".into(), fitted),
            ("krcc".into(), number(self.krcc)),
            ("rmse".into(), number(self.rmse)),
            ("matched".into(), self.matched.to_string()),
            ("missing".into(), self.missing.to_string()),
            ("distinct scores".into(), self.distinct_scores.to_string()),
        ];
        rows.extend(self.spread.map(|spread| ("spread".to_owned(), format!("{spread:.4}"))));
        for (name, difference) in self.against.iter().flat_map(|a| [("srcc", a.srcc), ("plcc", a.plcc)]) {
            if let Some(d) = difference {
                rows.push((format!("{name}, against"), d.text()));
            }
        }
        if let Some(breakdown) = &self.breakdown {
            let within = &breakdown.within_reference;
            if within.references > 0 {
                let value = format!("{} over {} references", number(within.srcc), within.references);
                rows.push(("srcc within".into(), value));
            }
            let part = |of: &str, (key, part): (&u8, &eval::Part)| {
                (format!("srcc, {of} {key}"), format!("{:.4} of {}", part.srcc, part.n))
            };
            rows.extend(breakdown.kinds.iter().map(|entry| part("type", entry)));
            rows.extend(breakdown.levels.iter().map(|entry| part("level", entry)));
        }
        let mut text = rows.iter().map(|(name, value)| format!("{name:<16}{value}")).collect::<Vec<_>>();
        for (name, set) in &self.sets {
            text.push(format!("\n{name}\n{}", set.table()));
        }
        text.join("\n")
    }
}

impl Against {
    fn of(paired: &[Paired], bootstrap: Option<&Bootstrap>) -> Self {
        let difference = |statistic: fn(&[eval::Pair]) -> Option<f64>| {
            let of = |model: fn(&Paired) -> f64| {
                let pairs: Vec<eval::Pair> =
                    paired.iter().map(|p| eval::Pair { prediction: model(p), label: p.label }).collect();
                statistic(&pairs)
            };
            Some(Difference {
                difference: of(|p| p.first)? - of(|p| p.second)?,
                interval: bootstrap.and_then(|b| b.difference(paired, statistic)),
            })
        };
        Self { samples: paired.len(), srcc: difference(srcc), plcc: difference(plcc) }
    }
}

impl Difference {
    fn text(&self) -> String {
        match &self.interval {
            Some(Interval { low, high, .. }) => format!("{:+.4}  [{low:+.4}, {high:+.4}]", self.difference),
            None => format!("{:+.4}", self.difference),
        }
    }
}

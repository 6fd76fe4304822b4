//! Everything about one set of pairs, or about each of several.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::{Bootstrap, Interval};
use crate::correlation::{Pair, plcc, rmse, srcc};
use crate::kendall::krcc;
use crate::logistic::{FitFailure, Logistic};

/// Agreement over a set of pairs. What is undefined is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Pairs.
    pub n: usize,
    /// Spearman's rank correlation.
    pub srcc: Option<f64>,
    /// Pearson's correlation.
    pub plcc: Option<f64>,
    /// Kendall's τ-b.
    pub krcc: Option<f64>,
    /// Root mean squared error, MOS units.
    pub rmse: Option<f64>,
    /// PLCC after the four-parameter logistic fit, or why there is none.
    pub fit: Fit,
    /// Different predicted values.
    pub distinct_scores: usize,
    /// Interval of the SRCC, where asked for and defined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srcc_interval: Option<Interval>,
    /// Interval of the PLCC, where asked for and defined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plcc_interval: Option<Interval>,
}

/// PLCC after the usual fit; a failed fit is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", untagged)]
pub enum Fit {
    /// The fit converged.
    Fitted {
        /// Pearson's correlation of f(prediction) with the label.
        plcc: f64,
        /// β1 to β4.
        beta: [f64; 4],
    },
    /// It did not.
    Failed {
        /// In a sentence.
        failed: String,
    },
}

impl Fit {
    fn of(pairs: &[Pair]) -> Self {
        let fitted = Logistic::fit(pairs).and_then(|curve| {
            let mapped: Vec<Pair> =
                pairs.iter().map(|p| Pair { prediction: curve.at(p.prediction), ..*p }).collect();
            Ok(Self::Fitted { plcc: plcc(&mapped).ok_or(FitFailure::Flat)?, beta: curve.beta })
        });
        fitted.unwrap_or_else(|failure| Self::Failed { failed: failure.to_string() })
    }
}

impl Report {
    /// The report on a set of pairs, with intervals where a bootstrap is given.
    #[must_use]
    pub fn of(pairs: &[Pair], bootstrap: Option<&Bootstrap>) -> Self {
        let mut scores: Vec<f64> = pairs.iter().map(|p| p.prediction).collect();
        scores.sort_by(f64::total_cmp);
        scores.dedup();
        Self {
            n: pairs.len(),
            srcc: srcc(pairs),
            plcc: plcc(pairs),
            krcc: krcc(pairs),
            rmse: rmse(pairs),
            fit: Fit::of(pairs),
            distinct_scores: scores.len(),
            srcc_interval: bootstrap.and_then(|b| b.interval(pairs, srcc)),
            plcc_interval: bootstrap.and_then(|b| b.interval(pairs, plcc)),
        }
    }
}

/// A report for every key (data set, distortion type, level, reference picture, …).
#[must_use]
pub fn by_key<K: Ord>(
    pairs: impl IntoIterator<Item = (K, Pair)>,
    bootstrap: Option<&Bootstrap>,
) -> BTreeMap<K, Report> {
    let mut groups: BTreeMap<K, Vec<Pair>> = BTreeMap::new();
    for (key, pair) in pairs {
        groups.entry(key).or_default().push(pair);
    }
    groups.into_iter().map(|(key, pairs)| (key, Report::of(&pairs, bootstrap))).collect()
}

/// Unweighted means over reports, e.g. over data sets; an undefined correlation is left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Means {
    /// Mean SRCC; `None` if none is defined.
    pub srcc: Option<f64>,
    /// Mean PLCC.
    pub plcc: Option<f64>,
    /// Reports whose SRCC or PLCC is undefined.
    pub undefined: usize,
}

impl Means {
    /// Each report counts once, however many pairs it has.
    #[must_use]
    pub fn of<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Self {
        let reports: Vec<&Report> = reports.into_iter().collect();
        let mean = |value: fn(&Report) -> Option<f64>| {
            let values: Vec<f64> = reports.iter().filter_map(|r| value(r)).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let undefined = reports.iter().filter(|r| r.srcc.is_none() || r.plcc.is_none()).count();
        Self { srcc: mean(|r| r.srcc), plcc: mean(|r| r.plcc), undefined }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::tests::{example, pairs};

    #[test]
    fn a_report_writes_its_numbers_and_a_failed_fit_its_reason() {
        let report = Report::of(&pairs(&[1.0, 2.0, 2.0], &[1.0, 2.0, 3.0]), None);
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["n"], 3);
        assert_eq!(json["distinct_scores"], 2);
        assert_eq!(json["fit"]["failed"], "3 pairs are too few for four parameters: expected at least 5");
        assert!(json.get("srcc_interval").is_none());
        assert!((report.srcc.expect("an order") - 0.75f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_constant_prediction_has_no_correlation_but_an_error() {
        let report =
            Report::of(&pairs(&[3.0; 6], &[1.0, 2.0, 3.0, 4.0, 5.0, 3.0]), Some(&Bootstrap::default()));
        assert_eq!((report.srcc, report.plcc, report.krcc), (None, None, None));
        assert!((report.rmse.expect("pairs") - (10.0f64 / 6.0).sqrt()).abs() < 1e-12);
        assert_eq!(report.fit, Fit::Failed { failed: "all predictions or all labels are equal".into() });
        assert_eq!(report.srcc_interval, None);
    }

    #[test]
    fn intervals_surround_their_statistic() {
        let report = Report::of(&example(), Some(&Bootstrap::default()));
        let (srcc, interval) = (report.srcc.expect("srcc"), report.srcc_interval.expect("an interval"));
        assert!(interval.low < srcc && srcc < interval.high, "{interval:?} {srcc}");
    }

    #[test]
    fn every_key_has_its_own_report_and_counts_once_in_the_mean() {
        let all = [
            ("blur", 1.0, 1.0),
            ("noise", 2.0, 3.0),
            ("blur", 2.0, 2.0),
            ("noise", 3.0, 1.0),
            ("jpeg", 1.0, 1.0),
        ];
        let reports = by_key(all.map(|(key, prediction, label)| (key, Pair { prediction, label })), None);
        assert_eq!(reports.keys().copied().collect::<Vec<_>>(), ["blur", "jpeg", "noise"]);
        assert_eq!(reports["blur"].srcc, Some(1.0));
        assert_eq!(reports["noise"].srcc, Some(-1.0));
        let means = Means::of(reports.values());
        assert_eq!((means.srcc, means.undefined), (Some(0.0), 1));
    }
}

//! Agreement by what was done to a picture, how much of it, and within an original (docs/method.md section 10).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::correlation::{Pair, plcc, srcc};

/// A pair, and what is known of its picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Prediction and label.
    pub pair: Pair,
    /// The distortion's type and level, as KADID-10k numbers them.
    pub distortion: Option<(u8, u8)>,
    /// The undistorted original.
    pub reference: String,
}

/// SRCC over parts of a set; what is undefined is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Breakdown {
    /// By type of distortion.
    pub kinds: BTreeMap<u8, Part>,
    /// By level, 1 (hardly visible) to 5.
    pub levels: BTreeMap<u8, Part>,
    /// Unweighted mean over originals of the agreement among the pictures of each.
    pub within_reference: Within,
}

/// Agreement over one part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Pairs.
    pub n: usize,
    /// Spearman's rank correlation.
    pub srcc: f64,
}

/// Agreement within originals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Within {
    /// Originals that have one, of three pictures or more.
    pub references: usize,
    /// Mean of Spearman's rank correlation over them.
    pub srcc: Option<f64>,
    /// Mean of Pearson's correlation over them.
    pub plcc: Option<f64>,
}

/// Pictures of an original below which an order among them says nothing.
const LEAST: usize = 3;

impl Breakdown {
    /// Over the items of one data set.
    #[must_use]
    pub fn of(items: &[Item]) -> Self {
        let by = |key: fn(&(u8, u8)) -> u8| {
            let mut parts: BTreeMap<u8, Vec<Pair>> = BTreeMap::new();
            for item in items {
                if let Some(distortion) = &item.distortion {
                    parts.entry(key(distortion)).or_default().push(item.pair);
                }
            }
            let part =
                |(key, pairs): (u8, Vec<Pair>)| Some((key, Part { n: pairs.len(), srcc: srcc(&pairs)? }));
            parts.into_iter().filter_map(part).collect()
        };
        Self { kinds: by(|d| d.0), levels: by(|d| d.1), within_reference: Within::of(items) }
    }
}

impl Within {
    fn of(items: &[Item]) -> Self {
        let mut originals: BTreeMap<&str, Vec<Pair>> = BTreeMap::new();
        for item in items {
            originals.entry(&item.reference).or_default().push(item.pair);
        }
        originals.retain(|_, pairs| pairs.len() >= LEAST);
        let mean = |statistic: fn(&[Pair]) -> Option<f64>| {
            let values: Vec<f64> = originals.values().filter_map(|pairs| statistic(pairs)).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let references = originals.values().filter(|pairs| srcc(pairs).is_some()).count();
        Self { references, srcc: mean(srcc), plcc: mean(plcc) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(reference: &str, kind: u8, level: u8, prediction: f64, label: f64) -> Item {
        Item {
            pair: Pair { prediction, label },
            distortion: Some((kind, level)),
            reference: reference.into(),
        }
    }

    #[test]
    fn every_type_level_and_original_has_its_own_order() {
        let items = [
            item("a", 1, 1, 1.0, 1.0),
            item("a", 1, 2, 2.0, 2.0),
            item("a", 2, 3, 3.0, 3.0),
            item("b", 2, 1, 3.0, 1.0),
            item("b", 2, 2, 2.0, 2.0),
            item("b", 1, 3, 1.0, 3.0),
            item("c", 3, 1, 1.0, 1.0),
        ];
        let breakdown = Breakdown::of(&items);
        assert_eq!(breakdown.within_reference, Within { references: 2, srcc: Some(0.0), plcc: Some(0.0) });
        assert_eq!(breakdown.kinds.keys().copied().collect::<Vec<_>>(), [1, 2], "one pair has no order");
        assert_eq!(breakdown.kinds[&2], Part { n: 3, srcc: srcc_of([3.0, 3.0, 2.0], [3.0, 1.0, 2.0]) });
        // At level 1 all labels are 1, at level 3 all are 3: no order.
        assert!(breakdown.levels.is_empty(), "{:?}", breakdown.levels);
    }

    fn srcc_of<const N: usize>(predictions: [f64; N], labels: [f64; N]) -> f64 {
        let pairs: Vec<Pair> =
            predictions.iter().zip(labels).map(|(&prediction, label)| Pair { prediction, label }).collect();
        srcc(&pairs).expect("an order")
    }
}
